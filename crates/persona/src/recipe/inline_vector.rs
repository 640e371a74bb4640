//! A trait vector inside a link: 8 bits a number, for the layers that are used, with its card and what
//! readings need to be calibrated at those layers.

use crate::calibration::{Calibration, LayerStatistics};
use crate::recipe::sextets::{character, sextet};
use crate::recipe::{MAX_LAYERS, MAX_LINE, RecipeError, check_name, check_text, refuse};
use crate::trait_vector::{TraitVector, tensor_hash};
use crate::vector_metadata::Recommended;
use trimtab_engine::{Layer, LayerTable};

/// Widest residual stream.
pub const MAX_WIDTH: usize = 32_768;
/// Largest quantised number.
const LARGEST: f32 = 127.0;
/// Significant digits of scales and statistics.
const DIGITS: i32 = 5;

#[derive(Clone, Debug, PartialEq)]
pub struct InlineVector {
    pub opposite: String,
    pub description: String,
    /// A sentence on how the vector was made.
    pub made: String,
    /// The slider's marks, `min <= 0 <= max`.
    pub min: f32,
    pub max: f32,
    /// Width `d` of the residual stream.
    pub width: usize,
    /// Rows of the vector in ascending order of layers, at least one.
    pub rows: Vec<InlineRow>,
}

/// The vector at one layer: `scale` times each value.
#[derive(Clone, Debug, PartialEq)]
pub struct InlineRow {
    pub layer: Layer,
    pub scale: f32,
    /// `[d]`, each −127 to 127.
    pub values: Vec<i8>,
    pub statistics: Option<RowStatistics>,
}

/// Ordinary readings at one layer; see [`Calibration`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStatistics {
    /// Mean and standard deviation of a response token's reading.
    pub token: [f32; 2],
    /// Mean and standard deviation of an answer's mean reading.
    pub answer: [f32; 2],
    /// Mean and standard deviation of a prompt token's reading.
    pub prompt: [f32; 2],
    /// Median norm of the residual; 0 where it is not known.
    pub neutral_norm: f32,
}

impl InlineVector {
    /// Quantises `vector` at `layers`.
    ///
    /// # Errors
    /// Layers that the vector does not have.
    pub fn of(vector: &TraitVector, layers: &[Layer], made: &str) -> Result<Self, RecipeError> {
        let mut layers = layers.to_vec();
        layers.sort();
        layers.dedup();
        let mut rows = Vec::with_capacity(layers.len());
        for layer in layers {
            if layer.index() >= vector.table.rows() {
                return Err(refuse("vector", format!("has no {layer}")));
            }
            let row = vector.table.row(layer);
            let largest = row
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            // Rounded up, so that the largest value still fits.
            let scale = match rounded(largest / LARGEST * 1.000_02) {
                0.0 => 1.0,
                scale => scale,
            };
            rows.push(InlineRow {
                layer,
                scale,
                values: row
                    .iter()
                    .map(|value| (value / scale).round() as i8)
                    .collect(),
                statistics: statistics_of(vector, layer),
            });
        }
        let (min, max) = vector
            .recommended
            .as_ref()
            .map_or((-2.0, 2.0), |range| (range.min, range.max));
        Ok(Self {
            opposite: vector.opposite.clone(),
            description: vector.description.clone(),
            made: made.to_owned(),
            min,
            max,
            width: vector.table.width(),
            rows,
        })
    }

    pub fn row(&self, layer: Layer) -> Option<&InlineRow> {
        let at = self.rows.binary_search_by_key(&layer, |row| row.layer);
        at.ok().map(|at| &self.rows[at])
    }

