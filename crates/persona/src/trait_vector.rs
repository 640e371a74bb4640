//! One direction with what is known about it.

use crate::calibration::Calibration;
use crate::vector_metadata::Recommended;
use sha2::{Digest, Sha256};
use trimtab_engine::{Layer, LayerTable};

/// A direction chosen from a vector file: what sliders and readings use.
#[derive(Clone, Debug)]
pub struct TraitVector {
    /// Name by which the person calls it: the ready-made name, or the path they gave.
    pub name: String,
    pub opposite: String,
    pub description: String,
    pub table: LayerTable,
    /// [`tensor_hash`] of `table`.
    pub hash: String,
    pub recommended: Option<Recommended>,
    pub calibration: Option<Calibration>,
    pub neutral_norm: Option<Vec<f32>>,
    /// The model it was made on, where the file says.
    pub model_sha256: Option<String>,
}

impl TraitVector {
    /// A sentence where the file was made on other weights than `model_sha256` (the shape fits).
    pub fn model_warning(&self, model_sha256: &str) -> Option<String> {
        let made_on = self
            .model_sha256
            .as_deref()
            .filter(|made_on| *made_on != model_sha256)?;
        Some(format!(
            "the vector {} was made on other weights (sha256 {}…) than the model that is loaded ({}…): its shape fits, but its direction may mean less here",
            self.name,
            made_on.get(..8).unwrap_or(made_on),
            model_sha256.get(..8).unwrap_or(model_sha256),
        ))
    }

    /// Relative dose of coefficient 1 at each layer, `‖v_l‖ / median neutral ‖h_l‖`, `[L+1]`; `None`
    /// without the neutral norms.
    pub fn dose_per_unit(&self) -> Option<Vec<f32>> {
        let norms = self.neutral_norm.as_ref()?;
        let doses = norms.iter().enumerate().map(|(layer, &neutral)| {
            let length = norm(self.table.row(Layer(layer as u32)));
            if neutral > 0.0 {
                (length / f64::from(neutral)) as f32
            } else {
                0.0
            }
        });
        Some(doses.collect())
    }
}

/// Euclidean norm, summed in f64.
pub fn norm(row: &[f32]) -> f64 {
    row.iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum::<f64>()
        .sqrt()
}

/// Lower-case hexadecimal sha256 of the tensor's shape (two u32) and values, little-endian: the
/// name by which links refer to a vector, whatever file it lies in.
pub fn tensor_hash(table: &LayerTable) -> String {
    let mut digest = Sha256::new();
    digest.update((table.rows() as u32).to_le_bytes());
    digest.update((table.width() as u32).to_le_bytes());
    for value in table.values() {
        digest.update(value.to_le_bytes());
    }
    hexadecimal(&digest.finalize())
}

/// Lower-case hexadecimal sha256.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
