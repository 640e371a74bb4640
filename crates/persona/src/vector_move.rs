//! Whether a trait's vector itself moves when a model is tuned: the mean difference of the same answers in both models.

use crate::controls::cosine;
use crate::trait_vector::norm;
use serde::{Deserialize, Serialize};
use trimtab_engine::{Layer, LayerTable};
use ts_rs::TS;

/// At one layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LayerMove {
    /// Of the tuned model's vector to the base model's.
    pub cosine: f64,
    /// Of the base model's vector from one half of the answers to that from the other: what the choice of answers alone does. Each is
    /// made of half as many, so that the whole one is surer than this says.
    pub halves: f64,
    /// The tuned model's length divided by the base model's.
    pub length: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VectorMove {
    /// By layer, from layer 0 on.
    pub layers: Vec<LayerMove>,
    /// Answers of the positive and of the negative side.
    pub answers: [usize; 2],
}

impl VectorMove {
    /// All tables are `[L+1, d]`; `answers` are those that `base` and `tuned` are made of.
    pub fn between(
        base: &LayerTable,
        tuned: &LayerTable,
        halves: (&LayerTable, &LayerTable),
        answers: [usize; 2],
    ) -> Self {
        let at = |layer: usize| {
            let layer = Layer(layer as u32);
            let (own, other) = (base.row(layer), tuned.row(layer));
            LayerMove {
                cosine: cosine(own, other),
                halves: cosine(halves.0.row(layer), halves.1.row(layer)),
                length: match norm(own) {
                    0.0 => 0.0,
                    own => norm(other) / own,
                },
            }
        };
        Self {
            layers: (0..base.rows()).map(at).collect(),
            answers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_turns_by_a_right_angle_and_doubles_is_told() {
        let table = |values: [f32; 4]| LayerTable::new(values.to_vec(), 2).unwrap();
        let base = table([1.0, 0.0, 0.0, 3.0]);
        let tuned = table([0.0, 2.0, 0.0, 3.0]);
        let found = VectorMove::between(&base, &tuned, (&base, &base), [3, 4]);
        let [first, second] = found.layers[..] else {
            panic!("{found:?}");
        };
        assert!(first.cosine.abs() < 1e-9 && (first.length - 2.0).abs() < 1e-9);
        assert!((second.cosine - 1.0).abs() < 1e-6 && (second.length - 1.0).abs() < 1e-9);
        assert!((first.halves - 1.0).abs() < 1e-6);
        assert_eq!(found.answers, [3, 4]);
    }
}