    /// The vector as the engine takes it, for a model of `layer_rows = L+1` rows of `width`: zero, and
    /// without readings, at the layers that it does not carry.
    ///
    /// # Errors
    /// Another width, or a layer that the model does not have.
    pub fn trait_vector(
        &self,
        name: &str,
        layer_rows: usize,
        width: usize,
    ) -> Result<TraitVector, RecipeError> {
        let refuse = |reason: String| Err(refuse(format!("vector {name}"), reason));
        if self.width != width {
            return refuse(format!(
                "is {} wide, this model needs {width}: it was made for another model",
                self.width
            ));
        }
        let mut values = vec![0.0; layer_rows * width];
        let mut calibration = Calibration {
            token: nothing(layer_rows),
            answer: nothing(layer_rows),
            prompt: nothing(layer_rows),
            conversations: 0,
        };
        let mut neutral_norm = vec![0.0; layer_rows];
        for row in &self.rows {
            let at = row.layer.index();
            if at >= layer_rows {
                return refuse(format!(
                    "has {}, this model has layers 0 to {}",
                    row.layer,
                    layer_rows - 1
                ));
            }
            for (value, quantised) in values[at * width..].iter_mut().zip(&row.values) {
                *value = row.scale * f32::from(*quantised);
            }
            if let Some(statistics) = row.statistics {
                calibration.token.set(at, statistics.token);
                calibration.answer.set(at, statistics.answer);
                calibration.prompt.set(at, statistics.prompt);
                neutral_norm[at] = statistics.neutral_norm;
            }
        }
        let table = match LayerTable::new(values, width) {
            Ok(table) => table,
            Err(error) => return refuse(error.to_string()),
        };
        let calibrated = self.rows.iter().any(|row| row.statistics.is_some());
        Ok(TraitVector {
            name: name.to_owned(),
            opposite: self.opposite.clone(),
            description: self.description.clone(),
            hash: tensor_hash(&table),
            table,
            recommended: Some(Recommended {
                layers: self.rows.iter().map(|row| row.layer.0).collect(),
                min: self.min,
                max: self.max,
                usual: None,
            }),
            calibration: calibrated.then_some(calibration),
            neutral_norm: calibrated.then_some(neutral_norm),
            model_sha256: None,
        })
    }

    pub(crate) fn check(&self) -> Result<(), RecipeError> {
        check_text("trait's opposite", &self.opposite, MAX_LINE)?;
        if !self.opposite.is_empty() {
            check_name("trait's opposite", &self.opposite)?;
        }
        check_text("trait's description", &self.description, MAX_LINE)?;
        check_text("trait's making", &self.made, MAX_LINE)?;
        let bounded = |value: f32| value.abs() <= 1e6;
        if !(bounded(self.min) && bounded(self.max) && self.min <= 0.0 && self.max >= 0.0) {
            return Err(refuse("trait's range", "must be finite and contain 0"));
        }
        let layers_are_sound = self.rows.is_sorted_by(|a, b| a.layer < b.layer)
            && self.rows.iter().all(|row| row.layer.0 < MAX_LAYERS);
        if self.rows.is_empty() || !layers_are_sound {
            return Err(refuse("vector", "must have layers in order, at least one"));
        }
        if !(1..=MAX_WIDTH).contains(&self.width) {
            return Err(refuse("vector", format!("must be 1 to {MAX_WIDTH} wide")));
        }
        for row in &self.rows {
            let values_are_sound = row.values.len() == self.width && !row.values.contains(&i8::MIN);
            if !(values_are_sound && row.scale > 0.0 && row.scale <= 1e9) {
                return Err(refuse("vector", format!("is broken at {}", row.layer)));
            }
            row.statistics
                .as_ref()
                .map_or(Ok(()), |one| one.check(row.layer))?;
        }
        Ok(())
    }
}

impl RowStatistics {
    fn check(&self, layer: Layer) -> Result<(), RecipeError> {
        let pairs = [self.token, self.answer, self.prompt];
        let bounded = |value: f32| value.abs() <= 1e9;
        let sound = pairs
            .iter()
            .all(|[mean, deviation]| bounded(*mean) && bounded(*deviation) && *deviation >= 0.0);
        if sound && bounded(self.neutral_norm) && self.neutral_norm >= 0.0 {
            return Ok(());
        }
        Err(refuse(
            "vector",
            format!("has impossible statistics at {layer}"),
        ))
    }
}

impl LayerStatistics {
    fn set(&mut self, layer: usize, [mean, deviation]: [f32; 2]) {
        self.mean[layer] = mean;
        self.deviation[layer] = deviation;
    }
}

fn nothing(layer_rows: usize) -> LayerStatistics {
    LayerStatistics {
        mean: vec![0.0; layer_rows],
        deviation: vec![0.0; layer_rows],
    }
}

