//! Training against PyTorch and PEFT (`tests/golden/training.py`) on tiny random models of every family, by both kinds of kernels.

use crate::golden::{Tensors, norm};
use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use std::ops::Range;
use trimtab_checkpoint::family::Family;
use trimtab_checkpoint::{FileSource, ModelConfig, WeightFile};
use trimtab_engine::sampling::pcg;
use trimtab_engine::train::{
    Adapter, AdapterConfig, BaseModel, Example, OptimiserSettings, Penalty, Settings, StepReport,
    Target, TrainError, Trainer, TrainingState, kernels,
};
use trimtab_engine::{Backend, Layer, LayerTable, Operation, Scope, SteeringPlan, Term, TokenId};
use trimtab_testing::default_model;
use trimtab_testing::files::golden_json;

/// Of a gradient's tensor, relative to its length.
const TOLERANCE: f64 = 1e-3;
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
}

#[derive(Deserialize)]
struct Run {
    config: serde_json::Value,
    adapter: Config,
    examples: Vec<Text>,
    steps: u32,
    examples_a_step: usize,
    learning_rate: f32,
    weight_decay: f32,
    warmup_steps: u32,
    clip: f32,
    initial: f32,
    losses: Vec<f64>,
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
}

#[derive(Deserialize)]
struct GoldenPenalty {
    vector: String,
    layer: u32,
    weight: f32,
}

/// The script's `numbers`.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
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

/// With numbers from each factor's name: of both, or with `initial` of `A` alone, so large.
fn adapter(model: &BaseModel, config: &Config, initial: Option<f32>) -> Adapter {
    let mut adapter = Adapter::empty(model, config.adapter()).unwrap();
    let empty = adapter.clone();
    for tensor in empty.named(empty.parameters()) {
        let count = tensor.values.len();
        let values = match initial {
            None => spread(&tensor.name, count, 0.3),
            Some(size) if tensor.name.contains("lora_A") => spread(&tensor.name, count, size),
            Some(_) => vec![0.0; count],
        };
        adapter.set(&tensor.name, tensor.shape, &values).unwrap();
    }
    adapter
}

fn examples(texts: &[Text]) -> Vec<Example> {
    let example = |text: &Text| Example {
        tokens: text.tokens.iter().copied().map(TokenId).collect(),
        response: text.response.clone(),
    };
    texts.iter().map(example).collect()
}

