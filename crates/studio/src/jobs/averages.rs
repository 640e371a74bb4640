//! Averages of the residual stream over the responses of a contrast set. Reading them all takes minutes, so they are kept
//! with the session from one verb to the next.

use crate::failure::Failure;
use crate::jobs::reading;
use crate::session::Session;
use crate::studies::{StudyEvent, StudyPhase};
use crate::verbs::Event;
use crate::watch::{Halt, Watch};
use trimtab_engine::Engine;
use trimtab_persona::activations::Averages;
use trimtab_persona::contrast_record::{ContrastRecord, ResponseStanding, Thresholds};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::extract::{Example, lengths};
use trimtab_persona::trait_vector::sha256;
use trimtab_persona::vector_making::sort;

/// Averages of one contrast set, so that other thresholds read nothing again.
#[derive(Debug, Default)]
pub struct KnownAverages {
    /// sha256 of everything that was written.
    of: String,
    averages: Vec<Option<Averages>>,
}

impl KnownAverages {
    pub fn take(&mut self, record: &ContrastRecord) -> Vec<Option<Averages>> {
        let mut averages = if self.of == fingerprint(record) {
            std::mem::take(&mut self.averages)
        } else {
            Vec::new()
        };
        averages.resize(record.responses.len(), None);
        averages
    }

    pub fn keep(&mut self, record: &ContrastRecord, averages: Vec<Option<Averages>>) {
        self.of = fingerprint(record);
        self.averages = averages;
    }
}

/// The same for records whose responses are the same tokens to the same prompts by the same model.
fn fingerprint(record: &ContrastRecord) -> String {
    let ids: Vec<_> = record
        .responses
        .iter()
        .map(|response| response.as_ref().map(|one| &one.ids))
        .collect();
    let all = (&record.model_sha256, &record.pack, &record.settings, ids);
    serde_json::to_vec(&all).map_or_else(|_| String::new(), |bytes| sha256(&bytes))
}

/// Averages of the residual stream while response `at` is read.
pub async fn read_response(
    engine: &mut Engine,
    chat: &ChatText,
    record: &ContrastRecord,
    at: usize,
) -> Result<Averages, Failure> {
    let conversation = record.conversation(chat, at)?;
    let length = conversation.prompt_length;
    Ok(reading::averages(engine, &conversation.tokens, length).await?)
}

/// By response, the averages of all that count under `thresholds`. What was read stays with the session, also when this is
/// stopped or fails.
pub async fn averages_of(
    session: &mut Session,
    record: &ContrastRecord,
    thresholds: &Thresholds,
    watch: &mut dyn Watch,
) -> Result<Vec<Option<Averages>>, Failure> {
    let kept = sort(record, thresholds)?;
    let mut averages = session.averages.take(record);
    let outcome = read_missing(session, record, (&kept, &mut averages), watch).await;
    match outcome {
        Ok(()) => Ok(averages),
        Err(halt) => {
            session.averages.keep(record, averages);
            Err(halt.failure(", before the first push; go on whenever you like"))
        }
    }
}

async fn read_missing(
    session: &mut Session,
    record: &ContrastRecord,
    (kept, averages): (&[ResponseStanding], &mut [Option<Averages>]),
    watch: &mut dyn Watch,
) -> Result<(), Halt> {
    let missing: Vec<usize> = (0..kept.len())
        .filter(|&at| kept[at] == ResponseStanding::Kept && averages[at].is_none())
        .collect();
    for (done, &at) in missing.iter().enumerate() {
        watch.tell(reading_event(done, missing.len()));
        let read = read_response(&mut session.engine, &session.chat, record, at).await?;
        averages[at] = Some(read);
        watch.go_on().await?;
    }
    Ok(())
}

/// Averages of conversations that somebody else wrote, in their order.
pub async fn read_examples(
    session: &mut Session,
    examples: &[Example],
    watch: &mut dyn Watch,
) -> Result<Vec<Averages>, Failure> {
    let lengths = lengths(examples, &session.end_tokens())?;
    let mut averages = Vec::with_capacity(examples.len());
    for (example, length) in examples.iter().zip(lengths) {
        watch.tell(reading_event(averages.len(), examples.len()));
        let tokens = &example.tokens[..length];
        let read = reading::averages(&mut session.engine, tokens, example.prompt_length).await?;
        averages.push(read);
        let stopped = watch.go_on().await;
        stopped.map_err(|halt| halt.failure(", before the first push; go on whenever you like"))?;
    }
    Ok(averages)
}

fn reading_event(done: usize, total: usize) -> Event {
    Event::Study(StudyEvent::Progress {
        phase: StudyPhase::Reading,
        done,
        total,
        seconds_left: None,
    })
}
