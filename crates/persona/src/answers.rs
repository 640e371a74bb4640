//! How answers are sampled that are written side by side, as extraction and calibration need them.

use serde::{Deserialize, Serialize};
use trimtab_engine::Sampler;
use trimtab_engine::sampling::pcg;

/// Settings by which answers are sampled. Each answer has a seed of its own, made of `seed` and its number, so
/// that the same settings give the same answers however they are batched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerSettings {
    pub max_tokens: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub seed: u32,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self {
            max_tokens: 48,
            temperature: 0.8,
            top_p: 0.95,
            seed: 1,
        }
    }
}

impl AnswerSettings {
    /// The sampler for the answer of that number.
    pub fn sampler(&self, number: usize) -> Sampler {
        let seed = pcg(self.seed ^ pcg(number as u32));
        Sampler {
            temperature: self.temperature,
            top_p: self.top_p,
            seed,
            ..Sampler::GREEDY
        }
    }
}
