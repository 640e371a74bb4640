//! The steering plane: plans, and their composition into at most one change a layer.

use crate::adapter::AdapterTerm;
use crate::index::{Layer, Place, Site};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use ts_rs::TS;

/// A `[L+1, width]` f32 table of vectors for one place, row `l` belonging to layer `l`; row 0 means something in the residual
/// stream only. Shared, because plans are rebuilt whenever a slider moves and the vectors stay.
#[derive(Clone, Debug)]
pub struct LayerTable {
    values: Arc<[f32]>,
    width: usize,
    place: Place,
    /// Hash of the values, so that two plans can be compared without comparing tables.
    hash: u64,
}

impl LayerTable {
    /// `values` is `[rows, width]`, row-major, for the residual stream.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self, PlanError> {
        if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
            return Err(PlanError::Shape {
                values: values.len(),
                width,
            });
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(PlanError::NotFinite);
        }
        let mut hasher = DefaultHasher::new();
        width.hash(&mut hasher);
        for value in &values {
            value.to_bits().hash(&mut hasher);
        }
        Ok(Self {
            values: values.into(),
            width,
            place: Place::Residual,
            hash: hasher.finish(),
        })
    }

    /// The same vectors for another place.
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// The row of `layer`, `[d]`.
    pub fn row(&self, layer: Layer) -> &[f32] {
        &self.values[layer.index() * self.width..][..self.width]
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Fails unless the table is `[rows, width]`.
    pub fn check_shape(&self, want_rows: usize, want_width: usize) -> Result<(), PlanError> {
        let (rows, width) = (self.rows(), self.width);
        if (rows, width) == (want_rows, want_width) {
            return Ok(());
        }
        Err(PlanError::WrongModel {
            rows,
            width,
            want_rows,
            want_width,
        })
    }

    /// Every row divided by its Euclidean norm; a row of zeros stays zero.
    pub fn normalised(&self) -> Self {
        let mut values = self.values.to_vec();
        for row in values.chunks_mut(self.width) {
            let norm = row
                .iter()
                .map(|&v| f64::from(v) * f64::from(v))
                .sum::<f64>()
                .sqrt();
            if norm > 0.0 {
                row.iter_mut()
                    .for_each(|v| *v = (f64::from(*v) / norm) as f32);
            }
        }
        let normalised = Self::new(values, self.width);
        normalised.map_or_else(|_| self.clone(), |table| table.at(self.place))
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("a table of {values} numbers cannot be rows of {width}")]
    Shape { values: usize, width: usize },
    #[error("the vector holds a number that is not finite (NaN or infinity)")]
    NotFinite,
    #[error("{layer} does not exist: this model has layers 0 to {last}")]
    NoSuchLayer { layer: Layer, last: u32 },
    #[error(
        "before the first block there is a residual stream and nothing else: {place:?} exists from layer 1 on"
    )]
    NoSuchPlace { place: Place },
    #[error("the vector has shape [{rows}, {width}], this model needs [{want_rows}, {want_width}]")]
    WrongModel {
        rows: usize,
        width: usize,
        want_rows: usize,
        want_width: usize,
    },
    #[error("the coefficient {0} is not a finite number")]
    Coefficient(f32),
    #[error("at most {MAX_CLAMPS} ablations and clamps fit one layer")]
    TooManyClamps,
    #[error("the clamp's range runs from {low} up to {high}: the first must not be the larger")]
    Range { low: f32, high: f32 },
    #[error(
        "the push at {layer} is {length:.1e} long; beyond {LONGEST_PUSH:.0e} the model's numbers overflow (its own states are some \
         hundreds or thousands long). Choose a smaller coefficient"
    )]
    TooLong { layer: Layer, length: f64 },
}

/// The longest change of a layer's residual. The square of a row's length has to fit an f32 with room to spare, and no
/// model's residual comes near it.
pub const LONGEST_PUSH: f64 = 1e12;

/// Ablations and clamps that may act at one layer of one plan.
pub const MAX_CLAMPS: usize = 4;

/// Which tokens a term acts on. The response starts with the last prompt token, which produces
/// the first response token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    #[default]
    All,
    Prompt,
    Response,
}

/// Effect of a term on the residual `h` with the layer's row `v` (`v̂ = v/‖v‖`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Operation {
    /// `h ← h + α v`, `v` as it is, not normalised (persona vectors, section 3.2).
    Add { coefficient: f32 },
    /// `h ← h − (h·v̂) v̂`; never on the first token.
    Ablate,
    /// Limits `h·v̂` to `low..=high`; never on the first token.
    Clamp { low: f32, high: f32 },
}

#[derive(Clone, Debug)]
pub struct Term {
    pub vector: LayerTable,
    pub layers: Vec<Layer>,
    pub operation: Operation,
    pub scope: Scope,
}

/// Which vectors, at which layers, with which coefficient, on which tokens, by which operation.
#[derive(Clone, Debug, Default)]
pub struct SteeringPlan {
    pub terms: Vec<Term>,
    /// Adapters that act on every token, each with its own scale; one of scale 0 does nothing at all.
    pub adapters: Vec<AdapterTerm>,
}

