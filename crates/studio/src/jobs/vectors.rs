//! Making vectors of a judged contrast set: what was not read of its responses is read, then every layer is estimated, then
//! the vectors are calibrated on the neutral answers.

use crate::failure::Failure;
use crate::jobs::averages::read_response;
use crate::jobs::reading::calibration;
use crate::making::{MakingEvent, MakingPhase};
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::{Halt, Pace, Watch};
use trimtab_persona::activations::Averages;
use trimtab_persona::contrast::MIN_RESPONSE_TOKENS;
use trimtab_persona::contrast_record::{ContrastRecord, ResponseStanding, Thresholds};
use trimtab_persona::vector_making::{Ingredients, MadeVector, sort, tables};

/// Averages that were read of the responses stay with the session, so that other thresholds read nothing again; also where this is
/// stopped or fails.
pub async fn make(
    session: &mut Session,
    record: &ContrastRecord,
    thresholds: Thresholds,
    watch: &mut dyn Watch,
) -> Result<MadeVector, Failure> {
    // Thresholds that leave too little are refused while what was read is still where it is kept.
    let kept = sort(record, &thresholds)?;
    let mut averages = session.averages.take(record);
    let making = Making {
        session,
        record,
        pace: Pace::new(watch.seconds(), 0),
        done: 0,
        watch,
    };
    let outcome = making.all(thresholds, kept, &mut averages).await;
    session.averages.keep(record, averages);
    outcome.map_err(|halt| {
        halt.failure("; the responses and what was read of them are kept. Go on whenever you like")
    })
}

struct Making<'a> {
    session: &'a mut Session,
    record: &'a ContrastRecord,
    watch: &'a mut dyn Watch,
    pace: Pace,
    /// Responses read, layers estimated, and the calibration.
    done: usize,
}

impl Making<'_> {
    async fn all(
        mut self,
        thresholds: Thresholds,
        kept: Vec<ResponseStanding>,
        averages: &mut Vec<Option<Averages>>,
    ) -> Result<MadeVector, Halt> {
        let record = self.record;
        let layer_rows = self.session.engine.layer_rows();
        let long = |at: &usize| {
            let response = record.responses[*at].as_ref();
            response.is_some_and(|one| one.ids.len() >= MIN_RESPONSE_TOKENS)
        };
        let unread: Vec<usize> = (0..record.responses.len())
            .filter(|at| averages[*at].is_none() && long(at))
            .collect();
        let total = unread.len() + layer_rows + 1;
        for at in unread {
            let Session { engine, chat, .. } = &mut *self.session;
            averages[at] = Some(read_response(engine, chat, record, at).await?);
            self.step(total).await?;
        }
        let ingredients = Ingredients {
            record,
            thresholds,
            kept,
            averages,
            width: self.session.engine.config().hidden_size,
        };
        let mut layers = Vec::with_capacity(layer_rows);
        for layer in 0..layer_rows {
            layers.push(ingredients.estimate(layer));
            self.step(total).await?;
        }
        let tables = tables(&layers, ingredients.width).map_err(Failure::from)?;
        let conversations = record.neutral.conversations(&self.session.chat)?;
        let engine = &mut self.session.engine;
        let statistics = calibration(engine, &conversations, &tables, None, self.watch).await?;
        self.step(total).await?;
        Ok(ingredients.finish(&layers, tables, &statistics))
    }

    async fn step(&mut self, total: usize) -> Result<(), Halt> {
        self.done += 1;
        let now = self.watch.seconds();
        self.watch.tell(Event::Making(MakingEvent::Progress {
            phase: MakingPhase::Vector,
            done: self.done,
            total,
            seconds_left: self.pace.seconds_left(now, self.done, total),
        }));
        self.watch.go_on().await
    }
}
