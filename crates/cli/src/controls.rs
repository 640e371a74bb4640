//! `trimtab controls`: what meaningless directions of the same length do where the vector is recommended.

use crate::model::read_bounded;
use crate::progress;
use crate::trials::{ScopeArgument, TrialArguments, print_neutral, print_outcome, write_whole};
use crate::vectors::{load_vector, open_vector, ready_made};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use trimtab_engine::{Engine, Layer};
use trimtab_persona::activations::Average;
use trimtab_persona::contrast_record::{ContrastRecord, Kept, MAX_RECORD_BYTES, Thresholds};
use trimtab_persona::control::LabelledMean;
use trimtab_persona::controls::{ControlReport, ControlSettings, Controls, Direction};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::extract::Side;
use trimtab_persona::making::read_response;
use trimtab_persona::plan::relative_dose;
use trimtab_persona::recommendation::RangeCriteria;
use trimtab_persona::vector_making::sort;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    trials: TrialArguments,
    /// The responses that made the vector, for shuffled labels [default: NAME.contrast beside the vector file, if there]
    #[arg(long, value_name = "FILE.contrast")]
    contrast: Option<PathBuf>,
    /// The layer [default: the one that the vector file recommends]
    #[arg(long, value_name = "LAYER")]
    layer: Option<u32>,
    /// The relative dose, above 0 [default: the end of the range that the vector file recommends]
    #[arg(long, value_name = "D", allow_hyphen_values = true)]
    dose: Option<f64>,
    /// Another trait's vector [default: a ready-made one of another name]
    #[arg(long, value_name = "NAME")]
    other: Option<String>,
    /// Which tokens are pushed
    #[arg(long, default_value = "response")]
    scope: ScopeArgument,
    /// Open the range in the vector file against the trait, as far as the flipped push left the text whole
    #[arg(long)]
    store: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let trials = &arguments.trials;
    let pack = trials.pack()?;
    let (path, _, mut file) = open_vector(&trials.vector)?;
    let known = trials.open_report()?;
    let seen = trials.seen(&pack, &file);
    let chat = trials.model.chat()?;
    let usual = ControlSettings::brief(&pack, &seen, 1, 1.0);
    let max_tokens = trials.max_tokens.unwrap_or(usual.max_tokens);
    let questions = trials.questions.unwrap_or(usual.material.questions.len());
    let mut engine = trials.engine(questions, max_tokens)?;
    let vector = load_vector(&trials.vector, &engine)?;
    let recommended = vector.recommended.as_ref();
    let layer = arguments
        .layer
        .or_else(|| recommended.and_then(|found| found.layers.first().copied()))
        .context("the vector file recommends no layer; sweep it with --store first, or give --layer and --dose")?;
    ensure!(
        (layer as usize) < engine.layer_rows(),
        "layer {layer} does not exist: this model has layers 0 to {}",
        engine.last_layer().0
    );
    let whole = recommended.and_then(|found| relative_dose(&vector, found.max, &[Layer(layer)]));
    let dose = arguments.dose.or(whole.map(f64::from)).context(
        "the vector file recommends no range; sweep it with --store first, or give --dose",
    )?;
    ensure!(dose.is_finite() && dose > 0.0, "the dose must be above 0");
    let mut settings = ControlSettings {
        max_tokens,
        scope: arguments.scope.into(),
        coherence: trials.coherence()?,
        whole_up_to: whole.map(f64::from).filter(|_| arguments.layer.is_none()),
        ..ControlSettings::brief(&pack, &seen, layer, dose)
    };
    let first = settings.material.questions.first().copied().unwrap_or(0);
    trials.adjust(&pack, &seen, first, &mut settings.material)?;
    if let Some(samples) = trials.neutral_samples {
        settings.neutral_samples = samples;
    }
    let other = arguments
        .other
        .clone()
        .or_else(|| ready_made().into_iter().find(|name| *name != pack.name));
    let other = other.map(|name| load_vector(&name, &engine)).transpose()?;
    let means = match contrast_file(arguments, &path) {
        Some(path) => {
            let thresholds = known.map_or_else(Thresholds::default, |known| known.thresholds);
            let sha256 = trials.model.weights_sha256()?;
            read_means(&mut engine, &chat, &path, &sha256, &thresholds)?
        }
        None => Vec::new(),
    };
    let labelled: Vec<LabelledMean<'_>> = means
        .iter()
        .map(|(side, question, values)| LabelledMean {
            side: *side,
            question: *question,
            values,
        })
        .collect();
    let made_of = vec![
        vector.hash.clone(),
        other
            .as_ref()
            .map_or(String::new(), |other| other.hash.clone()),
        format!("{settings:?} {}", means.len()),
    ];
    let (controls, setup) = Controls::new(&pack, &vector, &labelled, other.as_ref(), settings)?;
    let records = trials.run(&mut engine, &chat, setup.clone(), &made_of)?;
    let report = controls.report(&setup, &records)?;
    if let (true, Some(before)) = (arguments.store, &vector.recommended) {
        let usual = RangeCriteria::default();
        let opened = report.with_flipped_side(before, usual.max_incoherent);
        file.metadata.recommended = Some(opened);
        write_whole(&path, &file.to_bytes()?)?;
    }
    trials.add_to_report(|whole| whole.controls = Some((&report).into()))?;
    if trials.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report, trials.texts);
    }
    Ok(())
}

fn contrast_file(arguments: &Arguments, vector: &Path) -> Option<PathBuf> {
    let beside = vector.with_extension("contrast");
    arguments
        .contrast
        .clone()
        .or_else(|| beside.exists().then_some(beside))
}

/// The response-averaged residual of every response that counts, with its side and question.
fn read_means(
    engine: &mut Engine,
    chat: &ChatText,
    path: &Path,
    model_sha256: &str,
    thresholds: &Thresholds,
) -> Result<Vec<(Side, usize, Vec<f32>)>> {
    let named = || path.display().to_string();
    let bytes = read_bounded(path, MAX_RECORD_BYTES as u64)?;
    let record = ContrastRecord::parse(&bytes).with_context(named)?;
    record.is_of(model_sha256).with_context(named)?;
    let kept = sort(&record, thresholds).with_context(named)?;
    let kept: Vec<usize> = (0..kept.len())
        .filter(|at| kept[*at] == Kept::Kept)
        .collect();
    let mut means = Vec::with_capacity(kept.len());
    for (done, &at) in kept.iter().enumerate() {
        progress::show(&format!("reading the responses: {done} of {}", kept.len()));
        let place = record.settings.place(at);
        let averages = pollster::block_on(read_response(engine, chat, &record, at))?;
        means.push((
            place.side,
            place.question,
            averages.table(Average::Response).to_vec(),
        ));
    }
    progress::finish();
    Ok(means)
}

fn print(report: &ControlReport, texts: bool) {
    print_neutral(&report.neutral);
    println!(
        "layer {}, dose {:.2} (coefficient {:.2})",
        report.layer, report.dose, report.coefficient
    );
    for row in &report.rows {
        let label = match &row.direction {
            Direction::Vector => "the vector".into(),
            Direction::Flipped => "its sign flipped".into(),
            Direction::Shuffled(seed) => format!("shuffled labels {seed}"),
            Direction::Random(seed) => format!("random {seed}"),
            Direction::Other(name) => format!("the vector {name}"),
        };
        print_outcome(&format!("{label:18}"), &row.outcome, texts);
    }
    println!("{}", report.verdict.sentence);
    report
        .caveats
        .iter()
        .for_each(|caveat| println!("{caveat}"));
}
