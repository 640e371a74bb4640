//! What the residual stream held in the responses that made a vector: shuffled labels are made of it.

use super::findings::{Phase, StudyEvent};
use crate::failure::Failure;
use crate::making::tell;
use crate::model::Model;
use crate::trimtab::Trimtab;
use js_sys::Function;
use trimtab_persona::activations::{Average, Averages};
use trimtab_persona::contrast_record::{ContrastRecord, Kept, Thresholds};
use trimtab_persona::control::LabelledMean;
use trimtab_persona::making::read_response;
use trimtab_persona::vector_making::sort;

/// Reads what is not known of the responses that made the vector; what was read stays with the model, also when this is
/// stopped or fails.
pub async fn read_kept(
    owner: &Trimtab,
    model: &mut Model,
    record: &ContrastRecord,
    thresholds: &Thresholds,
    listener: &Function,
) -> Result<(), Failure> {
    let kept = sort(record, thresholds)?;
    let mut averages = model.averages.take(record);
    averages.resize(kept.len(), None);
    let outcome = read_missing(owner, model, record, (&kept, &mut averages), listener).await;
    model.averages.keep(record, averages);
    outcome
}

async fn read_missing(
    owner: &Trimtab,
    model: &mut Model,
    record: &ContrastRecord,
    (kept, averages): (&[Kept], &mut [Option<Averages>]),
    listener: &Function,
) -> Result<(), Failure> {
    let missing: Vec<usize> = (0..kept.len())
        .filter(|&at| kept[at] == Kept::Kept && averages[at].is_none())
        .collect();
    for (done, &at) in missing.iter().enumerate() {
        let event = StudyEvent::Progress {
            phase: Phase::Reading,
            done,
            total: missing.len(),
            seconds_left: None,
        };
        tell(listener, &event);
        averages[at] = Some(read_response(&mut model.engine, &model.text, record, at).await?);
        if owner.pause().await.stop {
            return Err(Failure::usage(
                "stopped, as you asked, before the first push; go on whenever you like",
            ));
        }
    }
    Ok(())
}

/// The response-averaged residuals that made the vector, with their labels.
pub fn means_of<'a>(
    record: &ContrastRecord,
    thresholds: &Thresholds,
    averages: &'a [Option<Averages>],
) -> Result<Vec<LabelledMean<'a>>, Failure> {
    let kept = sort(record, thresholds)?;
    let made_it = kept.iter().zip(averages).enumerate();
    Ok(made_it
        .filter(|(_, (kept, _))| **kept == Kept::Kept)
        .filter_map(|(at, (_, averages))| {
            let place = record.settings.place(at);
            Some(LabelledMean {
                side: place.side,
                question: place.question,
                values: averages.as_ref()?.table(Average::Response),
            })
        })
        .collect())
}