/// The side of the conversation that a plan counts a token to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenRole {
    Prompt,
    /// The last prompt token and everything after it.
    Response,
}

/// The change at one layer: `h ← h + add`, then every clamp's component of that sum is limited,
/// all components being measured before any of them is changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerChange {
    /// `[d]`, or empty for no addition.
    pub add: Vec<f32>,
    pub clamps: Vec<Clamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Clamp {
    /// `[d]`, of length one.
    pub direction: Vec<f32>,
    pub low: f32,
    pub high: f32,
}

/// One plan as it acts on one role of token: a change for each layer.
#[derive(Clone, Debug, PartialEq)]
pub struct ComposedChange {
    /// Changes of the residual stream, `[L+1]`; an untouched layer has an empty change.
    pub layers: Vec<LayerChange>,
    /// Changes at other places.
    pub in_blocks: BTreeMap<Site, LayerChange>,
    pub adapters: Vec<AdapterTerm>,
    pub fingerprint: Fingerprint,
}

impl ComposedChange {
    /// The change at `site`, if any.
    pub fn at(&self, site: Site) -> Option<&LayerChange> {
        match site.place {
            Place::Residual => self.layers.get(site.layer.index()),
            _ => self.in_blocks.get(&site),
        }
    }
}

/// Equal for equal effective plans. Two cached tokens are interchangeable only when their ids and
/// their fingerprints agree (and those of everything before them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// No effective term.
    pub const UNSTEERED: Self = Self(0);
}

impl SteeringPlan {
    /// Whether nothing is named that could act.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.adapters.is_empty()
    }

    /// The terms that act on tokens of `role` composed for a model of `layer_rows = L+1` rows of
    /// `width = d`. `None` when nothing acts: `α = 0` and no plan are the same.
    pub fn compose(
        &self,
        role: TokenRole,
        layer_rows: usize,
        width: usize,
    ) -> Result<Option<ComposedChange>, PlanError> {
        let mut layers = vec![LayerChange::default(); layer_rows];
        let mut in_blocks = BTreeMap::<Site, LayerChange>::new();
        let mut hasher = DefaultHasher::new();
        let mut acts = false;
        for term in &self.terms {
            term.check(layer_rows, width)?;
            if !term.acts_on(role) {
                continue;
            }
            acts = true;
            term.hash_into(&mut hasher);
            for &layer in &term.layers {
                let place = term.vector.place;
                let change = match place {
                    Place::Residual => &mut layers[layer.index()],
                    _ => in_blocks.entry(Site { layer, place }).or_default(),
                };
                let row = term.vector.row(layer);
                match term.operation {
                    Operation::Add { coefficient } => {
                        change.add.resize(row.len(), 0.0);
                        change
                            .add
                            .iter_mut()
                            .zip(row)
                            .for_each(|(sum, v)| *sum += coefficient * v);
                    }
                    Operation::Ablate => change.push_clamp(row, 0.0, 0.0)?,
                    Operation::Clamp { low, high } => change.push_clamp(row, low, high)?,
                }
            }
        }
        let mut adapters = Vec::new();
        for term in &self.adapters {
            if !term.scale.is_finite() {
                return Err(PlanError::Coefficient(term.scale));
            }
            if term.scale != 0.0 {
                acts = true;
                (3_u8, term.adapter.hash(), term.scale.to_bits()).hash(&mut hasher);
                adapters.push(term.clone());
            }
        }
        let elsewhere = in_blocks.iter().map(|(site, change)| (site.layer, change));
        for (layer, change) in (0..).map(Layer).zip(&layers).chain(elsewhere) {
            let length = change.length();
            if length > LONGEST_PUSH || length.is_nan() {
                return Err(PlanError::TooLong { layer, length });
            }
        }
        let fingerprint = Fingerprint(hasher.finish().max(1));
        Ok(acts.then_some(ComposedChange {
            layers,
            in_blocks,
            adapters,
            fingerprint,
        }))
    }
}

impl LayerChange {
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.clamps.is_empty()
    }

    /// The longest that its addition, or a component that a clamp asks for, may be.
    fn length(&self) -> f64 {
        let squares = self.add.iter().map(|&v| f64::from(v) * f64::from(v));
        let added = squares.sum::<f64>().sqrt();
        let asked = |clamp: &Clamp| f64::from(clamp.low.max(-clamp.high).max(0.0));
        let asked = self.clamps.iter().map(asked).fold(0.0, f64::max);
        // In this order NaN stays NaN.
        if asked > added { asked } else { added }
    }

    fn push_clamp(&mut self, row: &[f32], low: f32, high: f32) -> Result<(), PlanError> {
        let norm = row
            .iter()
            .map(|&v| f64::from(v) * f64::from(v))
            .sum::<f64>()
            .sqrt();
        if norm == 0.0 {
            return Ok(());
        }
        if self.clamps.len() == MAX_CLAMPS {
            return Err(PlanError::TooManyClamps);
        }
        let direction = row.iter().map(|&v| (f64::from(v) / norm) as f32).collect();
        self.clamps.push(Clamp {
            direction,
            low,
            high,
        });
        Ok(())
    }
}

