//! Low-rank adapters beside frozen matrices: `W x + s · B A x` (Hu et al., "LoRA", 2021), laid out, named and initialised as
//! the library PEFT does it.

use super::error::TrainError;
use super::model::BaseModel;
use crate::op::MatrixId;
use crate::sampling::pcg;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use trimtab_checkpoint::ModelConfig;
use trimtab_checkpoint::adapter::{factor_name, module_of};
use trimtab_checkpoint::family::{ModelWeight, WeightRole};

/// A matrix of a block that an adapter may lie beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Query,
    Key,
    Value,
    /// `W_o`
    Output,
    Gate,
    Up,
    Down,
}

impl Target {
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    fn of(role: WeightRole) -> Option<Self> {
        match role {
            WeightRole::Query => Some(Self::Query),
            WeightRole::Key => Some(Self::Key),
            WeightRole::Value => Some(Self::Value),
            WeightRole::AttentionOutput => Some(Self::Output),
            WeightRole::Gate => Some(Self::Gate),
            WeightRole::Up => Some(Self::Up),
            WeightRole::Down => Some(Self::Down),
            _ => None,
        }
    }
}

/// Which matrices get an adapter, and of which size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    pub rank: usize,
    pub alpha: f32,
    /// The scale is `α/√r` (Kalajdzievski, "A Rank Stabilization Scaling Factor", 2023) instead of `α/r`.
    pub rank_stabilised: bool,
    /// Where a family keeps several matrices in one tensor, a target brings in all of them: they share an `A`.
    pub targets: Vec<Target>,
    /// Zero-based blocks; block `i` turns layer `i` into layer `i + 1`.
    pub blocks: Range<usize>,
}

impl AdapterConfig {
    /// `s` of `W x + s · B A x`.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        match self.rank_stabilised {
            true => self.alpha / rank.sqrt(),
            false => self.alpha / rank,
        }
    }
}

/// One adapted tensor of the model: one matrix, or several whose rows lie in it one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The module's name on Hugging Face, `model.layers.3.self_attn.q_proj`.
    pub name: String,
    pub block: usize,
    /// Columns of the matrices.
    pub inputs: usize,
    /// Rows of all matrices.
    pub outputs: usize,
    /// Each matrix with the first of its rows.
    pub matrices: Vec<(MatrixId, usize)>,
    /// Where `A` (`[r, inputs]`) lies among the parameters.
    pub a: Range<usize>,
    /// Where `B` (`[outputs, r]`) lies among the parameters.
    pub b: Range<usize>,
}

/// A factor of a module as PEFT names it in its files.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor<'a> {
    pub name: String,
    pub shape: [usize; 2],
    pub values: &'a [f32],
}

/// An adapter of a model: what is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    config: AdapterConfig,
    modules: Vec<Module>,
    /// Of all modules, one after another, in f32.
    parameters: Vec<f32>,
}

impl Adapter {
    /// An adapter that changes nothing yet: `A` uniform in ±1/√inputs (PEFT's Kaiming-uniform with a = √5), a function of `seed`
    /// and the parameter's number alone; `B` zero.
    ///
    /// # Errors
    /// A rank of 0, a scale that is not finite, no target, or blocks that the model does not have.
    pub fn new(model: &BaseModel, config: AdapterConfig, seed: u32) -> Result<Self, TrainError> {
        let mut adapter = Self::empty(model, config)?;
        for module in &adapter.modules {
            let bound = 1.0 / (module.inputs as f32).sqrt();
            for index in module.a.clone() {
                let bits = pcg(index as u32 ^ pcg(seed)) >> 8;
                let uniform = bits as f32 / (1 << 23) as f32 - 1.0;
                adapter.parameters[index] = uniform * bound;
            }
        }
        Ok(adapter)
    }

