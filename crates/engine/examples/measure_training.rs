//! How fast an adapter of a model is trained on the processor, and in how much memory: rank 8 on all seven matrices of the upper
//! blocks. Takes a model directory, the tokens of an example, the examples of a step, the steps, and perhaps the tokens of a
//! micro-batch; prints a line a step and the process's peak.

use std::path::PathBuf;
use std::time::Instant;

use trimtab_checkpoint::{FileSource, ModelConfig, WeightFile, manifest};
use trimtab_engine::sampling::pcg;
use trimtab_engine::train::{
    Adapter, AdapterConfig, BaseModel, Example, Settings, Target, Trainer, kernels,
};
use trimtab_engine::{Backend, SteeringPlan, TokenId};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|own| own.parse::<usize>().ok());
    let (Some(model), Some(tokens), Some(examples), Some(steps)) =
        (arguments.first(), number(1), number(2), number(3))
    else {
        return Err(
            "usage: measure_training MODEL_DIRECTORY TOKENS EXAMPLES STEPS [MICRO_BATCH_TOKENS]"
                .into(),
        );
    };
    let model = pollster::block_on(load(&PathBuf::from(model)))?;
    let layers = model.config().layers;
    let config = AdapterConfig {
        rank: 8,
        alpha: 16.0,
        rank_stabilised: false,
        targets: Target::ALL.to_vec(),
        blocks: layers * 8 / 30..layers,
    };
    let adapter = Adapter::new(&model, config, 0)?;
    // Arbitrary tokens, of which the last two thirds are a response.
    let vocabulary = model.config().vocab_size as u32;
    let example = |number: usize| Example {
        tokens: (0..tokens)
            .map(|at| TokenId(pcg((number * tokens + at) as u32) % vocabulary))
            .collect(),
        response: (0..tokens).map(|at| at >= tokens / 3).collect(),
    };
    let settings = Settings {
        epochs: steps as u32,
        examples_a_step: examples,
        micro_batch_tokens: number(4).unwrap_or(Settings::default().micro_batch_tokens),
        ..Settings::default()
    };
    let all = (0..examples).map(example).collect();
    let plan = SteeringPlan::default();
    let kernels = kernels(Backend::Cpu)?;
    let mut trainer = Trainer::new(model, kernels, adapter, all, &plan, settings)?;
    println!("{}", trainer.runs_on());
    let mut begun = Instant::now();
    while let Some(report) = trainer.step()? {
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "step {}: loss {:.4}, {:.1} tokens a second",
            report.step,
            report.loss,
            report.tokens as f64 / seconds
        );
        begun = Instant::now();
    }
    if let Some(peak) = peak() {
        println!("peak {peak}");
    }
    Ok(())
}

async fn load(model: &std::path::Path) -> Result<BaseModel, Failure> {
    let config = ModelConfig::from_json(&std::fs::read(model.join(manifest::CONFIG))?)?;
    let source = FileSource::open(&model.join(manifest::WEIGHTS))?;
    let file = WeightFile::open(source).await?;
    Ok(BaseModel::load(&config, &file, &mut |_| ()).await?)
}

/// The most memory that this process had, as Linux counts it.
fn peak() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().into())
}
