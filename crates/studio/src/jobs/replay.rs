//! Forcing a recipe's tokens through the model: each answer in its run, under the plans that it had, and by the unsteered
//! model.

use crate::failure::Failure;
use crate::generation::{ColumnKind, REREADING};
use crate::links::LinkEvent;
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::Watch;
use trimtab_engine::SteeringPlan;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::forced::{Forced, ForcedRequest};
use trimtab_engine::reading::Reading;
use trimtab_persona::calibration::Calibration;
use trimtab_persona::recipe::Recipe;
use trimtab_persona::recipe::replay::{Prepared, Replayed, ReplayedAnswer, prepare};
use trimtab_persona::trait_vector::TraitVector;

/// Replays every answer. `vectors` are the recipe's, in its order; the engine reads `directions`, which may be others, and of
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
    let (runs, same_prompts) = prepare(recipe, &session.chat, vectors, rows)?;
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
        answers.push(replay.answer(run).await?);
        replay.done += read;
    }
    Ok(Replayed::of(answers, recipe, look, same_prompts))
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
    async fn answer(&mut self, run: Prepared) -> Result<ReplayedAnswer, Failure> {
        let conversation = &run.conversation;
        let request = ForcedRequest {
            sequence: ColumnKind::Steered.sequence(),
            tokens: &conversation.tokens,
            prompt_length: conversation.prompt_length,
            segments: &run.segments,
            sampler: run.sampler,
        };
        let mut forced = Forced::start(&mut self.session.engine, &request).await?;
        while forced.next(&mut self.session.engine).await? {
            self.step(forced.done()).await?;
        }
        let records = forced.finish(&self.session.engine);
        let request = ReadRequest {
            sequence: REREADING,
            tokens: &conversation.tokens,
            prompt_length: conversation.prompt_length,
            plan: &SteeringPlan::default(),
            score: Scoring::Everything,
            capture: false,
        };
        let mut reading = Reading::start(&mut self.session.engine, &request).await?;
        while reading.next(&mut self.session.engine).await? {
            self.step(conversation.tokens.len() + reading.done())
                .await?;
        }
        let reread = reading.finish(&self.session.engine).records;
        let end_tokens = self.session.end_tokens();
        Ok(run.conclude(&records, &reread, &self.calibrations, &end_tokens))
    }

    async fn step(&mut self, under_way: usize) -> Result<(), Failure> {
        self.watch.tell(Event::Link(LinkEvent::Replay {
            done: self.done + under_way,
            total: self.total,
        }));
        match self.watch.pause().await.stop {
            true => Err(Failure::usage("stopped, as you asked")),
            false => Ok(()),
        }
    }
}
