//! Fine-tuning: an adapter of the session's model is trained on a dataset, with or without a push.

use crate::verbs::Bytes;
use serde::{Deserialize, Serialize};
use trimtab_engine::train::Target;
use trimtab_persona::dataset::Conversation;
use trimtab_persona::plan::NamedTerm;
use ts_rs::TS;

/// How to train; what is absent is as usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[ts(optional_fields)]
pub struct TrainSettings {
    /// Rank of the adapter (8).
    pub rank: Option<usize>,
    /// `α` of the adapter's scale (16).
    pub alpha: Option<f32>,
    /// Whether the scale is `α/√r` in place of `α/r`.
    pub rank_stabilised: Option<bool>,
    /// First and last of the zero-based blocks that get an adapter (from 27 % of the depth to the last: a shift along a trait shows only
    /// above the lowest adapter).
    pub blocks: Option<[usize; 2]>,
    /// Matrices that get an adapter (all seven).
    #[ts(as = "Option<Vec<String>>")]
    pub targets: Option<Vec<Target>>,
    /// Passes over the rows (4).
    pub epochs: Option<u32>,
    /// Rows of one step (6).
    pub rows_a_step: Option<usize>,
    /// AdamW's (0.0005), which falls to 0 linearly.
    pub learning_rate: Option<f32>,
    /// Steps over which it rises from 0 (0).
    pub warmup_steps: Option<u32>,
    /// Seed of the adapter and of the rows' order (0).
    pub seed: Option<u32>,
    /// Share of the rows that is not trained on, and by which the held-out loss is measured (0).
    pub held_out: Option<f64>,
}

/// A penalty on how far training moves the state along a trait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "TrainPenalty")]
pub struct TraitPenalty {
    #[serde(rename = "trait")]
    pub vector: String,
    pub layer: u32,
    /// `λ` of `λ · ((h − h_base) · v̂)²`.
    pub weight: f32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct TrainRequest {
    pub rows: Vec<Conversation>,
    pub settings: TrainSettings,
    /// The push that acts in training, as in an answer; nothing of it is in the adapter.
    pub plan: Vec<NamedTerm>,
    pub penalty: Option<TraitPenalty>,
    /// Neutral answers of the base model over which the shift along every trait of the session is read as training goes on (6);
    /// 0: none.
    pub watched: Option<usize>,
    /// From an earlier [`TrainEvent::State`], to go on from.
    pub state: Option<Bytes>,
    /// sha256 of the dataset's file, for whoever reads the adapter's.
    pub data_sha256: Option<String>,
}

/// A step of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct TrainStep {
    /// From 1 on.
    pub step: u32,
    /// Mean negative log-likelihood of the step's response tokens before its change, in nats.
    pub loss: f64,
    /// Mean penalty, which is not part of the loss.
    pub penalty: f64,
    pub learning_rate: f32,
    /// Tokens read, those of the prompts included.
    pub tokens: usize,
}

/// How far the tuned model's states have come along every trait of the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Arrival {
    /// Steps done by then.
    pub step: u32,
    /// Names of the traits.
    pub traits: Vec<String>,
    /// Mean shift over the base model's own answers along each, in deviations of neutral answers.
    pub shifts: Vec<f64>,
}

/// What happened in a run so far, over all calls that it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
pub struct TrainHistory {
    pub steps: Vec<TrainStep>,
    pub held_out: Vec<HeldOut>,
    pub arrivals: Vec<Arrival>,
}

/// The loss on rows that are not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct HeldOut {
    /// Steps done by then.
    pub step: u32,
    /// Without a push, in nats a response token.
    pub loss: f64,
    /// Under the push of the training, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed: Option<f64>,
}

#[derive(Clone, Debug, Serialize, TS)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[ts(optional_fields)]
pub enum TrainEvent {
    Step {
        #[serde(flatten)]
        step: TrainStep,
        steps: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
    },
    HeldOut(HeldOut),
    Arrival(Arrival),
    /// Everything to go on from when this ends early.
    State {
        #[serde(with = "serde_bytes")]
        #[ts(type = "Uint8Array")]
        state: Vec<u8>,
        step: u32,
    },
}

/// A finished run: the adapter's two files, as PEFT names them, and what happened.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Trained {
    /// `adapter_config.json`
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub config: Vec<u8>,
    /// `adapter_model.safetensors`
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub weights: Vec<u8>,
    /// sha256 of the weights' file, by which links and caches name the adapter.
    pub sha256: String,
    #[serde(flatten)]
    pub history: TrainHistory,
    /// Rows that were trained on.
    pub rows: usize,
}
