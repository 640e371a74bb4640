//! A run of columns that is stopped, once in each of its stages, on the default checkpoint.

use crate::{CHAT, CPU_FAST};
use std::sync::MutexGuard;
use trimtab_engine::generate::EndReason;
use trimtab_engine::{Engine, Operation, Sampler, Scope, SteeringPlan, TokenId};
use trimtab_persona::columns::{
    ColumnEvent, ColumnKind, ColumnOutcome, ColumnRequest, ColumnRun, ColumnSettings,
};
use trimtab_persona::conversation::message;
use trimtab_persona::plan::{NamedTerm, resolve};
use trimtab_persona::vector_file::VectorFile;
use trimtab_testing::files::bytes;

const TOKENS: usize = 6;

struct Fixture {
    engine: MutexGuard<'static, Engine>,
    plan: SteeringPlan,
}

impl Fixture {
    fn open() -> Self {
        let engine = CPU_FAST.take();
        let file = bytes("models/vectors/cheerful.safetensors");
        let (rows, width) = (engine.layer_rows(), engine.config().hidden_size);
        let vector = VectorFile::parse(&file)
            .unwrap()
            .into_vector("cheerful", None, rows, width)
            .unwrap();
        let term = NamedTerm {
            vector: "cheerful".to_owned(),
            operation: Operation::Add { coefficient: 2.0 },
            layers: None,
            scope: Scope::All,
        };
        let plan = resolve(&[term], &[vector], rows).unwrap();
        Self { engine, plan }
    }

    /// Stops once after each event that `stops_at` names.
    fn run(
        &mut self,
        mut stops_at: impl FnMut(&ColumnEvent) -> bool,
    ) -> (Vec<ColumnOutcome>, usize) {
        let conversation = CHAT
            .prompt(&[message("user", "Tell me a story about the sea and a ship.")])
            .unwrap();
        let kinds = [ColumnKind::Unsteered, ColumnKind::Steered];
        let requests = kinds.map(|kind| ColumnRequest {
            kind,
            conversation: conversation.clone(),
            plan: self.plan.clone(),
        });
        let ends = self.engine.config().end_tokens.iter().copied();
        let settings = ColumnSettings {
            sampler: Sampler::GREEDY,
            max_tokens: TOKENS,
            end_tokens: ends.map(TokenId).collect(),
            calibrations: Vec::new(),
        };
        let mut run = ColumnRun::new(requests.into(), settings);
        let mut rereadings = 0;
        while let Some(event) = pollster::block_on(run.next(&mut self.engine)).unwrap() {
            rereadings += usize::from(matches!(event, ColumnEvent::Rereading { .. }));
            if stops_at(&event) {
                run.stop();
            }
        }
        (run.finish(), rereadings)
    }
}

fn answers(outcomes: &[ColumnOutcome]) -> Vec<usize> {
    let length = |outcome: &ColumnOutcome| {
        outcome.conversation.tokens.len() - outcome.conversation.prompt_length
    };
    outcomes.iter().map(length).collect()
}

fn reread(outcome: &ColumnOutcome) -> usize {
    let known = outcome.reread_logprobs.iter();
    known.filter(|logprob| !logprob.is_nan()).count()
}

#[test]
fn a_stop_ends_what_runs_and_another_one_the_re_reading() {
    let mut fixture = Fixture::open();

    // While the prompt is read: nothing is written, and nothing is read again.
    let (outcomes, rereadings) = fixture.run(|event| matches!(event, ColumnEvent::Prompt { .. }));
    assert_eq!(answers(&outcomes), [0, 0]);
    assert_eq!(rereadings, 0);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.reason == EndReason::Stopped)
    );
    assert_eq!(reread(&outcomes[1]), 0);

    // While an answer is written: it is still re-read.
    let mut tokens = 0;
    let (outcomes, _) = fixture.run(|event| {
        tokens += usize::from(matches!(event, ColumnEvent::Token { .. }));
        tokens == 4 && matches!(event, ColumnEvent::Token { .. })
    });
    assert_eq!(answers(&outcomes), [2, 2]);
    let steered = &outcomes[1];
    assert_eq!(reread(steered), steered.conversation.tokens.len() - 1);

    // Twice: what was written stays, and its re-reading ends where it is.
    let mut tokens = 0;
    let (outcomes, rereadings) = fixture.run(|event| {
        tokens += usize::from(matches!(event, ColumnEvent::Token { .. }));
        matches!(event, ColumnEvent::Token { .. }) && tokens >= 4
            || matches!(event, ColumnEvent::End { .. })
    });
    assert_eq!(answers(&outcomes), [2, 2]);
    assert_eq!(rereadings, 0);
    assert_eq!(
        outcomes[1].reread_logprobs.len(),
        outcomes[1].conversation.tokens.len()
    );
}
