//! A push: a direction added at one layer or at all, in relative doses that mean the same everywhere.

use crate::trait_vector::norm;
use serde::{Deserialize, Serialize};
use trimtab_engine::steering::PlanError;
use trimtab_engine::{Layer, LayerTable, Operation, Scope, SteeringPlan, Term};
use ts_rs::TS;

/// Where a vector is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    Layer(u32),
    /// At every layer from 1 on its increment `v_l − v_{l−1}` (persona vectors, appendix J.3), so that what has
    /// been added by layer l sums to `v_l − v_0`.
    AllLayers,
}

impl Place {
    /// The layers of a model of `layer_rows = L+1` rows that are pushed.
    pub fn layers(self, layer_rows: usize) -> Vec<Layer> {
        match self {
            Self::Layer(layer) => vec![Layer(layer)],
            Self::AllLayers => (1..layer_rows as u32).map(Layer).collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PushError {
    #[error("layer {layer} does not exist: the vector has layers 0 to {last}")]
    NoSuchLayer { layer: u32, last: usize },
    #[error(
        "the vector has no neutral norms to measure doses by; `trimtab calibrate FILE` measures them"
    )]
    NoNorms,
    #[error("the vector has no length there, so that no dose can be given")]
    NoLength,
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// A direction at a place, ready to be given in doses.
#[derive(Clone, Debug)]
pub struct Push {
    table: LayerTable,
    layers: Vec<Layer>,
    /// Relative dose of coefficient 1: the sum of `‖row‖ / median neutral ‖h_l‖` over the layers.
    pub unit: f64,
}

impl Push {
    /// `neutral_norm` is the median norm of the neutral residual at each layer, `[L+1]`.
    pub fn new(
        vector: &LayerTable,
        place: Place,
        neutral_norm: Option<&[f32]>,
    ) -> Result<Self, PushError> {
        let last = vector.rows() - 1;
        let table = match place {
            Place::Layer(layer) if layer as usize > last => {
                return Err(PushError::NoSuchLayer { layer, last });
            }
            Place::Layer(_) => vector.clone(),
            Place::AllLayers => increments(vector)?,
        };
        let norms = neutral_norm.ok_or(PushError::NoNorms)?;
        let layers = place.layers(vector.rows());
        let doses = layers.iter().map(|&layer| {
            let neutral = norms.get(layer.index()).copied().unwrap_or(0.0);
            match neutral > 0.0 {
                true => norm(table.row(layer)) / f64::from(neutral),
                false => 0.0,
            }
        });
        let unit: f64 = doses.sum();
        if unit <= 0.0 {
            return Err(PushError::NoLength);
        }
        Ok(Self {
            table,
            layers,
            unit,
        })
    }

    /// The coefficient of a relative dose.
    pub fn coefficient(&self, dose: f64) -> f32 {
        (dose / self.unit) as f32
    }

    pub fn plan(&self, dose: f64, scope: Scope) -> SteeringPlan {
        SteeringPlan {
            terms: vec![Term {
                vector: self.table.clone(),
                layers: self.layers.clone(),
                operation: Operation::Add {
                    coefficient: self.coefficient(dose),
                },
                scope,
            }],
            ..SteeringPlan::default()
        }
    }
}

/// Row l is `v_l − v_{l−1}`; row 0, which nothing is added at, is zero.
pub fn increments(vector: &LayerTable) -> Result<LayerTable, PlanError> {
    let width = vector.width();
    let mut values = vec![0.0; width];
    for layer in 1..vector.rows() as u32 {
        let (row, before) = (vector.row(Layer(layer)), vector.row(Layer(layer - 1)));
        values.extend(row.iter().zip(before).map(|(row, before)| row - before));
    }
    LayerTable::new(values, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector() -> LayerTable {
        LayerTable::new(vec![1.0, 1.0, 4.0, 5.0, 4.0, 13.0], 2).unwrap()
    }

    #[test]
    fn equal_doses_push_equally_hard_wherever_they_push() {
        let norms = [1.0, 10.0, 4.0];
        for (place, unit) in [
            (Place::Layer(1), 41.0_f64.sqrt() / 10.0),
            // Increments of norm 5 and 8.
            (Place::AllLayers, 0.5 + 2.0),
        ] {
            let push = Push::new(&vector(), place, Some(&norms)).unwrap();
            assert!((push.unit - unit).abs() < 1e-6, "{place:?}");
            assert!((f64::from(push.coefficient(0.2)) * unit - 0.2).abs() < 1e-6);
        }
    }

    #[test]
    fn increments_sum_to_the_vector() {
        let found = increments(&vector()).unwrap();
        assert_eq!(found.values(), [0.0, 0.0, 3.0, 4.0, 0.0, 8.0]);
    }

    #[test]
    fn what_cannot_be_pushed_gets_a_sentence() {
        let message = |place, norms: Option<&[f32]>| {
            Push::new(&vector(), place, norms).unwrap_err().to_string()
        };
        assert!(message(Place::Layer(3), Some(&[1.0; 3])).contains("layers 0 to 2"));
        assert!(message(Place::Layer(1), None).contains("neutral norms"));
        assert!(message(Place::Layer(1), Some(&[0.0; 3])).contains("no length"));
    }
}
