//! Running a study's trials: progress in answers, and records to go on from when the page is closed in the middle.

use super::findings::{Phase, StudyEvent};
use crate::failure::Failure;
use crate::making::tell;
use crate::model::Model;
use crate::trimtab::Trimtab;
use js_sys::{Date, Function, Uint8Array};
use serde::{Deserialize, Serialize};
use trimtab_persona::trials::{TrialEvent, TrialProgress, TrialRecords, TrialSetup, Trials};

/// What is done is handed over for storage at least so often, in milliseconds.
const RECORDS_MS: f64 = 5_000.0;
/// The time left is told anew at least so often, in milliseconds.
const PROGRESS_MS: f64 = 1_000.0;
/// Larger ones are not read: a thorough sweep's have a few megabytes.
const MAX_RECORDS_BYTES: usize = 64 << 20;

/// What a study is, and what an earlier run of it left behind.
pub struct Study {
    pub setup: TrialSetup,
    /// Model, vectors and settings that the trials were made of, see [`TrialSetup::key`].
    pub made_of: Vec<String>,
    /// From an earlier [`StudyEvent::Records`].
    pub records: Option<Vec<u8>>,
}

/// Runs trials to their end; a stop is a failure that says how far they are. `told` hears of every trial whose answers
/// are all written, and again as they are measured.
pub async fn run(
    owner: &Trimtab,
    model: &mut Model,
    study: Study,
    listener: &Function,
    told: &dyn Fn(&TrialRecords, usize),
) -> Result<TrialRecords, Failure> {
    let Study {
        setup,
        made_of,
        records,
    } = study;
    let key = setup.key(&made_of);
    let kept = records.and_then(|bytes| read_records(&bytes, &key));
    let mut trials = match kept.map(|kept| Trials::new(setup.clone(), Some(kept))) {
        Some(Ok(trials)) => trials,
        _ => Trials::new(setup, None)?,
    };
    for trial in 0..trials.records().len() {
        tell_written(&trials, trial, told);
    }
    let outcome = drive(owner, model, &mut trials, &key, listener, told).await;
    let TrialProgress {
        written,
        measured,
        answers,
        ..
    } = trials.progress();
    if measured < answers {
        // Nothing that was done is lost with a stop or a failure.
        tell_records(&trials, &key, listener);
    }
    outcome?;
    if measured < answers {
        return Err(Failure::usage(format!(
            "stopped, as you asked: {written} of {answers} answers are written, {measured} of them measured. They are kept; go on whenever you like"
        )));
    }
    Ok(trials.records().clone())
}

async fn drive(
    owner: &Trimtab,
    model: &mut Model,
    trials: &mut Trials,
    key: &str,
    listener: &Function,
    told: &dyn Fn(&TrialRecords, usize),
) -> Result<(), Failure> {
    let mut clock = Clock::new(trials.progress());
    clock.tell(trials.progress(), listener);
    let mut kept = Date::now();
    while let Some(event) = trials.next(&mut model.engine, &model.text).await? {
        if let TrialEvent::Written { trial, .. } | TrialEvent::Measured { trial, .. } = event {
            tell_written(trials, trial, told);
            if Date::now() - kept > RECORDS_MS {
                kept = Date::now();
                tell_records(trials, key, listener);
            }
        }
        clock.tell(trials.progress(), listener);
        if owner.pause().await.stop {
            break;
        }
    }
    Ok(())
}

fn tell_written(trials: &Trials, trial: usize, told: &dyn Fn(&TrialRecords, usize)) {
    if trials.records()[trial].iter().all(Option::is_some) {
        told(trials.records(), trial);
    }
}

/// What the page has heard of progress, and how fast it is.
struct Clock {
    began: f64,
    /// Token passes of an earlier run: no measure of this one's speed.
    passes_before: usize,
    told: Option<(Phase, usize)>,
    told_at: f64,
}

impl Clock {
    fn new(progress: TrialProgress) -> Self {
        Self {
            began: Date::now(),
            passes_before: progress.passes_done,
            told: None,
            told_at: 0.0,
        }
    }

    fn tell(&mut self, progress: TrialProgress, listener: &Function) {
        let (phase, done) = phase_of(progress);
        let now = Date::now();
        if self.told == Some((phase, done)) && now - self.told_at < PROGRESS_MS {
            return;
        }
        self.told = Some((phase, done));
        self.told_at = now;
        let passes = progress.passes_done.saturating_sub(self.passes_before) as f64;
        let left = progress.passes_total.saturating_sub(progress.passes_done) as f64;
        let event = StudyEvent::Progress {
            phase,
            done,
            total: progress.answers,
            seconds_left: (passes > 0.0).then(|| (now - self.began) / 1_000.0 / passes * left),
        };
        tell(listener, &event);
    }
}

/// All answers are written before the first is measured.
fn phase_of(progress: TrialProgress) -> (Phase, usize) {
    if progress.written < progress.answers {
        (Phase::Writing, progress.written)
    } else {
        (Phase::Measuring, progress.measured)
    }
}

#[derive(Serialize)]
struct Keeping<'a> {
    key: &'a str,
    records: &'a TrialRecords,
}

#[derive(Deserialize)]
struct Kept {
    key: String,
    records: TrialRecords,
}

fn write_records(records: &TrialRecords, key: &str) -> Option<Vec<u8>> {
    serde_json::to_vec(&Keeping { key, records }).ok()
}

/// `None` for what another study left, or something else: this one then begins from nothing.
fn read_records(bytes: &[u8], key: &str) -> Option<TrialRecords> {
    if bytes.len() > MAX_RECORDS_BYTES {
        return None;
    }
    let kept: Kept = serde_json::from_slice(bytes).ok()?;
    (kept.key == key).then_some(kept.records)
}

fn tell_records(trials: &Trials, key: &str, listener: &Function) {
    if let Some(bytes) = write_records(trials.records(), key) {
        let records = Uint8Array::from(bytes.as_slice());
        tell(listener, &StudyEvent::Records { records });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trimtab_persona::trials::TrialAnswer;

    #[test]
    fn records_come_back_to_the_study_that_left_them_and_to_no_other() {
        let answer = TrialAnswer {
            ids: vec![1, 2],
            text: "Ahoy".into(),
            logprob: Some(-1.5),
            divergence: None,
            evidence: None,
            prompt_reading: vec![0.5],
        };
        let records: TrialRecords = vec![vec![Some(answer), None]];
        let bytes = write_records(&records, "this").unwrap();
        assert_eq!(read_records(&bytes, "this"), Some(records));
        assert_eq!(read_records(&bytes, "other"), None);
        assert_eq!(read_records(b"<html>", "this"), None);
    }

    #[test]
    fn progress_counts_answers_written_and_then_answers_measured() {
        let at = |written, measured| TrialProgress {
            written,
            measured,
            answers: 8,
            ..TrialProgress::default()
        };
        assert_eq!(phase_of(at(3, 0)), (Phase::Writing, 3));
        assert_eq!(phase_of(at(8, 5)), (Phase::Measuring, 5));
    }
}
