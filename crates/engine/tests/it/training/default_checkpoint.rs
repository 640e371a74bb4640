//! The same of the default checkpoint.

use super::*;
use trimtab_checkpoint::FileSource;
use trimtab_testing::default_model;

/// How large both factors are whose gradients are compared: small beside the weights of a trained model.
const SMALL: [f32; 2] = [0.05, 0.02];

/// `tests/golden/training.py --gguf …`
#[derive(Deserialize)]
struct OfDefault {
    adapter: Config,
    examples: Vec<Text>,
    loss: f64,
    run: Steps,
}

impl OfDefault {
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
    let adapter = adapter(&model, &golden.adapter, SMALL);
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
    let mut all = Vec::new();
    // The norm of a factor's gradient, then what random vectors see of it.
    let (shape, rows) = tensors.get("gradients");
    let factors = sorted(&adapter, trainer.gradient());
    assert_eq!(factors.len(), shape[0]);
    for (tensor, row) in factors.into_iter().zip(rows.chunks(shape[1])) {
        let (length, want) = (f64::from(row[0]), &row[1..]);
        let cols = tensor.shape[1];
        let got = glimpse(&tensor.name, tensor.shape, |row, col| {
            f64::from(tensor.values[row * cols + col])
        });
        let pairs = got.iter().zip(want);
        let off = norm(pairs.map(|(got, want)| (got - f64::from(*want)) as f32));
        let off = off / norm(want.iter().copied());
        let off = off.max((norm(tensor.values.iter().copied()) - length).abs() / length);
        all.push((off, tensor.name));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (worst, tensor) = &all[0];
    println!(
        "loss {:.6}, not {:.6}; gradients off by at most {worst:.1e} ({tensor}), half of them by {:.1e}",
        report.loss,
        golden.loss,
        all[all.len() / 2].0
    );
    assert!(*worst <= TOLERANCE, "{tensor} is off by {worst}");
}

/// About 10,000 trained tokens.
#[test]
#[ignore = "minutes: cargo xtask test --full native"]
fn fifty_steps_of_the_default_checkpoint_go_as_peft_goes() {
    let (golden, tensors, model) = OfDefault::open();
    let run = &golden.run;
    let adapter = adapter(&model, &golden.adapter, [run.initial, 0.0]);
    let settings = run.settings(golden.examples.len());
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
    let mut modules: Vec<_> = learnt.modules().iter().collect();
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    let (shape, rows) = tensors.get("learnt");
    assert_eq!(modules.len(), shape[0]);
    for (module, want) in modules.into_iter().zip(rows.chunks(shape[1])) {
        let name = format!("base_model.model.{}.lora_A.weight", module.name);
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