/// `[L+1, d]`
fn vectors(name: &str, model: &BaseModel) -> LayerTable {
    let (layers, width) = (model.config().layers, model.config().hidden_size);
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
    LayerTable::new(values, width).unwrap()
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
        Term {
            vector: vectors(&self.vector, model),
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
        }
    }

    fn settings(&self, model: &BaseModel) -> Settings {
        let penalty = self.penalty.as_ref().map(|penalty| {
            let layer = Layer(penalty.layer);
            Penalty {
                layer,
                direction: vectors(&penalty.vector, model).row(layer).to_vec(),
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
        let adapter = adapter(model, &self.adapter, None);
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
        let mut worst = (0.0, String::new());
        let mut compared = 0;
        for tensor in before.named(trainer.gradient()) {
            let (shape, want) = tensors.get(&format!("{}/{}", self.name, tensor.name));
            assert_eq!(shape, tensor.shape, "{}: {}", self.name, tensor.name);
            let off = norm(
                tensor
                    .values
                    .iter()
                    .zip(&want)
                    .map(|(got, want)| got - want),
            );
            let off = off / norm(want.iter().copied());
            compared += want.len();
            if off > worst.0 || off.is_nan() {
                worst = (off, tensor.name);
            }
        }
        assert_eq!(compared, trainer.gradient().len(), "{}", self.name);
        (report, worst.0, worst.1)
    }

    fn case(name: &str) -> Self {
        let golden: Golden = golden_json("training.json");
        let mut cases = golden.cases.into_iter();
        cases.find(|case| case.name == name).unwrap()
    }
}

#[test]
fn every_gradient_is_that_of_pytorch() {
    let golden: Golden = golden_json("training.json");
    for case in &golden.cases {
        let model = random_model(&case.config, |_, _| ());
        for backend in BACKENDS {
            let settings = case.settings(&model);
            let (report, off, tensor) = case.compare(&model, settings, backend);
            println!(
                "{}, {backend:?}: loss {:.6} ({:+.1e}), gradient off by {off:.1e} ({tensor})",
                case.name,
                report.loss,
                report.loss - case.loss
            );
            assert!(
                off <= TOLERANCE,
                "{}, {backend:?}: {tensor} is off by {off}",
                case.name
            );
            assert!(
                (report.loss - case.loss).abs() < 1e-4,
                "{}: {report:?}",
                case.name
            );
            assert!(
                (report.penalty - case.penalty_loss).abs() < 1e-4,
                "{}: {report:?}",
                case.name
            );
        }
    }
}

/// The comparison sees one weight of one matrix or one gain that is a tenth off.
#[test]
fn a_changed_weight_is_noticed() {
    let case = Case::case("llama");
    for changed in [
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.post_attention_layernorm.weight",
        "model.norm.weight",
    ] {
        let model = random_model(&case.config, |name, values| {
            if name == changed {
                let largest = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let place = values.iter().position(|x| x.abs() == largest).unwrap();
                values[place] *= 1.1;
            }
        });
        for backend in BACKENDS {
            let (_, off, _) = case.compare(&model, case.settings(&model), backend);
            assert!(off > TOLERANCE, "{changed}, {backend:?}: {off}");
        }
    }
}

/// Whether examples go through together or apart, and whether intermediate results are kept or computed again.
#[test]
fn how_it_is_computed_does_not_matter() {
    for name in ["llama_penalty", "llama_part"] {
        let case = Case::case(name);
        let model = random_model(&case.config, |_, _| ());
        for backend in BACKENDS {
            for (micro_batch_tokens, notes_bytes) in [(1, 0), (1, 1 << 30), (512, 0), (512, 20_000)]
            {
                let settings = Settings {
                    micro_batch_tokens,
                    notes_bytes,
                    ..case.settings(&model)
                };
                let (report, off, tensor) = case.compare(&model, settings, backend);
                assert!(off <= TOLERANCE, "{name}, {backend:?}: {tensor} {off}");
                assert!((report.loss - case.loss).abs() < 1e-4, "{report:?}");
                assert!(
                    (report.penalty - case.penalty_loss).abs() < 1e-4,
                    "{report:?}"
                );
            }
        }
    }
}

/// States below the lowest adapter are the same in every epoch, under a plan, too.
#[test]
fn states_that_were_kept_are_those_computed_again() {
    let case = Case::case("llama_part");
    let model = random_model(&case.config, |_, _| ());
    let push = GoldenTerm {
        vector: "increments".into(),
        layers: vec![0, 1, 2],
        add: Some(0.5),
        clamp: None,
        scope: Scope::All,
    };
    let plan = SteeringPlan {
        terms: vec![push.term(&model)],
    };
    let reports = |kept_bytes: usize, plan: &SteeringPlan| -> Vec<StepReport> {
        let settings = Settings {
            epochs: 4,
            examples_a_step: 1,
            shuffle: Some(3),
            kept_bytes,
            ..case.settings(&model)
        };
        let adapter = adapter(&model, &case.adapter, None);
        let kernels = kernels(Backend::Cpu).unwrap();
        let examples = examples(&case.examples);
        let trainer = Trainer::new(model.clone(), kernels, adapter, examples, plan, settings);
        let mut trainer = trainer.unwrap();
        std::iter::from_fn(|| trainer.step().unwrap()).collect()
    };
    let computed = reports(0, &plan);
    assert_eq!(computed.len(), 8);
    // Room for the states of one example, and for all.
    for kept_bytes in [40 * 4 * 12, 1 << 20] {
        assert_eq!(reports(kept_bytes, &plan), computed);
    }
    assert_ne!(reports(0, &SteeringPlan::default()), computed);
}

/// The gradient along a random direction against the difference of two losses.
#[test]
fn the_loss_changes_as_the_gradient_says() {
    for name in ["llama", "gpt2", "phi3", "olmo2", "llama_ablate"] {
        let case = Case::case(name);
        let model = random_model(&case.config, |_, _| ());
        let plan = case.plan(&model);
        for backend in BACKENDS {
            let mut trainer = case.trainer(&model, case.settings(&model), backend);
            let start = trainer.state();
            let direction = numbers("direction", start.parameters.len());
            let weights: Vec<f64> = examples(&case.examples)
                .iter()
                .map(|example| example.predicted() as f64)
                .collect();
            let loss = |trainer: &mut Trainer, length: f32| {
                let mut state = start.clone();
                let moved = state.parameters.iter_mut().zip(&direction);
                moved.for_each(|(x, d)| *x += length * d);
                trainer.resume(state).unwrap();
                let losses = examples(&case.examples);
                let losses = losses
                    .iter()
                    .map(|example| trainer.loss(example, &plan).unwrap().unwrap());
                let sum: f64 = losses
                    .zip(&weights)
                    .map(|(loss, weight)| loss * weight)
                    .sum();
                sum / weights.iter().sum::<f64>()
            };
            let length = 3e-3;
            let difference = loss(&mut trainer, length) - loss(&mut trainer, -length);
            let slope = difference / (2.0 * f64::from(length));
            trainer.resume(start.clone()).unwrap();
            trainer.step().unwrap();
            let products = trainer.gradient().iter().zip(&direction);
            let want: f64 = products.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            println!("{name}, {backend:?}: {slope:.5}, by the gradient {want:.5}");
            assert!(
                (slope - want).abs() < 0.01 * want.abs().max(0.1),
                "{name}, {backend:?}: {slope}, not {want}"
            );
        }
    }
}

/// The run of 50 steps, from where it was resumed; its losses, and what it learnt.
fn run(backend: Backend, interrupted: bool) -> (Vec<StepReport>, Adapter) {
    let run = golden_json::<Golden>("training.json").run;
    let model = random_model(&run.config, |_, _| ());
    let settings = Settings {
        epochs: run.steps * run.examples_a_step as u32 / run.examples.len() as u32,
        examples_a_step: run.examples_a_step,
        micro_batch_tokens: 24,
        shuffle: None,
        optimiser: OptimiserSettings {
            learning_rate: run.learning_rate,
            weight_decay: run.weight_decay,
            warmup_steps: run.warmup_steps,
            clip: Some(run.clip),
            ..OptimiserSettings::default()
        },
        ..Settings::default()
    };
    let trainer = || {
        Trainer::new(
            model.clone(),
            kernels(backend).unwrap(),
            adapter(&model, &run.adapter, Some(run.initial)),
            examples(&run.examples),
            &SteeringPlan::default(),
            settings.clone(),
        )
        .unwrap()
    };
    let mut trained = trainer();
    assert_eq!(trained.steps(), run.steps);
    let mut reports = Vec::new();
    while let Some(report) = trained.step().unwrap() {
        reports.push(report);
        if interrupted && report.step % 20 == 0 {
            // In the middle of the next step.
            trained.advance().unwrap();
            let state = trained.state().to_bytes();
            trained = trainer();
            trained
                .resume(TrainingState::from_bytes(&state).unwrap())
                .unwrap();
        }
    }
    (reports, trained.adapter().clone())
}

#[test]
fn fifty_steps_go_as_peft_goes() {
    let want = golden_json::<Golden>("training.json").run;
    let tensors = Tensors::open("training.safetensors");
    for backend in BACKENDS {
        let (reports, learnt) = run(backend, false);
        let mut worst = 0.0_f64;
        for (report, want) in reports.iter().zip(&want.losses) {
            worst = worst.max((report.loss - want).abs() / want);
        }
        // The cosine of all products B A together.
        let (mut both, mut own, mut other) = (0.0, 0.0, 0.0);
        for module in learnt.modules() {
            let factor = |name: &str| {
                tensors
                    .get(&format!(
                        "run/base_model.model.{}.lora_{name}.weight",
                        module.name
                    ))
                    .1
            };
            let got = product(learnt.a(module), learnt.b(module), want.adapter.rank);
            let want = product(&factor("A"), &factor("B"), want.adapter.rank);
            for (got, want) in got.iter().zip(&want) {
                both += got * want;
                own += got * got;
                other += want * want;
            }
        }
        let cosine = both / (own * other).sqrt();
        let last = reports.last().unwrap();
        println!(
            "{backend:?}: losses off by {worst:.1e}, 1 − cosine {:.1e}, {last:?}",
            1.0 - cosine
        );
        assert_eq!(reports.len(), want.losses.len());
        assert!(worst < 5e-3, "{backend:?}: a loss is off by {worst}");
        assert!(cosine > 0.999, "{backend:?}: {cosine}");
        assert!(
            last.loss < 0.2 * reports[0].loss,
            "{backend:?} learns little: {last:?}"
        );
    }
}

/// `B A`, `[outputs, inputs]`.
fn product(a: &[f32], b: &[f32], rank: usize) -> Vec<f64> {
    let inputs = a.len() / rank;
    let row = |b: &[f32], column: usize| -> f64 {
        let terms = b.iter().zip(a[column..].iter().step_by(inputs));
        terms.map(|(b, a)| f64::from(*b) * f64::from(*a)).sum()
    };
    let rows = b.chunks(rank);
    rows.flat_map(|b| (0..inputs).map(move |column| row(b, column)))
        .collect()
}

#[test]
fn a_run_that_was_interrupted_goes_on_to_the_same_bits() {
    let (whole, learnt) = run(Backend::Cpu, false);
    let (resumed, learnt_too) = run(Backend::Cpu, true);
    assert_eq!(whole, resumed);
    assert_eq!(learnt.parameters(), learnt_too.parameters());
}

#[test]
fn a_state_of_another_run_is_refused() {
    let case = Case::case("llama");
    let model = random_model(&case.config, |_, _| ());
    let state = case
        .trainer(&model, case.settings(&model), Backend::Cpu)
        .state();
    let others = Settings {
        epochs: 2,
        ..case.settings(&model)
    };
    let mut other = case.trainer(&model, others, Backend::Cpu);
    let told = other.resume(state).unwrap_err().to_string();
    assert!(told.contains("another run"), "{told}");
}

#[test]
fn what_cannot_be_trained_is_refused_in_words() {
    let case = Case::case("llama");
    let model = random_model(&case.config, |_, _| ());
    let refused = |texts: &[Text], settings: Settings| -> String {
        let adapter = adapter(&model, &case.adapter, None);
        let kernels = kernels(Backend::Cpu).unwrap();
        let plan = SteeringPlan::default();
        let made = Trainer::new(
            model.clone(),
            kernels,
            adapter,
            examples(texts),
            &plan,
            settings,
        );
        made.unwrap_err().to_string()
    };
    let text = |tokens: Vec<u32>, response: Vec<bool>| Text { tokens, response };
    let settings = || case.settings(&model);
    let told = refused(&[], settings());
    assert!(told.contains("nothing to learn"), "{told}");
    let told = refused(&[text(vec![3, 4], vec![true, false])], settings());
    assert!(told.contains("nothing to learn"), "{told}");
    let long = text(vec![3; 65], vec![true; 65]);
    let told = refused(&[case.examples[0].clone(), long], settings());
    assert!(told.starts_with("example 2 has 65 tokens"), "{told}");
    let told = refused(&[text(vec![3, 50], vec![false, true])], settings());
    assert!(told.contains("token 50"), "{told}");
    let mut penalised = settings();
    penalised.penalty = Some(Penalty {
        layer: Layer(0),
        direction: vec![1.0; 40],
        weight: 1.0,
    });
    let told = refused(&case.examples, penalised);
    assert!(told.contains("moves layers 1 to 2"), "{told}");
    let mut config = case.adapter.adapter();
    config.blocks = 1..3;
    let told = Adapter::new(&model, config, 0).unwrap_err().to_string();
    assert!(told.contains("which has 2"), "{told}");
}

/// A loss that grew beyond all bounds stops the run, and leaves the adapter as it was.
#[test]
fn numbers_beyond_all_bounds_stop_the_run() {
    let case = Case::case("llama");
    let model = random_model(&case.config, |_, _| ());
    let mut settings = case.settings(&model);
    settings.epochs = 40;
    settings.optimiser.learning_rate = 10.0;
    settings.optimiser.weight_decay = 10.0;
    let mut trainer = case.trainer(&model, settings, Backend::Cpu);
    let stopped = loop {
        let before = trainer.adapter().parameters().to_vec();
        match trainer.step() {
            Ok(report) => assert!(report.is_some(), "it never stopped"),
            Err(error) => {
                assert_eq!(before, trainer.adapter().parameters());
                break error;
            }
        }
    };
    assert!(matches!(stopped, TrainError::NotFinite { .. }), "{stopped}");
}

/// `tests/golden/training.py --gguf …`
#[derive(Deserialize)]
struct OfDefault {
    adapter: Config,
    examples: Vec<Text>,
    loss: f64,
    run: DefaultRun,
}

#[derive(Deserialize)]
struct DefaultRun {
    steps: u32,
    examples_a_step: usize,
    learning_rate: f32,
    weight_decay: f32,
    warmup_steps: u32,
    clip: f32,
    initial: f32,
    losses: Vec<f64>,
}

impl OfDefault {
    const FACTORS: [(&str, f32); 2] = [("lora_A", 0.05), ("lora_B", 0.02)];

    fn open() -> (Self, Tensors, BaseModel) {
        let path = default_model::directory().join("model.safetensors");
        let source = FileSource::open(&path).unwrap();
        let model = block_on(async {
            let file = WeightFile::open(source).await.unwrap();
            let config = default_model::config();
            BaseModel::load(&config, &file, &mut |_| ()).await.unwrap()
        });
        let tensors = Tensors::open("training_default.safetensors");
        (golden_json("training_default.json"), tensors, model)
    }

    fn adapter(&self, model: &BaseModel, [a, b]: [f32; 2]) -> Adapter {
        let mut adapter = Adapter::empty(model, self.adapter.adapter()).unwrap();
        let empty = adapter.clone();
        for tensor in empty.named(empty.parameters()) {
            let size = if tensor.name.contains("lora_A") { a } else { b };
            let values = spread(&tensor.name, tensor.values.len(), size);
            adapter.set(&tensor.name, tensor.shape, &values).unwrap();
        }
        adapter
    }
}

/// Products of a matrix with a few random vectors on both sides, as the script's `glimpse`.
fn glimpse(name: &str, [rows, cols]: [usize; 2], matrix: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    const COUNT: usize = 4;
    let left = numbers(&format!("{name}.left"), COUNT * rows);
    let right = numbers(&format!("{name}.right"), cols * COUNT);
    let mut out = vec![0.0; COUNT * COUNT];
    for row in 0..rows {
        let mut of_row = [0.0; COUNT];
        for col in 0..cols {
            let x = matrix(row, col);
            for (sum, right) in of_row.iter_mut().zip(&right[col * COUNT..]) {
                *sum += x * f64::from(*right);
            }
        }
        for (i, out) in out.chunks_mut(COUNT).enumerate() {
            let left = f64::from(left[i * rows + row]);
            out.iter_mut()
                .zip(of_row)
                .for_each(|(out, x)| *out += left * x);
        }
    }
    out
}

/// Every factor's gradient on the default checkpoint, by its norm and by what random vectors see of it.
#[test]
fn gradients_of_the_default_checkpoint_are_those_of_pytorch() {
    let (golden, tensors, model) = OfDefault::open();
    let adapter = golden.adapter(&model, OfDefault::FACTORS.map(|(_, size)| size));
    let settings = Settings {
        epochs: 1,
        examples_a_step: 2,
        shuffle: None,
        optimiser: OptimiserSettings {
            clip: None,
            ..OptimiserSettings::default()
        },
        ..Settings::default()
    };
    let own = examples(&golden.examples[..2]);
    let plan = SteeringPlan::default();
    let kernels = kernels(Backend::Cpu).unwrap();
    let mut trainer = Trainer::new(model, kernels, adapter.clone(), own, &plan, settings).unwrap();
    let report = trainer.step().unwrap().unwrap();
    assert!(
        (report.loss - golden.loss).abs() < 1e-4 * golden.loss,
        "{report:?}"
    );
    let mut worst = (0.0, String::new());
    for tensor in adapter.named(trainer.gradient()) {
        let (_, length) = tensors.get(&format!("norm/{}", tensor.name));
        let length = f64::from(length[0]);
        let (_, want) = tensors.get(&format!("gradient/{}", tensor.name));
        let cols = tensor.shape[1];
        let got = glimpse(&tensor.name, tensor.shape, |row, col| {
            f64::from(tensor.values[row * cols + col])
        });
        let off = got
            .iter()
            .zip(&want)
            .map(|(got, want)| (got - f64::from(*want)) as f32);
        let off = norm(off) / norm(want.iter().copied());
        let off = off.max((norm(tensor.values.iter().copied()) - length).abs() / length);
        if off > worst.0 || off.is_nan() {
            worst = (off, tensor.name);
        }
    }
    println!(
        "loss {:.6}, not {:.6}; gradients off by {:.1e} ({})",
        report.loss, golden.loss, worst.0, worst.1
    );
    assert!(worst.0 <= TOLERANCE, "{worst:?}");
}

/// About 10,000 trained tokens.
#[test]
#[ignore = "minutes: cargo xtask test --full native"]
fn fifty_steps_of_the_default_checkpoint_go_as_peft_goes() {
    let (golden, tensors, model) = OfDefault::open();
    let run = &golden.run;
    let adapter = golden.adapter(&model, [run.initial, 0.0]);
    let settings = Settings {
        epochs: run.steps * run.examples_a_step as u32 / golden.examples.len() as u32,
        examples_a_step: run.examples_a_step,
        shuffle: None,
        optimiser: OptimiserSettings {
            learning_rate: run.learning_rate,
            weight_decay: run.weight_decay,
            warmup_steps: run.warmup_steps,
            clip: Some(run.clip),
            ..OptimiserSettings::default()
        },
        ..Settings::default()
    };
    let own = examples(&golden.examples);
    let plan = SteeringPlan::default();
    let kernels = kernels(Backend::Cpu).unwrap();
    let mut trainer = Trainer::new(model, kernels, adapter, own, &plan, settings).unwrap();
    let mut worst = 0.0_f64;
    for want in &run.losses {
        let report = trainer.step().unwrap().unwrap();
        worst = worst.max((report.loss - want).abs() / want);
    }
    assert_eq!(trainer.step().unwrap(), None);
    let (learnt, rank) = (trainer.adapter(), golden.adapter.rank);
    let (mut both, mut own, mut other) = (0.0, 0.0, 0.0);
    for module in learnt.modules() {
        let name = format!("base_model.model.{}.lora_A.weight", module.name);
        let (_, want) = tensors.get(&format!("learnt/{name}"));
        let (a, b) = (learnt.a(module), learnt.b(module));
        let got = glimpse(&name, [module.outputs, module.inputs], |row, col| {
            let terms = b[row * rank..][..rank]
                .iter()
                .zip(a[col..].iter().step_by(module.inputs));
            terms.map(|(b, a)| f64::from(*b) * f64::from(*a)).sum()
        });
        for (got, want) in got.iter().zip(want.iter().map(|want| f64::from(*want))) {
            both += got * want;
            own += got * got;
            other += want * want;
        }
    }
    let cosine = both / (own * other).sqrt();
    println!("losses off by {worst:.1e}, 1 − cosine {:.1e}", 1.0 - cosine);
    assert!(worst < 5e-3, "a loss is off by {worst}");
    assert!(cosine > 0.999, "{cosine}");
}
