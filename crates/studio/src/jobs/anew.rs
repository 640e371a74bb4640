//! A vector made anew from a tuned model: the same conversations are read in both models, and each has a mean difference of its own.

use crate::failure::Failure;
use crate::jobs::reading::averages_under;
use crate::reading::ReadingEvent;
use crate::session::Session;
use crate::watch::Watch;
use trimtab_engine::{SequenceIndex, SteeringPlan};
use trimtab_persona::contrast::{ContrastPair, examples};
use trimtab_persona::extract::{DifferenceSums, lengths};
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::vector_move::VectorMove;

/// The two models' sequences: each keeps what its prompts have in common.
const BASE: SequenceIndex = SequenceIndex(0);
const TUNED: SequenceIndex = SequenceIndex(1);

impl Session {
    /// How the mean difference of `pairs` in the model under `plan` lies to that of the base model, by layer.
    ///
    /// # Errors
    /// A plan that changes nothing or names what is not here, conversations of one side only, or fewer than two of a side; a stop.
    pub async fn extract_anew(
        &mut self,
        pairs: Vec<ContrastPair>,
        plan: &[NamedTerm],
        watch: &mut dyn Watch,
    ) -> Result<VectorMove, Failure> {
        let plan = self.plan(plan)?;
        if plan.is_empty() {
            return Err(Failure::usage(
                "name an adapter or a push: the base model's vector is its own",
            ));
        }
        let examples = examples(pairs, &self.chat)?;
        let lengths = lengths(&examples, &self.end_tokens())?;
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        let sums = || DifferenceSums::new(rows, width);
        let (mut base, mut tuned, mut halves) = (sums(), sums(), [sums(), sums()]);
        let mut seen = [0_usize; 2];
        let total = 2 * examples.len();
        for (at, (example, &length)) in examples.iter().zip(&lengths).enumerate() {
            let (tokens, prompt) = (&example.tokens[..length], example.prompt_length);
            let number = &mut seen[example.side as usize];
            for (model, sequence, plan) in [(0, BASE, &SteeringPlan::default()), (1, TUNED, &plan)]
            {
                watch.tell(ReadingEvent::conversations(2 * at + model, total));
                let read = averages_under(&mut self.engine, (sequence, plan), tokens, prompt);
                let read = read.await?;
                match model {
                    0 => {
                        base.add(example.side, &read);
                        halves[*number % 2].add(example.side, &read);
                    }
                    _ => tuned.add(example.side, &read),
                }
                let stopped = watch.go_on().await;
                stopped.map_err(|halt| halt.failure("; begin it again whenever you like"))?;
            }
            *number += 1;
        }
        if seen.iter().any(|count| *count < 2) {
            return Err(Failure::usage(
                "a vector is made of at least two conversations of each side",
            ));
        }
        let [first, second] = halves.map(DifferenceSums::finish);
        let (base, tuned) = (base.finish()?, tuned.finish()?);
        let halves = (first?, second?);
        Ok(VectorMove::between(
            &base.response_avg,
            &tuned.response_avg,
            (&halves.0.response_avg, &halves.1.response_avg),
            base.counts,
        ))
    }
}
