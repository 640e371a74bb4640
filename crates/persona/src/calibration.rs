//! Calibration: ordinary readings of a model, from neutral conversations, and readings measured in them.

use crate::conversation::{Part, TokenisedConversation};
use crate::trait_vector::norm;
use serde::{Deserialize, Serialize};
use trimtab_engine::{Layer, LayerTable};

pub use crate::reading_block::ReadingBlock;

/// Mean and standard deviation at each layer, `[L+1]` each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerStatistics {
    pub mean: Vec<f32>,
    /// Standard deviation of the sample (divided by n − 1).
    pub deviation: Vec<f32>,
}

/// Readings of one direction on neutral conversations, without the first token and the template's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Over response tokens.
    pub token: LayerStatistics,
    /// Over the means of whole answers.
    pub answer: LayerStatistics,
    /// Over prompt tokens.
    pub prompt: LayerStatistics,
    /// Number of conversations that it comes from.
    pub conversations: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    #[error(
        "a calibration needs at least two neutral conversations with answers of two tokens or more; there are {usable}"
    )]
    TooFew { usable: u32 },
}

/// Calibrations of several directions on the same conversations, and the unit of relative doses.
#[derive(Clone, Debug)]
pub struct NeutralStatistics {
    /// One entry per direction, in the order of the directions.
    pub calibrations: Vec<Calibration>,
    /// Median norm of the residual over response tokens at each layer, `[L+1]`.
    pub neutral_norm: Vec<f32>,
}

impl Calibration {
    /// Checks the shape against `rows = L+1`, and the numbers.
    pub fn check(&self, rows: usize) -> Result<(), String> {
        for (name, part) in [
            ("token", &self.token),
            ("answer", &self.answer),
            ("prompt", &self.prompt),
        ] {
            if part.mean.len() != rows || part.deviation.len() != rows {
                return Err(format!(
                    "{name} must have {rows} means and {rows} deviations"
                ));
            }
            let sound = |value: &f32| value.is_finite();
            if !part.mean.iter().all(sound)
                || !part
                    .deviation
                    .iter()
                    .all(|value| sound(value) && *value >= 0.0)
            {
                return Err(format!(
                    "{name} has a number that is not finite, or a negative deviation"
                ));
            }
        }
        Ok(())
    }

    /// A token's reading in deviations from what is ordinary for its part of the conversation; NaN
    /// for the template's own tokens, and where the direction has no length.
    pub fn of_token(&self, part: Part, layer: Layer, reading: f32) -> f32 {
        match part {
            Part::Template => f32::NAN,
            Part::Prompt => self.prompt.standardise(layer, reading),
            Part::Response => self.token.standardise(layer, reading),
        }
    }
}

impl LayerStatistics {
    fn standardise(&self, layer: Layer, reading: f32) -> f32 {
        match (
            self.mean.get(layer.index()),
            self.deviation.get(layer.index()),
        ) {
            (Some(mean), Some(&deviation)) if deviation > 0.0 => (reading - mean) / deviation,
            _ => f32::NAN,
        }
    }
}

/// `h_l · v̂_l` at every layer, in f64. `residual` is `[L+1, d]` of one token; `direction`'s rows have
/// length one (or zero).
fn readings_of(residual: &[f32], direction: &LayerTable) -> Vec<f64> {
    residual
        .chunks(direction.width())
        .zip(direction.values().chunks(direction.width()))
        .map(|(h, v)| {
            h.iter()
                .zip(v)
                .map(|(&h, &v)| f64::from(h) * f64::from(v))
                .sum()
        })
        .collect()
}

/// Readings of several directions on neutral conversations, on their way to calibrations.
#[derive(Debug)]
pub struct NeutralSums {
    /// Of length one (or zero) at each layer.
    directions: Vec<LayerTable>,
    sums: Vec<Sums>,
    /// Norms of the residual at each layer, one a response token.
    norms: Vec<Vec<f32>>,
    usable: u32,
}

impl NeutralSums {
    /// For `vectors` of any length, `[L+1, d]` each, with `rows` = L+1.
    pub fn new(vectors: &[LayerTable], rows: usize) -> Self {
        Self {
            directions: vectors.iter().map(LayerTable::normalised).collect(),
            sums: vectors.iter().map(|_| Sums::new(rows)).collect(),
            norms: vec![Vec::new(); rows],
            usable: 0,
        }
    }

