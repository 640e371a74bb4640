//! Steering plans and penalties at the boundaries of a trained model.
//!
//! A plan acts on a row as [`crate::host`] lets it act in inference: a term adds its vector as it is on every token of its
//! scope, the first of a sequence included; ablation and clamping leave a first token alone.

use super::error::TrainError;
use super::example::Rows;
use super::kernels::TrainingKernels;
use super::model::BaseModel;
use crate::host::apply;
use crate::index::{Layer, Site};
use crate::steering::{ComposedChange, LayerChange, MAX_CLAMPS, SteeringPlan, TokenRole};

/// A plan composed for a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    prompt: Option<ComposedChange>,
    response: Option<ComposedChange>,
}

/// For each row whether each clamp moved it.
pub(super) type Clamped = Vec<[bool; MAX_CLAMPS]>;

impl Changes {
    pub fn of(plan: &SteeringPlan, model: &BaseModel) -> Result<Self, TrainError> {
        if !plan.adapters.is_empty() {
            return Err(TrainError::Settings {
                reason:
                    "an adapter is trained beside the base model alone, and the plan has another"
                        .into(),
            });
        }
        let config = model.config();
        let layer_rows = config.layers + 1;
        for term in &plan.terms {
            let site = Site {
                layer: Layer(0),
                place: term.vector.place(),
            };
            term.vector.check_shape(layer_rows, model.width_at(site))?;
        }
        let compose = |role| plan.compose(role, layer_rows, config.hidden_size);
        Ok(Self {
            prompt: compose(TokenRole::Prompt)?,
            response: compose(TokenRole::Response)?,
        })
    }

    fn at(&self, role: TokenRole, site: Site) -> Option<&LayerChange> {
        let change = match role {
            TokenRole::Prompt => self.prompt.as_ref(),
            TokenRole::Response => self.response.as_ref(),
        };
        let change = change?.at(site)?;
        (!change.is_empty()).then_some(change)
    }

    /// Calls `write` with all that the plan does, the same bytes in every build.
    pub fn describe(&self, write: &mut impl FnMut(&[u8])) {
        let numbers = |write: &mut dyn FnMut(&[u8]), numbers: &[f32]| {
            write(&(numbers.len() as u64).to_le_bytes());
            numbers
                .iter()
                .for_each(|number| write(&number.to_le_bytes()));
        };
        for composed in [&self.prompt, &self.response] {
            let Some(composed) = composed else {
                write(&[0]);
                continue;
            };
            for site in composed.in_blocks.keys() {
                write(format!("{site:?}").as_bytes());
            }
            for change in composed.layers.iter().chain(composed.in_blocks.values()) {
                numbers(write, &change.add);
                for clamp in &change.clamps {
                    numbers(write, &clamp.direction);
                    numbers(write, &[clamp.low, clamp.high]);
                }
            }
        }
    }

    pub fn act_at(&self, site: Site) -> bool {
        [TokenRole::Prompt, TokenRole::Response]
            .into_iter()
            .any(|role| self.at(role, site).is_some())
    }

    /// Changes `x` (`[rows, width]`), which lies at `site`.
    pub fn apply(
        &self,
        site: Site,
        rows: &Rows,
        x: &mut [f32],
        kernels: &dyn TrainingKernels,
    ) -> Clamped {
        let width = x.len() / rows.count();
        let mut clamped = vec![[false; MAX_CLAMPS]; rows.count()];
        for (index, x) in x.chunks_mut(width).enumerate() {
            let Some(change) = self.at(rows.roles[index], site) else {
                continue;
            };
            let first = rows.positions[index] == 0;
            let components = apply(change, first, x, |a, b| kernels.dot(a, b));
            let limits = change.clamps.iter().zip(components);
            for (moved, (clamp, component)) in clamped[index].iter_mut().zip(limits) {
                let within = clamp.low < component && component < clamp.high;
                *moved = !first && !within;
            }
        }
        clamped
    }

    /// Makes of the derivative by what [`Self::apply`] left the derivative by what it was given. An addition changes nothing
    /// of it; a clamp that moved a row took from it what lay along its direction. With all components measured first,
    /// `h′ = h + Σ (limit_c(h·v_c) − h·v_c) v_c`, so that `dh = dh′ − Σ_moved v_c (v_c · dh′)`.
    pub fn backward(
        &self,
        site: Site,
        rows: &Rows,
        clamped: &Clamped,
        dx: &mut [f32],
        kernels: &dyn TrainingKernels,
    ) {
        let width = dx.len() / rows.count();
        for (index, dx) in dx.chunks_mut(width).enumerate() {
            let Some(change) = self.at(rows.roles[index], site) else {
                continue;
            };
            let mut components = [0.0; MAX_CLAMPS];
            for (component, clamp) in components.iter_mut().zip(&change.clamps) {
                *component = kernels.dot(dx, &clamp.direction);
            }
            let moved = change
                .clamps
                .iter()
                .zip(clamped[index])
                .zip(components)
                .filter(|((_, moved), _)| *moved);
            for ((clamp, _), component) in moved {
                let along = dx.iter_mut().zip(&clamp.direction);
                along.for_each(|(dx, v)| *dx -= component * v);
            }
        }
    }
}

/// `λ · ((h − h_base) · v̂)²` for every response token, `h_base` being the state of the base model under the same plan: what a
/// training against a shift along `v` adds to the loss, averaged over response tokens as the loss is (the regularisation that
/// the persona vectors paper compares preventative steering with).
#[derive(Clone, Debug, PartialEq)]
pub struct Penalty {
    pub layer: Layer,
    /// `[d]`, of any length but zero.
    pub direction: Vec<f32>,
    /// `λ`
    pub weight: f32,
}

impl Penalty {
    /// The same with a direction of length one.
    ///
    /// # Errors
    /// A direction of another width or of length zero, a weight that is negative or not finite, and a layer that no adapter
    /// reaches, because the block below it and all further down are as in the base model.
    pub(super) fn checked(
        mut self,
        model: &BaseModel,
        lowest_block: usize,
    ) -> Result<Self, TrainError> {
        let refused = |reason: String| Err(TrainError::Settings { reason });
        let (width, layers) = (model.config().hidden_size, model.config().layers);
        let squares = self.direction.iter().map(|v| f64::from(*v) * f64::from(*v));
        let length = squares.sum::<f64>().sqrt();
        if self.direction.len() != width || !length.is_finite() || length == 0.0 {
            return refused(format!(
                "the penalty's direction must be {width} numbers that are not all zero"
            ));
        }
        if !self.weight.is_finite() || self.weight < 0.0 {
            return refused(format!(
                "the penalty's weight is {}; it must be 0 or more",
                self.weight
            ));
        }
        let index = self.layer.index();
        if index <= lowest_block || index > layers {
            return refused(format!(
                "the penalty is on {}; an adapter from block {lowest_block} on moves layers {} to {layers}",
                self.layer,
                lowest_block + 1
            ));
        }
        let direction = self.direction.iter_mut();
        direction.for_each(|v| *v = (f64::from(*v) / length) as f32);
        Ok(self)
    }
}
