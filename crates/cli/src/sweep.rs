//! `trimtab sweep`: what a vector does to its trait at several layers and doses, and what it costs.

use crate::model::{ModelArguments, read_bounded};
use crate::progress;
use crate::vectors::load_vector;
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use std::path::PathBuf;
use trimtab_engine::Layer;
use trimtab_persona::answers::AnswerSettings;
use trimtab_persona::plan::{parse_layers, relative_dose};
use trimtab_persona::sweep::{Sweep, SweepRow};
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, TraitPack};

/// Room for the longest system prompt and question of a trait pack, in tokens.
const PROMPT_TOKENS: usize = 1_024;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// The trait pack: its evaluation questions are asked
    #[arg(long, value_name = "TRAIT.json")]
    r#trait: PathBuf,
    /// A ready-made trait or a vector file
    #[arg(long, value_name = "NAME")]
    vector: String,
    /// LAYER[,LAYER…|a-b] pushed together; repeatable
    #[arg(long, value_name = "LAYERS", required = true)]
    layers: Vec<String>,
    /// Relative doses: the push as a share of the residual's median norm, summed over the layers
    #[arg(
        long,
        value_name = "D[,D…]",
        value_delimiter = ',',
        allow_hyphen_values = true,
        required = true
    )]
    doses: Vec<f32>,
    #[arg(long, value_name = "N", default_value_t = 8)]
    questions: usize,
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_tokens: usize,
    /// Instruction pairs that evidence is measured with, from the first on
    #[arg(long, value_name = "N", default_value_t = 2)]
    pairs: usize,
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u32,
    /// Also print the answers
    #[arg(long)]
    texts: bool,
    /// Print the rows as JSON, texts included
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.r#trait;
    let pack = TraitPack::parse(&read_bounded(path, MAX_PACK_BYTES as u64)?)
        .with_context(|| path.display().to_string())?;
    let chat = arguments.model.chat()?;
    let questions = arguments.questions.min(pack.questions.evaluation.len());
    let pairs: Vec<usize> = (0..arguments.pairs.min(pack.instructions.len())).collect();
    ensure!(
        questions > 0 && !pairs.is_empty(),
        "--questions and --pairs must be at least 1"
    );
    let mut engine = arguments.model.engine(
        Some(arguments.max_tokens.saturating_add(PROMPT_TOKENS)),
        questions + 2 * pairs.len() + 1,
    )?;
    let vector = load_vector(&arguments.vector, &engine)?;
    let settings = AnswerSettings {
        max_tokens: arguments.max_tokens,
        temperature: arguments.temperature,
        seed: arguments.seed,
        ..AnswerSettings::default()
    };
    let sweep = Sweep {
        pack: &pack,
        vector: &vector.table,
        questions,
        pairs,
        settings,
    };
    let mut plans: Vec<(Vec<Layer>, f32)> = vec![(vec![Layer(0)], 0.0)];
    for layers in &arguments.layers {
        let layers = parse_layers(layers).map_err(|reason| anyhow!("--layers: {reason}"))?;
        let unit = relative_dose(&vector, 1.0, &layers).filter(|unit| *unit > 0.0);
        let unit = unit.with_context(|| {
            format!(
                "{} has no calibration to measure doses by, or no such layer",
                vector.name
            )
        })?;
        plans.extend(
            arguments
                .doses
                .iter()
                .map(|dose| (layers.clone(), dose / unit)),
        );
    }
    let mut rows = Vec::new();
    for (done, (layers, coefficient)) in plans.iter().enumerate() {
        progress::show(&format!("sweeping: {done} of {} settings", plans.len()));
        let row = pollster::block_on(sweep.row(&mut engine, &chat, layers, *coefficient))?;
        progress::finish();
        if !arguments.json {
            print_row(&row, arguments.texts);
        }
        rows.push(row);
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&rows)?);
    }
    Ok(())
}

fn print_row(row: &SweepRow, texts: bool) {
    println!(
        "layers {:?} coefficient {:6.2}: evidence {:+.3} (deviation {:.3}) nats a token, unsteered nll {:.3}, distinct-2 {:.3}",
        row.layers, row.coefficient, row.evidence, row.evidence_deviation, row.nll, row.distinct_2
    );
    if texts {
        row.texts.iter().for_each(|text| println!("    {text:?}"));
    }
}
