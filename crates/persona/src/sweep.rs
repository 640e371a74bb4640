//! A small sweep over layers and doses: what a vector does to the model's own evidence for its
//! trait, and what it costs.

use crate::answers::{AnswerSettings, write_answers};
use crate::conversation::{ChatText, TokenisedConversation, message};
use crate::evidence::{EvidenceError, distinct_2, evidence};
use crate::reread::reread;
use crate::trait_pack::TraitPack;
use serde::Serialize;
use trimtab_engine::{
    Engine, Layer, LayerTable, Operation, Scope, SequenceIndex, SteeringPlan, Term, TokenId,
};

/// What to try.
#[derive(Clone, Debug)]
pub struct Sweep<'a> {
    pub pack: &'a TraitPack,
    pub vector: &'a LayerTable,
    /// Evaluation questions to ask, from the first on.
    pub questions: usize,
    /// Instruction pairs that evidence is measured with.
    pub pairs: Vec<usize>,
    pub settings: AnswerSettings,
}

/// One setting and what came of it, means over the questions.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRow {
    pub layers: Vec<u32>,
    pub coefficient: f32,
    /// Nats a token, see [`evidence`].
    pub evidence: f64,
    /// Standard deviation over the questions.
    pub evidence_deviation: f64,
    /// Mean negative log-likelihood a token under the unsteered model.
    pub nll: f64,
    pub distinct_2: f64,
    /// In the order of the questions.
    pub texts: Vec<String>,
}

impl Sweep<'_> {
    /// How many sequences the engine needs.
    pub fn sequences(&self) -> usize {
        self.questions + 2 * self.pairs.len() + 1
    }

    /// Adds `coefficient` times the vector at `layers` to all tokens of answers to the questions,
    /// and measures. Coefficient 0 is the unsteered model.
    pub async fn row(
        &self,
        engine: &mut Engine,
        chat: &ChatText,
        layers: &[Layer],
        coefficient: f32,
    ) -> Result<SweepRow, EvidenceError> {
        let questions: Vec<&String> = self
            .pack
            .questions
            .evaluation
            .iter()
            .take(self.questions)
            .collect();
        let prompts = questions
            .iter()
            .map(|question| chat.prompt(&[message("user", question)]))
            .collect::<Result<Vec<TokenisedConversation>, _>>()?;
        let term = Term {
            vector: self.vector.clone(),
            layers: layers.to_vec(),
            operation: Operation::Add { coefficient },
            scope: Scope::All,
        };
        let plan = SteeringPlan { terms: vec![term] };
        let numbers: Vec<usize> = (0..prompts.len()).collect();
        let answers = write_answers(
            engine,
            &prompts,
            &numbers,
            &plan,
            &self.settings,
            &mut |_| {},
        )
        .await?;
        let mut measures: Vec<[f64; 3]> = Vec::new();
        for ((question, prompt), answer) in questions.iter().zip(prompts).zip(&answers) {
            if answer.is_empty() {
                continue;
            }
            let first = SequenceIndex(self.questions as u32);
            let found = evidence(
                engine,
                chat,
                self.pack,
                &self.pairs,
                first,
                question,
                answer,
            )
            .await?;
            let nll = self.unsteered_nll(engine, prompt, answer).await?;
            measures.push([found, nll, distinct_2(answer)]);
        }
        let count = measures.len().max(1) as f64;
        let mean = |index: usize| measures.iter().map(|values| values[index]).sum::<f64>() / count;
        let squares: f64 = measures
            .iter()
            .map(|values| (values[0] - mean(0)).powi(2))
            .sum();
        Ok(SweepRow {
            layers: layers.iter().map(|layer| layer.0).collect(),
            coefficient,
            evidence: mean(0),
            evidence_deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
            nll: mean(1),
            distinct_2: mean(2),
            texts: answers.iter().map(|answer| chat.decode(answer)).collect(),
        })
    }

    async fn unsteered_nll(
        &self,
        engine: &mut Engine,
        prompt: TokenisedConversation,
        answer: &[TokenId],
    ) -> Result<f64, EvidenceError> {
        let length = prompt.tokens.len();
        let tokens = prompt.answered(answer).tokens;
        let sequence = SequenceIndex((self.sequences() - 1) as u32);
        let read = reread(engine, sequence, &tokens, length, &mut |_, _| {}).await?;
        let logprobs = read.logprobs.iter().skip(length);
        Ok(-logprobs.map(|&logprob| f64::from(logprob)).sum::<f64>() / answer.len() as f64)
    }
}