    /// Adds a conversation with its `residual` in the unsteered model, `[T, L+1, d]`. An answer of fewer than two tokens is
    /// left out.
    pub fn add(&mut self, conversation: &TokenisedConversation, residual: &[f32]) {
        let parts = &conversation.parts;
        let answer = parts.iter().filter(|part| **part == Part::Response).count();
        if answer < 2 {
            return;
        }
        self.usable += 1;
        let rows = self.norms.len();
        let width = residual.len() / parts.len() / rows;
        let tokens = || residual.chunks(rows * width).zip(parts).skip(1);
        for (residual, _) in tokens().filter(|(_, part)| **part == Part::Response) {
            for (norms, row) in self.norms.iter_mut().zip(residual.chunks(width)) {
                norms.push(norm(row) as f32);
            }
        }
        for (sums, direction) in self.sums.iter_mut().zip(&self.directions) {
            let mut mean = vec![0.0; rows];
            for (residual, part) in tokens() {
                let readings = readings_of(residual, direction);
                match part {
                    Part::Template => {}
                    Part::Prompt => sums.prompt.add(&readings),
                    Part::Response => {
                        sums.token.add(&readings);
                        mean.iter_mut()
                            .zip(&readings)
                            .for_each(|(mean, reading)| *mean += reading / answer as f64);
                    }
                }
            }
            sums.answer.add(&mean);
        }
    }

    pub fn finish(self) -> Result<NeutralStatistics, CalibrationError> {
        let usable = self.usable;
        if usable < 2 {
            return Err(CalibrationError::TooFew { usable });
        }
        let sums = self.sums.into_iter();
        Ok(NeutralStatistics {
            calibrations: sums.map(|sums| sums.finish(usable)).collect(),
            neutral_norm: self.norms.into_iter().map(median).collect(),
        })
    }
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Running sums of one direction's three kinds of reading.
#[derive(Debug)]
struct Sums {
    token: Running,
    answer: Running,
    prompt: Running,
}

impl Sums {
    fn new(rows: usize) -> Self {
        Self {
            token: Running::new(rows),
            answer: Running::new(rows),
            prompt: Running::new(rows),
        }
    }

    fn finish(self, conversations: u32) -> Calibration {
        Calibration {
            token: self.token.finish(),
            answer: self.answer.finish(),
            prompt: self.prompt.finish(),
            conversations,
        }
    }
}

/// Welford's running mean and sum of squared deviations, a number a layer.
#[derive(Debug)]
struct Running {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Running {
    fn new(rows: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; rows],
            squares: vec![0.0; rows],
        }
    }

    fn add(&mut self, values: &[f64]) {
        self.count += 1.0;
        for ((mean, squares), value) in self.mean.iter_mut().zip(&mut self.squares).zip(values) {
            let difference = value - *mean;
            *mean += difference / self.count;
            *squares += difference * (value - *mean);
        }
    }

    fn finish(self) -> LayerStatistics {
        let freedom = (self.count - 1.0).max(1.0);
        LayerStatistics {
            mean: self.mean.iter().map(|mean| *mean as f32).collect(),
            deviation: self
                .squares
                .iter()
                .map(|squares| (squares / freedom).sqrt() as f32)
                .collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(rows: usize) -> Calibration {
        let statistics = |mean: f32| LayerStatistics {
            mean: vec![mean; rows],
            deviation: vec![2.0; rows],
        };
        Calibration {
            token: statistics(1.0),
            answer: statistics(1.0),
            prompt: statistics(-1.0),
            conversations: 3,
        }
    }

    #[test]
    fn running_statistics_are_those_of_the_sample() {
        let mut running = Running::new(1);
        for value in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            running.add(&[value]);
        }
        let statistics = running.finish();
        assert_eq!(statistics.mean, [5.0]);
        // The squared deviations sum to 32.
        assert!((statistics.deviation[0] - (32.0_f32 / 7.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_direction_without_length_reads_nothing() {
        let mut calibration = sample(1);
        calibration.token.deviation[0] = 0.0;
        assert!(calibration.of_token(Part::Response, Layer(0), 1.0).is_nan());
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_calibration_of_the_wrong_length_is_refused() {
        assert!(sample(3).check(3).is_ok());
        assert!(sample(3).check(4).unwrap_err().contains("4 means"));
    }
}
