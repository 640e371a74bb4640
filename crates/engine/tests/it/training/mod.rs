//! Training against PyTorch and PEFT (`tests/golden/training.py`) on tiny random models of every family, by both kinds of kernels.

mod default_checkpoint;
mod gradients;
mod run;

use crate::golden::{Tensors, norm};
use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use std::ops::Range;
use trimtab_checkpoint::family::Family;
use trimtab_checkpoint::{ModelConfig, WeightFile};
use trimtab_engine::sampling::pcg;
use trimtab_engine::train::adapter::NamedTensor;
use trimtab_engine::train::{
    Adapter, AdapterConfig, BaseModel, Example, OptimiserSettings, Penalty, Settings, StepReport,
    Target, Trainer, kernels,
};
use trimtab_engine::{
    Backend, Layer, LayerTable, Operation, Place, Scope, SteeringPlan, Term, TokenId,
};
use trimtab_testing::files::golden_json;

/// Of a gradient's tensor, relative to its length.
const TOLERANCE: f64 = 1e-3;
/// How large both factors are whose gradients are compared.
const RANDOM: [f32; 2] = [0.3, 0.3];
const BACKENDS: [Backend; 2] = [Backend::Reference, Backend::Cpu];

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    run: Run,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: serde_json::Value,
    adapter: Config,
    examples: Vec<Text>,
    plan: Vec<GoldenTerm>,
    penalty: Option<GoldenPenalty>,
    loss: f64,
    penalty_loss: f64,
    names: u32,
}

#[derive(Deserialize)]
struct Run {
    config: serde_json::Value,
    adapter: Config,
    examples: Vec<Text>,
    #[serde(flatten)]
    steps: Steps,
}

/// Steps of AdamW through the examples in order, and the loss of each.
#[derive(Deserialize)]
struct Steps {
    steps: u32,
    examples_a_step: usize,
    learning_rate: f32,
    weight_decay: f32,
    warmup_steps: u32,
    clip: f32,
    /// How large `A` begins; `B` is zero.
    initial: f32,
    losses: Vec<f64>,
}

impl Steps {
    fn settings(&self, examples: usize) -> Settings {
        Settings {
            epochs: self.steps * self.examples_a_step as u32 / examples as u32,
            examples_a_step: self.examples_a_step,
            shuffle: None,
            optimiser: OptimiserSettings {
                learning_rate: self.learning_rate,
                weight_decay: self.weight_decay,
                warmup_steps: self.warmup_steps,
                clip: Some(self.clip),
                ..OptimiserSettings::default()
            },
            ..Settings::default()
        }
    }
}

#[derive(Deserialize)]
struct Config {
    rank: usize,
    alpha: f32,
    rank_stabilised: bool,
    targets: Vec<Target>,
    blocks: [usize; 2],
}

impl Config {
    fn adapter(&self) -> AdapterConfig {
        let [start, end] = self.blocks;
        AdapterConfig {
            rank: self.rank,
            alpha: self.alpha,
            rank_stabilised: self.rank_stabilised,
            targets: self.targets.clone(),
            blocks: Range { start, end },
        }
    }
}

#[derive(Clone, Deserialize)]
struct Text {
    tokens: Vec<u32>,
    response: Vec<bool>,
}

#[derive(Deserialize)]
struct GoldenTerm {
    vector: String,
    layers: Vec<u32>,
    add: Option<f32>,
    clamp: Option<[f32; 2]>,
    #[serde(default)]
    scope: Scope,
    place: Option<String>,
}

#[derive(Deserialize)]
struct GoldenPenalty {
    vector: String,
    layer: u32,
    weight: f32,
}

/// The script's `fnv`.
fn fnv(text: &str) -> u32 {
    let hashed = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, hashed)
}

/// The script's `numbers`.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let seed = fnv(name);
    let number = |place: u32| (pcg(place.wrapping_add(seed)) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..count as u32).map(number).collect()
}

fn spread(name: &str, count: usize, spread: f32) -> Vec<f32> {
    let numbers = numbers(name, count);
    numbers.iter().map(|number| number * spread).collect()
}

/// The script's `random_model`; `change` may change a tensor's numbers by its name.
fn random_model(config: &serde_json::Value, change: impl Fn(&str, &mut Vec<f32>)) -> BaseModel {
    let config = ModelConfig::from_json(&serde_json::to_vec(config).unwrap()).unwrap();
    let tensors = Family::of(&config).unwrap().tensors(&config);
    let named: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|tensor| {
            let name = tensor.transposed.as_ref().unwrap_or(&tensor.name);
            let shape = match (tensor.vector, &tensor.transposed) {
                (true, _) => vec![tensor.cols],
                (_, Some(_)) => vec![tensor.cols, tensor.rows],
                _ => vec![tensor.rows, tensor.cols],
            };
            let count = shape.iter().product();
            let mut values = match tensor.vector {
                false => spread(name, count, (1.7 / (tensor.cols as f64).sqrt()) as f32),
                true => {
                    let gain = name.contains("norm") || name.contains("ln_");
                    let above = config.model_type.contains("gemma") || name.ends_with(".bias");
                    let centre = if gain && !above { 1.0 } else { 0.0 };
                    let offsets = spread(name, count, 0.3);
                    offsets.iter().map(|offset| centre + offset).collect()
                }
            };
            change(name, &mut values);
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (name.clone(), shape, bytes.collect())
        })
        .collect();
    let views = named.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).unwrap();
    block_on(async {
        let file = WeightFile::open(file).await.unwrap();
        BaseModel::load(&config, &file, &mut |_| ()).await.unwrap()
    })
}

