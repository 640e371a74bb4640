//! Records that a study leaves behind to be gone on with: the same bytes wherever they were made, so that the program goes on from
//! what the page left, and the other way round. Answers lie by the key of their trial, so that one file serves several studies
//! that share trials: controls of one pack, layer and dose are made once, whichever vector is tried.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trimtab_persona::trials::{TrialAnswer, TrialRecords};

/// Larger ones are not read: a thorough sweep's have a few megabytes.
pub const MAX_RECORDS_BYTES: usize = 64 << 20;

/// Answers of trials by [`trimtab_persona::trials::TrialSetup::keys`], each `[question]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownTrials {
    trials: BTreeMap<String, Vec<Option<TrialAnswer>>>,
}

impl KnownTrials {
    /// `None` for anything that is not such a file.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.len() <= MAX_RECORDS_BYTES {
            true => serde_json::from_slice(bytes).ok(),
            false => None,
        }
    }

    /// The records of the trials with `keys`, empty where they are not known.
    pub fn records(&self, keys: &[String], questions: usize) -> TrialRecords {
        let of = |key: &String| {
            let known = self.trials.get(key).filter(|row| row.len() == questions);
            known.cloned().unwrap_or_else(|| vec![None; questions])
        };
        keys.iter().map(of).collect()
    }

    pub fn knows_any(&self, keys: &[String]) -> bool {
        keys.iter().any(|key| self.trials.contains_key(key))
    }

    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// These and `records`, which replace what was known of the same trials; `None` where they cannot be written.
    pub fn write(&mut self, keys: &[String], records: &TrialRecords) -> Option<Vec<u8>> {
        for (key, row) in keys.iter().zip(records) {
            if row.iter().any(Option::is_some) {
                self.trials.insert(key.clone(), row.clone());
            }
        }
        serde_json::to_vec(self).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_to_every_study_that_has_their_trial() {
        let answer = |text: &str| {
            Some(TrialAnswer {
                ids: vec![1, 2],
                text: text.into(),
                prompt_reading: vec![0.5],
                ..TrialAnswer::default()
            })
        };
        let keys = |names: [&str; 2]| names.map(String::from);
        let records: TrialRecords = vec![vec![answer("Ahoy"), None], vec![None, None]];
        let bytes = KnownTrials::default()
            .write(&keys(["shared", "empty"]), &records)
            .unwrap();
        let mut known = KnownTrials::read(&bytes).unwrap();
        let other = keys(["new", "shared"]);
        assert_eq!(
            known.records(&other, 2),
            [vec![None, None], vec![answer("Ahoy"), None]]
        );
        assert!(known.knows_any(&other) && !known.knows_any(&keys(["empty", "new"])));
        // Other questions, other answers.
        assert_eq!(known.records(&other, 1), [vec![None], vec![None]]);
        // What another study left stays.
        let after = known
            .write(
                &keys(["new", "third"]),
                &vec![vec![answer("x")], vec![None]],
            )
            .unwrap();
        assert!(
            KnownTrials::read(&after)
                .unwrap()
                .knows_any(&keys(["shared", "no"]))
        );
        assert!(KnownTrials::read(b"<html>").is_none());
    }
}