    /// All parameters zero.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn empty(model: &BaseModel, config: AdapterConfig) -> Result<Self, TrainError> {
        check(&config, model.config())?;
        let mut modules: Vec<Module> = Vec::new();
        let mut parameters = 0;
        let matrices = &model.pass().matrices;
        let adapted = |weight: &&ModelWeight| {
            let tensor = matrices.iter().filter(|other| other.name == weight.name);
            let mut targets = tensor.filter_map(|weight| Target::of(weight.role));
            let here = weight
                .block
                .is_some_and(|block| config.blocks.contains(&block));
            here && targets.any(|target| config.targets.contains(&target))
        };
        let of_tensor = |name: &str| {
            let numbered = matrices.iter().enumerate();
            let own = numbered.filter(|(_, other)| other.name == name);
            own.map(|(id, other)| (MatrixId(id), other.first)).collect()
        };
        for weight in matrices.iter().filter(adapted) {
            // Matrices of one tensor follow each other, its first row first.
            if weight.first > 0 {
                continue;
            }
            let a = parameters..parameters + config.rank * weight.cols;
            let b = a.end..a.end + weight.of * config.rank;
            parameters = b.end;
            modules.push(Module {
                name: weight.module().to_owned(),
                block: weight.block.unwrap_or(0),
                inputs: weight.cols,
                outputs: weight.of,
                matrices: of_tensor(&weight.name),
                a,
                b,
            });
        }
        if modules.is_empty() {
            return Err(TrainError::Adapter {
                reason: "it names no matrix that this model has".into(),
            });
        }
        Ok(Self {
            config,
            modules,
            parameters: vec![0.0; parameters],
        })
    }

    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// In the order of the forward pass.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Of all modules; see [`Module::a`] and [`Module::b`].
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// `A` (`[r, inputs]`) of a module.
    pub fn a(&self, module: &Module) -> &[f32] {
        &self.parameters[module.a.clone()]
    }

    /// `B` (`[outputs, r]`) of a module.
    pub fn b(&self, module: &Module) -> &[f32] {
        &self.parameters[module.b.clone()]
    }

    /// The lowest zero-based block that is adapted.
    pub fn lowest_block(&self) -> usize {
        let blocks = self.modules.iter().map(|module| module.block);
        blocks.min().unwrap_or(0)
    }

    /// The module that `matrix` belongs to by its number, and the first of its rows there.
    pub(crate) fn module_of(&self, matrix: MatrixId) -> Option<(usize, usize)> {
        self.modules.iter().enumerate().find_map(|(index, module)| {
            let mut own = module.matrices.iter();
            let (_, first) = own.find(|(id, _)| *id == matrix)?;
            Some((index, *first))
        })
    }

    /// Every factor under PEFT's name for it in `adapter_model.safetensors`, of these numbers or of any laid out alike
    /// (gradients, say).
    pub fn named<'a>(&'a self, numbers: &'a [f32]) -> impl Iterator<Item = NamedTensor<'a>> {
        let rank = self.config.rank;
        self.modules.iter().flat_map(move |module| {
            let tensor = |factor: &str, shape, range: &Range<usize>| NamedTensor {
                name: factor_name(&module.name, factor),
                shape,
                values: &numbers[range.clone()],
            };
            [
                tensor("A", [rank, module.inputs], &module.a),
                tensor("B", [module.outputs, rank], &module.b),
            ]
        })
    }

    /// Replaces the factor of that PEFT name.
    ///
    /// # Errors
    /// A name that no module has, another shape, or a number that is not finite.
    pub fn set(&mut self, name: &str, shape: [usize; 2], values: &[f32]) -> Result<(), TrainError> {
        let refused = |reason: String| TrainError::Adapter { reason };
        let rank = self.config.rank;
        let found = module_of(name).and_then(|(named, which)| {
            let module = self.modules.iter().find(|module| module.name == named)?;
            Some(match which {
                0 => (module.a.clone(), [rank, module.inputs]),
                _ => (module.b.clone(), [module.outputs, rank]),
            })
        });
        let (range, want) = found.ok_or_else(|| {
            let name: String = name.chars().take(120).collect();
            refused(format!(
                "it has a tensor {name:?}, which belongs to no adapted matrix of this model"
            ))
        })?;
        if shape != want || values.len() != range.len() {
            return Err(refused(format!(
                "its tensor {name} has shape {shape:?}, this model needs {want:?}"
            )));
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(refused(format!(
                "its tensor {name} holds a number that is not finite"
            )));
        }
        self.parameters[range].copy_from_slice(values);
        Ok(())
    }
}

fn check(config: &AdapterConfig, model: &ModelConfig) -> Result<(), TrainError> {
    let refused = |reason: String| Err(TrainError::Adapter { reason });
    if config.rank == 0 {
        return refused("its rank is 0; choose 1 or more".into());
    }
    if !config.scale().is_finite() {
        return refused(format!("its α is {}, not a finite number", config.alpha));
    }
    let Range { start, end } = config.blocks;
    if start >= end || end > model.layers {
        let layers = model.layers;
        return refused(format!(
            "blocks {start} to {end} (without the last) are not blocks of this model, which has {layers}, numbered from 0"
        ));
    }
    Ok(())
}