/// With numbers from each factor's name, so large of `A` and of `B`.
fn adapter(model: &BaseModel, config: &Config, [a, b]: [f32; 2]) -> Adapter {
    let mut adapter = Adapter::empty(model, config.adapter()).unwrap();
    let empty = adapter.clone();
    for tensor in empty.named(empty.parameters()) {
        let count = tensor.values.len();
        let size = if tensor.name.contains("lora_A") { a } else { b };
        let values = spread(&tensor.name, count, size);
        adapter.set(&tensor.name, tensor.shape, &values).unwrap();
    }
    adapter
}

/// Every factor, in the order of their names, which the script's are in.
fn sorted<'a>(adapter: &'a Adapter, numbers: &'a [f32]) -> Vec<NamedTensor<'a>> {
    let mut factors: Vec<_> = adapter.named(numbers).collect();
    factors.sort_by(|a, b| a.name.cmp(&b.name));
    factors
}

fn examples(texts: &[Text]) -> Vec<Example> {
    let example = |text: &Text| Example {
        tokens: text.tokens.iter().copied().map(TokenId).collect(),
        response: text.response.clone(),
    };
    texts.iter().map(example).collect()
}

/// `[L+1, width]`
fn vectors(name: &str, model: &BaseModel, place: Place) -> LayerTable {
    let config = model.config();
    let layers = config.layers;
    let width = match place {
        Place::Heads => config.heads * config.head_dim,
        _ => config.hidden_size,
    };
    let of = match name {
        "increments" => "first",
        name => name,
    };
    let mut values = numbers(&format!("vector.{of}"), (layers + 1) * width);
    if name == "increments" {
        for at in (width..values.len()).rev() {
            values[at] -= values[at - width];
        }
    }
    LayerTable::new(values, width).unwrap().at(place)
}

impl GoldenTerm {
    fn term(&self, model: &BaseModel) -> Term {
        let operation = match (self.add, self.clamp) {
            (Some(coefficient), _) => Operation::Add { coefficient },
            (_, Some([0.0, 0.0])) => Operation::Ablate,
            (_, clamp) => {
                let [low, high] = clamp.unwrap();
                Operation::Clamp { low, high }
            }
        };
        let place = match self.place.as_deref() {
            Some("heads") => Place::Heads,
            Some("after_attention") => Place::AfterAttention,
            _ => Place::Residual,
        };
        Term {
            vector: vectors(&self.vector, model, place),
            layers: self.layers.iter().copied().map(Layer).collect(),
            operation,
            scope: self.scope,
        }
    }
}

impl Case {
    fn plan(&self, model: &BaseModel) -> SteeringPlan {
        let terms = self.plan.iter().map(|term| term.term(model));
        SteeringPlan {
            terms: terms.collect(),
            ..SteeringPlan::default()
        }
    }

    fn settings(&self, model: &BaseModel) -> Settings {
        let penalty = self.penalty.as_ref().map(|penalty| {
            let layer = Layer(penalty.layer);
            Penalty {
                layer,
                direction: vectors(&penalty.vector, model, Place::Residual)
                    .row(layer)
                    .to_vec(),
                weight: penalty.weight,
            }
        });
        Settings {
            epochs: 1,
            examples_a_step: self.examples.len(),
            shuffle: None,
            penalty,
            optimiser: OptimiserSettings {
                clip: None,
                ..OptimiserSettings::default()
            },
            ..Settings::default()
        }
    }

    fn trainer(&self, model: &BaseModel, settings: Settings, backend: Backend) -> Trainer {
        let adapter = adapter(model, &self.adapter, RANDOM);
        let plan = self.plan(model);
        let kernels = kernels(backend).unwrap();
        let examples = examples(&self.examples);
        Trainer::new(model.clone(), kernels, adapter, examples, &plan, settings).unwrap()
    }

    /// The step's report and the largest relative difference of a gradient's tensor, with its name.
    fn compare(
        &self,
        model: &BaseModel,
        settings: Settings,
        backend: Backend,
    ) -> (StepReport, f64, String) {
        let tensors = Tensors::open("training.safetensors");
        let mut trainer = self.trainer(model, settings, backend);
        let before = trainer.adapter().clone();
        let report = trainer.step().unwrap().unwrap();
        let (_, want) = tensors.get(&self.name);
        let mut rest = &want[..];
        let mut worst = (0.0, String::new());
        let factors = sorted(&before, trainer.gradient());
        for tensor in &factors {
            let (want, others) = rest.split_at(tensor.values.len());
            rest = others;
            let off = norm(tensor.values.iter().zip(want).map(|(got, want)| got - want));
            let off = off / norm(want.iter().copied());
            if off > worst.0 || off.is_nan() {
                worst = (off, tensor.name.clone());
            }
        }
        assert!(rest.is_empty(), "{}", self.name);
        let names = factors
            .iter()
            .map(|own| format!("{} {:?}", own.name, own.shape));
        let names: Vec<_> = names.collect();
        assert_eq!(fnv(&names.join("\n")), self.names, "{names:?}");
        (report, worst.0, worst.1)
    }

    fn named(name: &str) -> Self {
        let golden: Golden = golden_json("training.json");
        let mut cases = golden.cases.into_iter();
        cases.find(|case| case.name == name).unwrap()
    }
}
