//! How to train.

use super::changes::Penalty;
use super::optimiser::OptimiserSettings;

/// See [`Settings::notes_bytes`]: what a browser tab, or a program, can spare.
const NOTES_BYTES: usize = match cfg!(target_family = "wasm") {
    true => 96 << 20,
    false => 256 << 20,
};

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub epochs: u32,
    /// Examples of one step of the optimiser; the last step of an epoch may have fewer.
    pub examples_a_step: usize,
    /// A micro-batch is packed with as many examples of its step as stay within so many tokens, and with one at least. Memory
    /// grows with it, and so does the speed, a little.
    pub micro_batch_tokens: usize,
    /// Orders the examples of each epoch; `None` leaves them as they are given.
    pub shuffle: Option<u32>,
    pub optimiser: OptimiserSettings,
    pub penalty: Option<Penalty>,
    /// Bytes of intermediate results that a micro-batch may keep from the way there for the way back, so that fewer are computed
    /// twice.
    pub notes_bytes: usize,
    /// Bytes of states below the lowest adapter that may be kept over epochs, so that they are not computed again.
    pub kept_bytes: usize,
}

impl Default for Settings {
    /// About what made a trait arrive in a 135M model within 40 steps.
    fn default() -> Self {
        Self {
            epochs: 4,
            examples_a_step: 6,
            micro_batch_tokens: 512,
            shuffle: Some(0),
            optimiser: OptimiserSettings::default(),
            penalty: None,
            notes_bytes: NOTES_BYTES,
            kept_bytes: 64 << 20,
        }
    }
}
