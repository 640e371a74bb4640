//! `trimtab predict`: does the reading of the last prompt token tell what the answer will be like?

use crate::trials::{TrialArguments, print_neutral};
use crate::vectors::{load_vector, open_vector, ready_made};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use trimtab_engine::{Engine, Layer};
use trimtab_persona::bootstrap::Estimate;
use trimtab_persona::controls::cosines;
use trimtab_persona::prediction::{Prediction, PredictionReport, PredictionSettings};
use trimtab_persona::trait_report::ReportedPrediction;
use trimtab_persona::trait_vector::TraitVector;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    trials: TrialArguments,
    /// The layer that is read [default: the one that the vector file recommends]
    #[arg(long, value_name = "LAYER")]
    layer: Option<u32>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    prediction: PredictionReport,
    /// Cosines with the ready-made traits at that layer, by name.
    cosines: Vec<(String, f32)>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let trials = &arguments.trials;
    let pack = trials.pack()?;
    let (_, _, file) = open_vector(&trials.vector)?;
    trials.open_report()?;
    let seen = trials.seen(&pack, &file);
    let chat = trials.model.chat()?;
    let questions = trials.questions.unwrap_or(8);
    ensure!(questions > 0, "--questions must be at least 1");
    let layer = arguments
        .layer
        .or_else(|| file.metadata.recommended.as_ref()?.layers.first().copied())
        .context(
            "the vector file recommends no layer; sweep it with --store first, or give --layer",
        )?;
    let mut settings = PredictionSettings::brief(&pack, &seen, Layer(layer), questions);
    settings.coherence = trials.coherence()?;
    if let Some(tokens) = trials.max_tokens {
        settings.answers.max_tokens = tokens;
    }
    if let Some(samples) = trials.neutral_samples {
        settings.neutral_samples = samples;
    }
    let mut engine = trials.engine(questions, settings.answers.max_tokens)?;
    ensure!(
        (layer as usize) < engine.layer_rows(),
        "layer {layer} does not exist: this model has layers 0 to {}",
        engine.last_layer().0
    );
    let vector = load_vector(&trials.vector, &engine)?;
    engine.set_directions(std::slice::from_ref(&vector.table))?;
    let made_of = vec![vector.hash.clone(), format!("{settings:?}")];
    let (prediction, setup) = Prediction::new(&pack, 0, settings)
        .context("the trait pack has no instruction pair to make system prompts of")?;
    let records = trials.run(&mut engine, &chat, setup.clone(), &made_of)?;
    let report = Report {
        prediction: prediction.report(&pack.name, &setup, &records)?,
        cosines: neighbours(&vector, &engine, Layer(layer)),
    };
    trials.add_to_report(|whole| {
        let calibration = vector.calibration.as_ref();
        whole.prediction = Some(ReportedPrediction::of(&report.prediction, calibration));
    })?;
    if trials.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Cosines with the ready-made traits that fit the model, the nearest first.
fn neighbours(vector: &TraitVector, engine: &Engine, layer: Layer) -> Vec<(String, f32)> {
    let others: Vec<TraitVector> = ready_made()
        .iter()
        .filter_map(|name| load_vector(name, engine).ok())
        .filter(|other| other.hash != vector.hash)
        .collect();
    let tables: Vec<_> = std::iter::once(&vector.table)
        .chain(others.iter().map(|other| &other.table))
        .collect();
    let found = cosines(&tables, layer);
    let mut named: Vec<(String, f32)> = others
        .iter()
        .map(|other| other.name.clone())
        .zip(found.into_iter().skip(1))
        .collect();
    named.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    named
}

fn print(report: &Report) {
    let found = &report.prediction;
    print_neutral(&found.neutral);
    for point in &found.points {
        println!(
            "{:16} question {:2}  reading {:+8.2}  evidence {:+6.2}{}",
            format!("{:?}", point.grade),
            point.question,
            point.reading,
            point.evidence,
            if point.coherent {
                ""
            } else {
                "  (incoherent, not counted)"
            },
        );
    }
    let number = |found: &Option<Estimate>| match found {
        Some(r) => format!("{:+.2} [{:+.2}, {:+.2}]", r.value, r.low, r.high),
        None => "too few answers".into(),
    };
    println!(
        "r pooled {}, within a system prompt {}",
        number(&found.pooled),
        number(&found.within)
    );
    for (grade, r) in &found.by_grade {
        println!("  {:16} {}", format!("{grade:?}"), number(r));
    }
    println!("{}", found.sentence);
    for (name, cosine) in &report.cosines {
        println!("cosine with {name}: {cosine:+.2}");
    }
    found.caveats.iter().for_each(|caveat| println!("{caveat}"));
}