fn statistics_of(vector: &TraitVector, layer: Layer) -> Option<RowStatistics> {
    let calibration = vector.calibration.as_ref()?;
    let at = layer.index();
    let pair = |part: &LayerStatistics| {
        Some([
            rounded(*part.mean.get(at)?),
            rounded(*part.deviation.get(at)?),
        ])
    };
    let norms = vector.neutral_norm.as_ref();
    Some(RowStatistics {
        token: pair(&calibration.token)?,
        answer: pair(&calibration.answer)?,
        prompt: pair(&calibration.prompt)?,
        neutral_norm: rounded(
            norms
                .and_then(|norms| norms.get(at))
                .copied()
                .unwrap_or(0.0),
        ),
    })
}

/// The value rounded to [`DIGITS`] significant digits.
fn rounded(value: f32) -> f32 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let value = f64::from(value);
    let unit = 10.0_f64.powi(value.abs().log10().floor() as i32 + 1 - DIGITS);
    ((value / unit).round() * unit) as f32
}

/// Values as text that deflates well: the upper six bits of each plus 128, which are mostly near the
/// middle, then the lower two bits of three values a character.
pub(crate) fn pack_values(values: &[i8]) -> String {
    let offset: Vec<usize> = values
        .iter()
        .map(|value| (i16::from(*value) + 128) as usize)
        .collect();
    let upper = offset.iter().map(|value| character(value >> 2));
    let lower = offset.chunks(3).map(|three| {
        let sextet = three
            .iter()
            .rev()
            .fold(0, |sextet, value| sextet << 2 | (value & 3));
        character(sextet)
    });
    upper.chain(lower).collect()
}

/// `width` values.
pub(crate) fn unpack_values(text: &str, width: usize) -> Result<Vec<i8>, RecipeError> {
    let bytes = text.as_bytes();
    if width > MAX_WIDTH || bytes.len() != width + width.div_ceil(3) {
        return Err(refuse("vector", "has another length than it says"));
    }
    let (upper, lower) = bytes.split_at(width);
    upper
        .iter()
        .enumerate()
        .map(|(index, &upper)| {
            let lower = sextet(lower[index / 3])? >> (2 * (index % 3)) & 3;
            let offset = sextet(upper)? << 2 | lower;
            Ok((offset as i16 - 128) as i8)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_five_digits() {
        assert_eq!(rounded(123_456.7), 123_460.0);
        assert_eq!(rounded(-0.012_345_678), -0.012_346);
        assert_eq!(rounded(0.0), 0.0);
    }

    #[test]
    fn a_vector_comes_back_within_half_a_step_and_is_zero_elsewhere() {
        let vector = crate::recipe::samples::vector(4, 40);
        let inline = InlineVector::of(&vector, &[Layer(2), Layer(1)], "by hand").unwrap();
        inline.check().unwrap();
        let back = inline.trait_vector("mine", 4, 40).unwrap();
        for row in &inline.rows {
            assert!(row.values.iter().any(|value| value.unsigned_abs() >= 126));
            let pairs = back
                .table
                .row(row.layer)
                .iter()
                .zip(vector.table.row(row.layer));
            for (back, exact) in pairs {
                assert!((back - exact).abs() <= row.scale * 0.501, "{back} {exact}");
            }
        }
        assert!(back.table.row(Layer(0)).iter().all(|value| *value == 0.0));
        let calibration = back.calibration.unwrap();
        assert_eq!(calibration.token.mean[..3], [0.0, 1.0, 1.0]);
        assert_eq!(calibration.token.deviation[3], 0.0);
        let error = inline.trait_vector("mine", 4, 41).unwrap_err().to_string();
        assert!(error.contains("41"), "{error}");
        assert!(
            inline
                .trait_vector("mine", 2, 40)
                .unwrap_err()
                .to_string()
                .contains("layer 2")
        );
    }

    proptest::proptest! {
        #[test]
        fn values_come_back(values in proptest::collection::vec(-127_i8..=127, 0..50)) {
            let text = pack_values(&values);
            proptest::prop_assert_eq!(unpack_values(&text, values.len()).unwrap(), values);
        }
    }
}