impl Term {
    fn acts_on(&self, role: TokenRole) -> bool {
        let in_scope = match self.scope {
            Scope::All => true,
            Scope::Prompt => role == TokenRole::Prompt,
            Scope::Response => role == TokenRole::Response,
        };
        let idle = matches!(self.operation, Operation::Add { coefficient: 0.0 });
        in_scope && !idle && !self.layers.is_empty()
    }

    fn check(&self, layer_rows: usize, width: usize) -> Result<(), PlanError> {
        let place = self.vector.place;
        let width = match place {
            Place::Residual | Place::AfterAttention => width,
            // Only the model's configuration knows: see `Engine`.
            Place::Heads => self.vector.width,
        };
        self.vector.check_shape(layer_rows, width)?;
        if place != Place::Residual && self.layers.contains(&Layer(0)) {
            return Err(PlanError::NoSuchPlace { place });
        }
        if let Some(&layer) = self.layers.iter().find(|layer| layer.index() >= layer_rows) {
            return Err(PlanError::NoSuchLayer {
                layer,
                last: layer_rows as u32 - 1,
            });
        }
        match self.operation {
            Operation::Add { coefficient } if !coefficient.is_finite() => {
                Err(PlanError::Coefficient(coefficient))
            }
            Operation::Clamp { low, high } if low.is_nan() || high.is_nan() || low > high => {
                Err(PlanError::Range { low, high })
            }
            _ => Ok(()),
        }
    }

    fn hash_into(&self, hasher: &mut DefaultHasher) {
        (self.vector.hash, self.vector.place).hash(hasher);
        self.layers.hash(hasher);
        match self.operation {
            Operation::Add { coefficient } => (0_u8, coefficient.to_bits(), 0).hash(hasher),
            Operation::Ablate => (1_u8, 0, 0).hash(hasher),
            Operation::Clamp { low, high } => (2_u8, low.to_bits(), high.to_bits()).hash(hasher),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(operation: Operation, scope: Scope) -> SteeringPlan {
        let vector = LayerTable::new(vec![1.0, 2.0, 3.0, 4.0], 2).unwrap();
        SteeringPlan {
            terms: vec![Term {
                vector,
                layers: vec![Layer(1)],
                operation,
                scope,
            }],
            ..SteeringPlan::default()
        }
    }

    #[test]
    fn a_zero_coefficient_is_no_plan() {
        let plan = plan(Operation::Add { coefficient: 0.0 }, Scope::All);
        assert!(plan.compose(TokenRole::Prompt, 2, 2).unwrap().is_none());
    }

    #[test]
    fn a_push_that_would_overflow_is_refused() {
        let asked = [
            Operation::Add { coefficient: 1e30 },
            // The row times it is infinite.
            Operation::Add {
                coefficient: f32::MAX,
            },
            Operation::Clamp {
                low: 1e30,
                high: f32::INFINITY,
            },
            Operation::Clamp {
                low: f32::NEG_INFINITY,
                high: -1e30,
            },
        ];
        for operation in asked {
            let composed = plan(operation, Scope::All).compose(TokenRole::Prompt, 2, 2);
            let error = composed.unwrap_err();
            assert!(
                matches!(
                    error,
                    PlanError::TooLong {
                        layer: Layer(1),
                        ..
                    }
                ),
                "{error}"
            );
        }
        let open = Operation::Clamp {
            low: f32::NEG_INFINITY,
            high: f32::INFINITY,
        };
        assert!(
            plan(open, Scope::All)
                .compose(TokenRole::Prompt, 2, 2)
                .is_ok()
        );
    }

    #[test]
    fn a_response_term_leaves_the_prompt_alone() {
        let plan = plan(Operation::Add { coefficient: 2.0 }, Scope::Response);
        assert!(plan.compose(TokenRole::Prompt, 2, 2).unwrap().is_none());
        let change = plan.compose(TokenRole::Response, 2, 2).unwrap().unwrap();
        assert!(change.layers[0].is_empty());
        assert_eq!(change.layers[1].add, [6.0, 8.0]);
    }

    #[test]
    fn fingerprints_tell_coefficients_apart() {
        let of = |c| {
            let plan = plan(Operation::Add { coefficient: c }, Scope::All);
            plan.compose(TokenRole::Prompt, 2, 2)
                .unwrap()
                .unwrap()
                .fingerprint
        };
        assert_eq!(of(1.0), of(1.0));
        assert_ne!(of(1.0), of(1.5));
    }

    #[test]
    fn a_vector_of_another_model_is_refused() {
        let error = plan(Operation::Ablate, Scope::All)
            .compose(TokenRole::Prompt, 31, 576)
            .unwrap_err();
        assert!(error.to_string().contains("[31, 576]"), "{error}");
    }

    #[test]
    fn a_vector_with_nan_is_refused() {
        assert_eq!(
            LayerTable::new(vec![f32::NAN], 1).unwrap_err(),
            PlanError::NotFinite
        );
    }
}
