//! `trimtab sweep`: what a vector does to its trait at several layers and doses, and what it costs.

use crate::trials::{ScopeArgument, TrialArguments, print_neutral, print_outcome, write_whole};
use crate::vectors::{load_vector, open_vector};
use anyhow::{Result, anyhow, ensure};
use clap::Args;
use trimtab_persona::plan::parse_layers;
use trimtab_persona::push::Place;
use trimtab_persona::sweep::{Sweep, SweepReport, SweepSettings, place_name};
use trimtab_persona::trait_report::ReportedSweep;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    trials: TrialArguments,
    /// Layers to try, each by itself: LAYER[,LAYER…|a-b] [default: four in the middle]
    #[arg(long, value_name = "LAYERS")]
    layers: Option<String>,
    /// Also push all layers at once, each by its increment v_l − v_(l−1)
    #[arg(long)]
    all_layers: bool,
    /// Relative doses: the push as a share of the residual's median norm, summed over the layers; below 0: against the
    /// trait [default: 0.1,0.2,0.3]
    #[arg(
        long,
        value_name = "D[,D…]",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    doses: Option<Vec<f64>>,
    /// Every layer, all layers at once, doses on both sides, every question and every unseen pair: hours
    #[arg(long)]
    thorough: bool,
    /// Which tokens are pushed
    #[arg(long, default_value = "response")]
    scope: ScopeArgument,
    /// Write the recommendation into the vector file, or take out the one that is there
    #[arg(long)]
    store: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let trials = &arguments.trials;
    let pack = trials.pack()?;
    let (path, _, mut file) = open_vector(&trials.vector)?;
    let seen = trials.seen(&pack, &file);
    let layer_rows = trials.model.config()?.layers + 1;
    let mut settings = match arguments.thorough {
        true => SweepSettings::thorough(&pack, &seen, layer_rows),
        false => SweepSettings::brief(&pack, &seen, layer_rows),
    };
    trials.adjust(&pack, &seen, 0, &mut settings.material)?;
    settings.scope = arguments.scope.into();
    settings.coherence = trials.coherence()?;
    if let Some(samples) = trials.neutral_samples {
        settings.neutral_samples = samples;
    }
    if let Some(tokens) = trials.max_tokens {
        settings.answers.max_tokens = tokens;
    }
    if let Some(layers) = &arguments.layers {
        let layers = parse_layers(layers).map_err(|reason| anyhow!("--layers: {reason}"))?;
        settings.places = layers
            .into_iter()
            .map(|layer| Place::Layer(layer.0))
            .collect();
    }
    if arguments.all_layers && !settings.places.contains(&Place::AllLayers) {
        settings.places.push(Place::AllLayers);
    }
    if let Some(doses) = &arguments.doses {
        ensure!(
            doses.iter().all(|dose| dose.is_finite() && *dose != 0.0),
            "--doses: a dose is a number other than 0; the unsteered answers are always there"
        );
        settings.doses.clone_from(doses);
    }
    trials.open_report()?;
    let chat = trials.model.chat()?;
    let mut engine = trials.engine(
        settings.material.questions.len(),
        settings.answers.max_tokens,
    )?;
    let vector = load_vector(&trials.vector, &engine)?;
    let made_of = vec![vector.hash.clone(), format!("{:?}", settings)];
    let (sweep, setup) = Sweep::new(&pack, &vector, settings)?;
    let records = trials.run(&mut engine, &chat, setup.clone(), &made_of)?;
    let report = sweep.report(&setup, &records)?;
    if arguments.store {
        // Where nothing is recommended, what an earlier sweep or another vector had recommended must not stay.
        let found = report.recommendation.as_ref();
        file.metadata.recommended = found.map(|found| found.recommended.clone());
        write_whole(&path, &file.to_bytes()?)?;
    }
    trials.add_to_report(|whole| whole.sweep = Some(ReportedSweep::of(&report, layer_rows)))?;
    if trials.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report, trials.texts);
    }
    Ok(())
}

fn print(report: &SweepReport, texts: bool) {
    print_neutral(&report.neutral);
    for row in &report.rows {
        let setting = &row.setting;
        let label = format!(
            "{:18} dose {:+.2} (coefficient {:+6.2})",
            place_name(setting.place),
            setting.dose,
            setting.coefficient
        );
        print_outcome(&label, &row.outcome, texts);
    }
    println!("{}", report.sentence);
    if let Some(found) = &report.recommendation {
        println!(
            "recommended: layer {}, coefficients {:.2} to {:.2}; compared at {} {:.3}",
            found.layer,
            found.recommended.min,
            found.recommended.max,
            if found.choice.cost_is_kl {
                "a KL of"
            } else {
                "dose"
            },
            found.choice.equal_cost,
        );
    }
    report
        .caveats
        .iter()
        .for_each(|caveat| println!("{caveat}"));
}
