//! Trials: the same questions answered under one plan or system prompt after another, each answer measured by the
//! unsteered model. What sweeps, controls and predictions are made of.

use crate::answers::AnswerSettings;
use crate::coherence::{ContextLikelihoods, distinct_n};
use crate::conversation::token_ids;
use crate::trait_pack::InstructionPair;
use crate::trait_vector::{sha256, tensor_hash};
use serde::{Deserialize, Serialize};
use trimtab_engine::{SteeringPlan, TokenId};

/// Room for a trait pack's system prompt, question and the template, in tokens.
pub const PROMPT_TOKENS: usize = 1_024;

/// Settings by which one set of answers is made and measured.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    pub plan: SteeringPlan,
    /// System prompt in place of the template's own.
    pub system: Option<String>,
    /// Number of one of several answers to the same question: another seed. Trials with the same number share
    /// their noise, so that they differ by the plan alone.
    pub sample: usize,
    /// Indices into [`TrialSetup::pairs`]: the instruction pairs that evidence is the mean over.
    pub pairs: Vec<usize>,
    /// True if KL(steered‖unsteered) is to be measured, where the engine can.
    pub divergence: bool,
    /// True if the third witness is to be asked, see [`TrialSetup::choice`].
    pub choice: bool,
}

#[derive(Clone, Debug)]
pub struct TrialSetup {
    pub trials: Vec<Trial>,
    pub questions: Vec<String>,
    pub pairs: Vec<InstructionPair>,
    pub answers: AnswerSettings,
    /// Words for the trait and its opposite that the third witness chooses between.
    pub choice: Option<[String; 2]>,
    /// Index of the engine's direction that is read at the last prompt token.
    pub direction: Option<usize>,
}

impl TrialSetup {
    /// Key of each trial's answers, equal wherever they are interchangeable, whoever made them: the same model, plan, system
    /// prompt, questions and measurements. Answers that several studies need are so made once. `reading` is the hash of the
    /// direction that is read.
    pub fn keys(&self, model_sha256: &str, reading: Option<&str>) -> Vec<String> {
        self.trials
            .iter()
            .map(|trial| self.key(trial, model_sha256, reading))
            .collect()
    }

    fn key(&self, trial: &Trial, model_sha256: &str, reading: Option<&str>) -> String {
        let terms = trial.plan.terms.iter();
        let plan: Vec<_> = terms
            .map(|term| {
                let vector = tensor_hash(&term.vector);
                (vector, &term.layers, term.operation, term.scope)
            })
            .collect();
        let pairs: Vec<_> = trial
            .pairs
            .iter()
            .map(|&pair| self.pairs.get(pair))
            .collect();
        let choice = self.choice.as_ref().filter(|_| trial.choice);
        let measured = (&pairs, trial.divergence, choice, self.direction, reading);
        let written = (model_sha256, plan, &trial.system, trial.sample);
        let adapters = trial.plan.adapters.iter();
        let adapters: Vec<_> = adapters
            .map(|term| (term.adapter.hash(), term.scale.to_bits()))
            .collect();
        let all = (written, &self.questions, &self.answers, measured);
        // As before there were adapters, so that answers that were kept then are found.
        let bytes = match adapters.is_empty() {
            true => serde_json::to_vec(&all),
            false => serde_json::to_vec(&(all, adapters)),
        };
        sha256(&bytes.unwrap_or_default())
    }
}

/// One answer and what was measured of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TrialAnswer {
    /// The end token left out.
    pub ids: Vec<u32>,
    pub text: String,
    /// Under the unsteered model; `usual` is after the trial's own prompt. `None` for an empty answer, and until measured.
    pub likelihoods: ContextLikelihoods,
    /// Mean KL(steered‖unsteered) of the next-token distributions along the answer, nats.
    pub divergence: Option<f64>,
    /// Log-odds with which the third witness chooses the trait's word, nats; `None` until asked.
    pub choice: Option<f64>,
    /// Reading of the last prompt token at each layer, `[L+1]`, where it was asked for.
    pub prompt_reading: Vec<f32>,
}

impl TrialAnswer {
    pub fn tokens(&self) -> Vec<TokenId> {
        token_ids(&self.ids)
    }

    /// distinct-1, -2 and -3.
    pub fn distinct(&self) -> [f64; 3] {
        let tokens = self.tokens();
        [1, 2, 3].map(|n| distinct_n(&tokens, n))
    }

    /// Trait evidence, nats a token: the difference of mean log-likelihoods under the trial's pairs. `None` until measured.
    pub fn evidence(&self) -> Option<f64> {
        Some(self.likelihoods.positive? - self.likelihoods.negative?)
    }

    /// True if there is nothing left to measure.
    pub fn is_measured(&self, trial: &Trial) -> bool {
        let judged = trial.pairs.is_empty() || self.evidence().is_some();
        let asked = !trial.choice || self.choice.is_some();
        self.ids.is_empty() || (judged && asked)
    }
}

/// `[trial][question]`
pub type TrialRecords = Vec<Vec<Option<TrialAnswer>>>;

/// Work in token passes through the model, roughly: for time left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialProgress {
    pub written: usize,
    pub measured: usize,
    pub answers: usize,
    pub passes_done: usize,
    pub passes_total: usize,
}

impl TrialProgress {
    /// Progress of the trials of `records` that are `made` at all; `writing` counts the tokens of answers that are being
    /// written.
    pub fn of(
        setup: &TrialSetup,
        records: &TrialRecords,
        writing: usize,
        made: impl Fn(usize) -> bool,
    ) -> Self {
        let length = setup.answers.max_tokens;
        let mut progress = Self {
            passes_done: writing,
            ..Self::default()
        };
        let trials = setup.trials.iter().zip(records).enumerate();
        for (_, (trial, row)) in trials.filter(|(number, _)| made(*number)) {
            let cost = match (trial.plan.is_empty(), trial.divergence) {
                (true, _) => 0,
                (false, false) => length,
                (false, true) => 2 * length,
            };
            // Reading it alone costs as much as one instruction, each order of the choice twice as much.
            let readings = 2 * trial.pairs.len() + 1 + 4 * usize::from(trial.choice);
            let (write, measure) = (length + cost, readings * length);
            for answer in row {
                progress.answers += 1;
                progress.passes_total += write + measure;
                if let Some(answer) = answer {
                    progress.written += 1;
                    progress.passes_done += write;
                    if answer.is_measured(trial) {
                        progress.measured += 1;
                        progress.passes_done += measure;
                    }
                }
            }
        }
        progress
    }
}
