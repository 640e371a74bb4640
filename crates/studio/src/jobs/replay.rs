//! Forcing a recipe's tokens through the model: each answer in its run, under the plans that it had, and by the unsteered
//! model.

use crate::failure::Failure;
use crate::generation::{ColumnKind, REREADING};
use crate::jobs::reading::read;
use crate::links::LinkEvent;
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::{Halt, Watch};
use trimtab_engine::SteeringPlan;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::forced::{Forced, ForcedRequest};
use trimtab_persona::calibration::Calibration;
use trimtab_persona::recipe::Recipe;
use trimtab_persona::recipe::replay::{
    Named, Prepared, Replayed, ReplayedAnswer, adapters_of, prepare,
};
use trimtab_persona::trait_vector::TraitVector;

/// Replays every answer, in both columns where there are two. `vectors` are the recipe's, in its order; the engine reads `directions`, which may be others, and of
/// which the recipe looks at number `look`.
pub async fn run(
    session: &mut Session,
    recipe: &Recipe,
    vectors: &[TraitVector],
    directions: &[TraitVector],
    look: Option<usize>,
    watch: &mut dyn Watch,
) -> Result<Replayed, Failure> {
    let rows = session.engine.layer_rows();
    let adapters = adapters_of(recipe, &session.adapters())?;
    let named = Named {
        vectors,
        adapters: &adapters,
    };
    let (mut runs, same_prompts) = prepare(recipe, &session.chat, named, rows)?;
    let first = runs.len();
    let other = recipe.other_column();
    if let Some(other) = &other {
        runs.extend(prepare(other, &session.chat, named, rows)?.0);
    }
    let tokens = |run: &Prepared| 2 * run.conversation.tokens.len();
    let mut replay = Replay {
        calibrations: directions
            .iter()
            .map(|vector| vector.calibration.as_ref())
            .collect(),
        session,
        total: runs.iter().map(tokens).sum(),
        done: 0,
        watch,
    };
    let mut answers = Vec::with_capacity(runs.len());
    for run in runs {
        let read = tokens(&run);
        let answer = replay.answer(run).await;
        answers.push(answer.map_err(|halt| halt.failure(""))?);
        replay.done += read;
    }
    let beside = answers.split_off(first);
    let replayed = Replayed::of(answers, recipe, look, same_prompts);
    Ok(match &other {
        Some(other) => replayed.with(beside, other, look),
        None => replayed,
    })
}

struct Replay<'a> {
    session: &'a mut Session,
    calibrations: Vec<Option<&'a Calibration>>,
    watch: &'a mut dyn Watch,
    /// Tokens of whole answers, each counted twice.
    done: usize,
    total: usize,
}

impl Replay<'_> {
    async fn answer(&mut self, run: Prepared) -> Result<ReplayedAnswer, Halt> {
        let conversation = &run.conversation;
        let request = ForcedRequest {
            sequence: ColumnKind::Steered.sequence(),
            tokens: &conversation.tokens,
            prompt_length: conversation.prompt_length,
            segments: &run.segments,
            sampler: run.sampler,
        };
        let (before, total) = (self.done, self.total);
        let event = |under_way: usize| {
            let done = before + under_way;
            Event::Link(LinkEvent::Replay { done, total })
        };
        let engine = &mut self.session.engine;
        let mut forced = Forced::start(engine, &request).await?;
        while forced.next(engine).await? {
            self.watch.tell(event(forced.done()));
            self.watch.go_on().await?;
        }
        let records = forced.finish(engine);
        let request = ReadRequest {
            sequence: REREADING,
            tokens: &conversation.tokens,
            prompt_length: conversation.prompt_length,
            plan: &SteeringPlan::default(),
            score: Scoring::Everything,
            capture: false,
        };
        let forced = conversation.tokens.len();
        let event = |done: usize| event(forced + done);
        let reread = read(engine, &request, &event, self.watch).await?.records;
        let end_tokens = self.session.end_tokens();
        Ok(run.conclude(&records, &reread, &self.calibrations, &end_tokens))
    }
}
