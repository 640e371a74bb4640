//! What the residual stream held while the responses of a contrast set were read. Reading them all takes minutes, so it is
//! kept with the model from one verb to the next.

use trimtab_persona::activations::Averages;
use trimtab_persona::contrast_record::ContrastRecord;
use trimtab_persona::trait_vector::sha256;

/// Of one contrast set, so that other thresholds read nothing again.
#[derive(Debug, Default)]
pub struct KnownAverages {
    /// sha256 of everything that was written.
    of: String,
    averages: Vec<Option<Averages>>,
}

impl KnownAverages {
    pub(crate) fn take(&mut self, record: &ContrastRecord) -> Vec<Option<Averages>> {
        if self.of == fingerprint(record) {
            std::mem::take(&mut self.averages)
        } else {
            Vec::new()
        }
    }

    pub(crate) fn keep(&mut self, record: &ContrastRecord, averages: Vec<Option<Averages>>) {
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
