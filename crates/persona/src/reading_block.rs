//! Calibrated readings of a run's tokens.

use crate::calibration::Calibration;
use crate::conversation::Part;
use serde::Serialize;
use trimtab_engine::{Layer, TokenRecord};
use ts_rs::TS;

/// Calibrated readings as a page draws them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ReadingBlock {
    pub tokens: usize,
    pub traits: usize,
    /// `L + 1`.
    pub layer_rows: usize,
    /// `[tokens, traits, L+1]` in deviations, 0 = ordinary. NaN where a token has no reading: the
    /// first token (an attention sink whose residual dwarfs all others), the template's own tokens,
    /// and directions without a calibration.
    #[serde(with = "crate::json::floats")]
    #[ts(type = "Float32Array")]
    pub values: Vec<f32>,
}

impl ReadingBlock {
    /// `records` and `parts` belong to the same tokens; `calibrations` are in the order of the
    /// directions that the engine read.
    pub fn calibrated(
        records: &[TokenRecord],
        parts: &[Part],
        calibrations: &[Option<&Calibration>],
    ) -> Self {
        let layer_rows = records
            .first()
            .map_or(0, |record| record.readings.layer_rows);
        let mut values = Vec::with_capacity(records.len() * calibrations.len() * layer_rows);
        for (record, &part) in records.iter().zip(parts) {
            let part = if record.position.0 == 0 {
                Part::Template
            } else {
                part
            };
            for (direction, calibration) in calibrations.iter().enumerate() {
                values.extend(
                    (0..layer_rows as u32)
                        .map(Layer)
                        .map(|layer| match calibration {
                            Some(calibration) if direction < record.readings.directions() => {
                                calibration.of_token(
                                    part,
                                    layer,
                                    record.readings.at(direction, layer),
                                )
                            }
                            _ => f32::NAN,
                        }),
                );
            }
        }
        Self {
            tokens: records.len().min(parts.len()),
            traits: calibrations.len(),
            layer_rows,
            values,
        }
    }

    /// The readings themselves, not calibrated, of `traits` directions.
    pub fn plain(records: &[TokenRecord], traits: usize) -> Self {
        let readings = records.iter().map(|record| &record.readings);
        Self {
            tokens: records.len(),
            traits,
            layer_rows: readings.clone().next().map_or(0, |one| one.layer_rows),
            values: readings.flat_map(|one| &one.values).copied().collect(),
        }
    }

    /// The same for `tokens` tokens, NaN for those that were not read.
    pub fn padded(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self.values
            .resize(tokens * self.traits * self.layer_rows, f32::NAN);
        self
    }

    pub fn at(&self, token: usize, direction: usize, layer: Layer) -> f32 {
        self.values[(token * self.traits + direction) * self.layer_rows + layer.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::tests::sample;
    use trimtab_engine::{Position, Readings, SequenceIndex, TokenId};

    fn record(position: u32, reading: f32) -> TokenRecord {
        TokenRecord {
            sequence: SequenceIndex(0),
            position: Position(position),
            token: TokenId(5),
            readings: Readings {
                values: vec![reading; 2],
                layer_rows: 2,
            },
            prediction: None,
        }
    }

    #[test]
    fn each_part_of_a_conversation_has_its_own_zero() {
        let calibration = sample(2);
        let records = [
            record(0, 3.0),
            record(1, 3.0),
            record(2, 3.0),
            record(3, 3.0),
        ];
        let parts = [Part::Prompt, Part::Template, Part::Prompt, Part::Response];
        let block = ReadingBlock::calibrated(&records, &parts, &[Some(&calibration), None]);
        assert_eq!((block.tokens, block.traits, block.layer_rows), (4, 2, 2));
        assert!(
            block.at(0, 0, Layer(1)).is_nan(),
            "the first token has no reading"
        );
        assert!(
            block.at(1, 0, Layer(1)).is_nan(),
            "a template token has no reading"
        );
        assert_eq!(block.at(2, 0, Layer(1)), 2.0);
        assert_eq!(block.at(3, 0, Layer(1)), 1.0);
        assert!(
            block.at(3, 1, Layer(1)).is_nan(),
            "no calibration, no reading"
        );
    }
}
