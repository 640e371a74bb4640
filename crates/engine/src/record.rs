//! The report of a run on each token.

use crate::index::{Layer, Position, SequenceIndex, TokenId};

/// Directions that can be read at once.
pub const MAX_DIRECTIONS: usize = 16;
/// Likely next tokens reported with every prediction.
pub const ALTERNATIVES: usize = 8;

/// The readings of one token: `h_l · v̂` for every direction and layer, `h_l` taken after that
/// layer's change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// `[directions, L+1]`.
    pub values: Vec<f32>,
    pub layer_rows: usize,
}

impl Readings {
    pub fn directions(&self) -> usize {
        self.values.len().checked_div(self.layer_rows).unwrap_or(0)
    }

    pub fn at(&self, direction: usize, layer: Layer) -> f32 {
        self.values[direction * self.layer_rows + layer.index()]
    }
}

/// The model's prediction after a token. Log-probabilities are natural and belong to the model's
/// own distribution: temperature 1, no truncation, no penalty.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The token that was sampled, or in a scored row the most likely one.
    pub chosen: TokenId,
    pub chosen_logprob: f32,
    /// Log-probability of the row's target; NaN for a row without one.
    pub target_logprob: f32,
    /// KL(the row before ‖ this row) of the next-token distributions, nats, where asked for.
    pub divergence: Option<f32>,
    /// The most likely tokens, best first.
    pub alternatives: [(TokenId, f32); ALTERNATIVES],
}

/// The engine's report on one token that it consumed.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRecord {
    pub sequence: SequenceIndex,
    pub position: Position,
    /// The token at that position. For a token sampled on the device it is known only now.
    pub token: TokenId,
    pub readings: Readings,
    /// Present where the output head was asked for.
    pub prediction: Option<Prediction>,
}
