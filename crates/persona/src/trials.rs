//! Trials: the same questions answered under one plan or system prompt after another, each answer measured by the
//! unsteered model. What sweeps, controls and predictions are made of.

use crate::answers::AnswerSettings;
use crate::coherence::distinct_n;
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
}

#[derive(Clone, Debug)]
pub struct TrialSetup {
    pub trials: Vec<Trial>,
    pub questions: Vec<String>,
    pub pairs: Vec<InstructionPair>,
    pub answers: AnswerSettings,
    /// Index of the engine's direction that is read at the last prompt token.
    pub direction: Option<usize>,
}

impl TrialSetup {
    /// Equal for setups whose records are interchangeable, whoever made them: the same model, and the same plans, system
    /// prompts, questions and measurements. `reading` is the hash of the direction that is read.
    pub fn key(&self, model_sha256: &str, reading: Option<&str>) -> String {
        let trials: Vec<_> = self
            .trials
            .iter()
            .map(|trial| {
                let terms = trial.plan.terms.iter();
                let plan: Vec<_> = terms
                    .map(|term| {
                        let vector = tensor_hash(&term.vector);
                        (vector, &term.layers, term.operation, term.scope)
                    })
                    .collect();
                let Trial {
                    system,
                    sample,
                    pairs,
                    divergence,
                    ..
                } = trial;
                (plan, system, sample, pairs, divergence)
            })
            .collect();
        let Self {
            questions,
            pairs,
            answers,
            direction,
            ..
        } = self;
        let all = (
            model_sha256,
            trials,
            questions,
            pairs,
            answers,
            direction,
            reading,
        );
        sha256(&serde_json::to_vec(&all).unwrap_or_default())
    }
}

/// One answer and what was measured of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TrialAnswer {
    /// The end token left out.
    pub ids: Vec<u32>,
    pub text: String,
    /// Mean log-likelihood under the unsteered model after the same prompt, nats a token; `None` for an
    /// empty answer.
    pub logprob: Option<f64>,
    /// Mean KL(steered‖unsteered) of the next-token distributions along the answer, nats.
    pub divergence: Option<f64>,
    /// Trait evidence, `log p(answer | positive) − log p(answer | negative)`, nats a token, the mean over the trial's pairs.
    /// `None` until measured.
    pub evidence: Option<f64>,
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

    /// True if there is nothing left to measure.
    pub fn is_measured(&self, pairs: &[usize]) -> bool {
        self.evidence.is_some() || self.ids.is_empty() || pairs.is_empty()
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
    /// Progress of `records`; `writing` counts the tokens of answers that are being written.
    pub fn of(setup: &TrialSetup, records: &TrialRecords, writing: usize) -> Self {
        let length = setup.answers.max_tokens;
        let mut progress = Self {
            passes_done: writing,
            ..Self::default()
        };
        for (trial, row) in setup.trials.iter().zip(records) {
            let cost = match (trial.plan.terms.is_empty(), trial.divergence) {
                (true, _) => 0,
                (false, false) => length,
                (false, true) => 2 * length,
            };
            let (write, measure) = (length + cost, 2 * trial.pairs.len() * length);
            for answer in row {
                progress.answers += 1;
                progress.passes_total += write + measure;
                if let Some(answer) = answer {
                    progress.written += 1;
                    progress.passes_done += write;
                    if answer.is_measured(&trial.pairs) {
                        progress.measured += 1;
                        progress.passes_done += measure;
                    }
                }
            }
        }
        progress
    }
}
