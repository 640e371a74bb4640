//! `trimtab sweep`: what a vector does to its trait at several layers and doses, and what it costs.

use crate::files::write;
use crate::model::named;
use crate::output::print_json;
use crate::study::{StudyArguments, print_outcome, print_unsteered};
use anyhow::{Result, anyhow};
use clap::Args;
use trimtab_engine::Scope;
use trimtab_persona::plan::parse_layers;
use trimtab_persona::sweep::SweepReport;
use trimtab_studio::studies::{SweepPlan, SweepRequest};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    study: StudyArguments,
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
    doses: Vec<f64>,
    /// Every layer, all layers at once, doses on both sides, every question and every unseen pair: hours
    #[arg(long)]
    thorough: bool,
    /// Which tokens are pushed; response: from the last prompt token on, so that prompts are read once
    #[arg(long, default_value = "response", value_parser = named::<Scope>(&["all", "response"]))]
    scope: Scope,
    /// Write the recommendation into the vector file, or take out the one that is there
    #[arg(long)]
    store: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let study = &arguments.study;
    let (subject, path, tensor) = study.subject()?;
    study.open_report()?;
    let layers = match &arguments.layers {
        Some(layers) => parse_layers(layers).map_err(|reason| anyhow!("--layers: {reason}"))?,
        None => Vec::new(),
    };
    let all = subject.pack.questions.evaluation.len();
    let mut session = study.session(if arguments.thorough { all } else { 8 })?;
    let mut plan = SweepPlan {
        layers: layers.iter().map(|layer| layer.0).collect(),
        doses: arguments.doses.clone(),
        all_layers: arguments.all_layers,
        thorough: Some(arguments.thorough),
        study: study.settings(tensor, Some(arguments.scope))?,
    };
    if arguments.thorough {
        plan.study.questions = plan.study.questions.or(Some(all));
        plan.study.pairs = plan.study.pairs.or(Some(usize::MAX));
    }
    let request = SweepRequest {
        subject,
        settings: plan,
    };
    let swept = study.wait(session.sweep(request, &mut study.watch()))?;
    if arguments.store {
        write(&path, &swept.vector)?;
    }
    study.add_to_report(|whole| whole.sweep = Some(swept.report.clone()))?;
    if study.json {
        print_json(&swept.report)?;
    } else {
        print(&swept.report, study.texts);
    }
    Ok(())
}

fn print(report: &SweepReport, texts: bool) {
    let detail = report.detail.as_ref();
    if let Some(detail) = detail {
        print_unsteered(&detail.unsteered);
    }
    for row in &report.rows {
        let label = format!(
            "{:18} dose {:+.2} (coefficient {:+6.2})",
            row.place(),
            row.dose,
            row.coefficient
        );
        print_outcome(&label, &row.outcome, texts);
    }
    println!("{}", report.sentence);
    let choice = detail.and_then(|detail| detail.choice.as_ref());
    if let (Some(found), Some(recommended)) = (choice, &report.recommended) {
        println!(
            "recommended: layer {}, coefficients {:.2} to {:.2}; compared at {} {:.3}",
            found.layer,
            recommended.range.min,
            recommended.range.max,
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
