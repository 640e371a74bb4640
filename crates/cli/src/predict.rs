//! `trimtab predict`: does the reading of the last prompt token tell what the answer will be like?

use crate::output::print_json;
use crate::study::{StudyArguments, print_unsteered};
use crate::vectors::{load_vector, ready_made};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use trimtab_engine::Layer;
use trimtab_persona::bootstrap::Estimate;
use trimtab_persona::controls::cosines;
use trimtab_persona::prediction::PredictionReport;
use trimtab_persona::trait_vector::TraitVector;
use trimtab_studio::session::Session;
use trimtab_studio::studies::PredictRequest;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    study: StudyArguments,
    /// The layer that is read [default: the one that the vector file recommends, else one a little past the middle]
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
    let study = &arguments.study;
    let (subject, _, tensor) = study.subject()?;
    study.open_report()?;
    let mut session = study.session(8)?;
    let request = PredictRequest {
        subject,
        layer: arguments.layer,
        study: study.settings(tensor, None)?,
    };
    let prediction = study.wait(session.predict(request, &mut study.watch()))?;
    study.add_to_report(|whole| whole.prediction = Some(prediction.clone()))?;
    let vector = load_vector(&study.vector, &session)?;
    let report = Report {
        cosines: neighbours(&vector, &session, Layer(prediction.layer)),
        prediction,
    };
    if study.json {
        print_json(&report)?;
    } else {
        print(&report);
    }
    Ok(())
}

/// Cosines with the ready-made traits that fit the model, the nearest first.
fn neighbours(vector: &TraitVector, session: &Session, layer: Layer) -> Vec<(String, f32)> {
    let others: Vec<TraitVector> = ready_made()
        .iter()
        .filter_map(|name| load_vector(name, session).ok())
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
    let detail = found.detail.as_ref();
    if let Some(detail) = detail {
        print_unsteered(&detail.unsteered);
    }
    let incoherent = detail.map_or(&[][..], |detail| &detail.incoherent);
    let counted = found.points.iter().map(|point| (point, ""));
    let others = incoherent
        .iter()
        .map(|point| (point, "  (incoherent, not counted)"));
    for (point, note) in counted.chain(others) {
        println!(
            "reading {:+8.2}  evidence {:+6.2}{note}  {:?} after {:?}",
            point.reading, point.evidence, point.question, point.system
        );
    }
    let number = |found: &Option<Estimate>| match found {
        Some(r) => format!("{:+.2} [{:+.2}, {:+.2}]", r.value, r.low, r.high),
        None => "too few answers".into(),
    };
    println!(
        "r pooled {}, within a system prompt {}",
        number(&found.pooled.estimate()),
        number(&found.within.estimate())
    );
    for (grade, r) in detail.iter().flat_map(|detail| &detail.by_grade) {
        println!("  {:16} {}", format!("{grade:?}"), number(r));
    }
    println!("{}", found.sentence);
    for (name, cosine) in &report.cosines {
        println!("cosine with {name}: {cosine:+.2}");
    }
    found.caveats.iter().for_each(|caveat| println!("{caveat}"));
}
