//! Records that a study leaves behind to be gone on with: the same bytes wherever they were made, so that the program goes on from
//! what the page left, and the other way round.

use serde::{Deserialize, Serialize};
use trimtab_persona::trials::{TrialRecords, TrialSetup};

/// Larger ones are not read: a thorough sweep's have a few megabytes.
pub const MAX_RECORDS_BYTES: usize = 64 << 20;

#[derive(Serialize)]
struct Writing<'a> {
    key: &'a str,
    records: &'a TrialRecords,
}

#[derive(Deserialize)]
struct Written {
    key: String,
    records: TrialRecords,
}

/// The records of the study with that key; `None` where they cannot be written.
pub fn write(records: &TrialRecords, key: &str) -> Option<Vec<u8>> {
    serde_json::to_vec(&Writing { key, records }).ok()
}

/// `None` for what another study left, and for anything else.
pub fn read(bytes: &[u8], key: &str, setup: &TrialSetup) -> Option<TrialRecords> {
    if bytes.len() > MAX_RECORDS_BYTES {
        return None;
    }
    let written: Written = serde_json::from_slice(bytes).ok()?;
    let (trials, questions) = (setup.trials.len(), setup.questions.len());
    let records = written.records;
    let fits = records.len() == trials && records.iter().all(|row| row.len() == questions);
    (written.key == key && fits).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trimtab_persona::trials::{Trial, TrialAnswer};

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
        let mut setup = TrialSetup {
            trials: vec![Trial::default()],
            questions: vec!["Who?".into(), "What?".into()],
            pairs: Vec::new(),
            answers: Default::default(),
            direction: None,
        };
        let records: TrialRecords = vec![vec![Some(answer), None]];
        let bytes = write(&records, "this").unwrap();
        assert_eq!(read(&bytes, "this", &setup), Some(records));
        assert_eq!(read(&bytes, "other", &setup), None);
        assert_eq!(read(b"<html>", "this", &setup), None);
        setup.questions.pop();
        assert_eq!(read(&bytes, "this", &setup), None);
    }
}
