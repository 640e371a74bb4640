//! `trimtab controls`: what meaningless directions of the same length do where the vector is recommended.

use crate::extract::read_pairs;
use crate::files::{read_bounded, write};
use crate::model::named;
use crate::output::print_json;
use crate::study::{StudyArguments, print_outcome, print_unsteered};
use crate::vectors::{open_vector, ready_made};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};
use trimtab_engine::Scope;
use trimtab_persona::contrast_record::MAX_RECORD_BYTES;
use trimtab_persona::controls::ControlReport;
use trimtab_persona::vector_file::MAX_FILE_BYTES;
use trimtab_persona::verdict::{Finding, Verdict, WitnessKind};
use trimtab_studio::session::Session;
use trimtab_studio::studies::{ControlRequest, OtherVector, StandIn};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    study: StudyArguments,
    /// The responses that made the vector, for shuffled labels [default: NAME.contrast beside the vector file, if there]
    #[arg(long, value_name = "FILE.contrast")]
    contrast: Option<PathBuf>,
    /// The layer [default: the one that the vector file recommends]
    #[arg(long, value_name = "LAYER")]
    layer: Option<u32>,
    /// The conversations that made the vector, where it was made with `extract --pairs`
    #[arg(long, value_name = "PAIRS.json", conflicts_with = "contrast")]
    conversations: Option<PathBuf>,
    /// The relative dose, above 0 [default: the push that the vector file calls usual, else the end of its range]
    #[arg(long, value_name = "D", allow_hyphen_values = true)]
    dose: Option<f64>,
    /// Another trait's vector, as often as wished [default: all ready-made ones of other names]
    #[arg(long, value_name = "NAME")]
    other: Vec<String>,
    /// Judge a meaningless direction in the vector's place, as often as wished: the verdict has to deny each. Of shuffled
    /// labels, by seed
    #[arg(long, value_name = "SEED", conflicts_with_all = ["store", "report"])]
    shuffled: Vec<u32>,
    /// The same of an isotropic direction, by seed
    #[arg(long, value_name = "SEED", conflicts_with_all = ["store", "report"])]
    random: Vec<u32>,
    /// The same of another trait's vector
    #[arg(long, value_name = "NAME", conflicts_with_all = ["store", "report"])]
    instead: Vec<String>,
    /// Which tokens are pushed; response: from the last prompt token on, so that prompts are read once
    #[arg(long, default_value = "response", value_parser = named::<Scope>(&["all", "response"]))]
    scope: Scope,
    /// Open the range in the vector file against the trait, as far as the flipped push left the text whole
    #[arg(long)]
    store: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let study = &arguments.study;
    let (subject, path, tensor) = study.subject()?;
    let known = study.open_report()?;
    let others = match arguments.other.is_empty() {
        true => ready_made(),
        false => arguments.other.clone(),
    };
    let others = others.iter().filter(|name| **name != subject.pack.name);
    let others = others
        .map(|name| other_vector(name))
        .collect::<Result<_>>()?;
    let conversations = arguments
        .conversations
        .as_deref()
        .map(read_pairs)
        .transpose()?;
    let contrast = contrast_file(arguments, &path)
        .map(|path| read_bounded(&path, MAX_RECORD_BYTES as u64))
        .transpose()?;
    let mut session = study.session(8)?;
    let request = ControlRequest {
        subject,
        contrast,
        thresholds: known.map(|known| known.thresholds),
        layer: arguments.layer,
        dose: arguments.dose,
        others: Some(others),
        conversations,
        stand_in: None,
        study: study.settings(tensor, Some(arguments.scope))?,
    };
    let stand_ins = arguments.stand_ins();
    if !stand_ins.is_empty() {
        return judge_instead(study, &mut session, &request, stand_ins);
    }
    let controlled = study.wait(session.controls(request, &mut study.watch()))?;
    if arguments.store && controlled.recommended.is_some() {
        write(&path, &controlled.vector)?;
    }
    study.add_to_report(|whole| whole.controls = Some(controlled.report.clone()))?;
    if study.json {
        print_json(&controlled.report)?;
    } else {
        print(&controlled.report, study.texts);
    }
    Ok(())
}

impl Arguments {
    /// What is judged in the vector's place: shuffled labels, isotropic directions, other traits' vectors.
    fn stand_ins(&self) -> Vec<StandIn> {
        let shuffled = self.shuffled.iter().copied().map(StandIn::Shuffled);
        let random = self.random.iter().copied().map(StandIn::Random);
        let other = self.instead.iter().cloned().map(StandIn::Other);
        shuffled.chain(random).chain(other).collect()
    }
}

/// Judges one after the other; each goes on from the answers to controls that the ones before it kept. As JSON: a list.
fn judge_instead(
    study: &StudyArguments,
    session: &mut Session,
    request: &ControlRequest,
    stand_ins: Vec<StandIn>,
) -> Result<()> {
    let mut reports = Vec::new();
    for stand_in in stand_ins {
        let (subject, ..) = study.subject()?;
        let request = ControlRequest {
            subject,
            stand_in: Some(stand_in),
            ..request.clone()
        };
        let found = study.wait(session.controls(request, &mut study.watch()))?;
        if !study.json {
            print(&found.report, study.texts);
        }
        reports.push(found.report);
    }
    match study.json {
        true => print_json(&reports),
        false => Ok(()),
    }
}

fn contrast_file(arguments: &Arguments, vector: &Path) -> Option<PathBuf> {
    let beside = vector.with_extension("contrast");
    arguments
        .contrast
        .clone()
        .or_else(|| beside.exists().then_some(beside))
}

fn other_vector(name: &str) -> Result<OtherVector> {
    let (path, tensor, _) = open_vector(name)?;
    Ok(OtherVector {
        name: name.to_owned(),
        tensor,
        vector: read_bounded(&path, MAX_FILE_BYTES as u64)?,
    })
}

fn print(report: &ControlReport, texts: bool) {
    if let Some(detail) = &report.detail {
        print_unsteered(&detail.unsteered);
        println!(
            "layer {}, dose {:.2} (coefficient {:.2})",
            detail.layer, detail.dose, detail.coefficient
        );
    }
    for row in &report.rows {
        let label = row.direction.to_string();
        print_outcome(&format!("{label:18}"), &row.outcome, texts);
    }
    if let Some(verdict) = &report.answers {
        print_answers(verdict);
    }
    println!("{}", report.sentence);
    report
        .caveats
        .iter()
        .for_each(|caveat| println!("{caveat}"));
}

fn print_answers(verdict: &Verdict) {
    let said = |finding| match finding {
        Finding::Yes => "yes",
        Finding::No => "no",
        Finding::CannotTell => "cannot tell",
    };
    let [moves, more, this, whole] = verdict.required().map(said);
    println!(
        "does it move? {moves}; more than a meaningless push? {more}; this trait, and not another? {this}; still text? {whole}"
    );
    for witness in &verdict.witnesses {
        let name = match witness.kind {
            WitnessKind::Words => "words",
            WitnessKind::Choice => "choice between two words",
        };
        let auc = witness
            .auc
            .map_or("none".into(), |auc| format!("{:.2}", auc.value));
        match witness.has_say {
            true => println!("witness: {name} (AUROC {auc}): {}", said(witness.finding)),
            false => println!("witness: {name} (AUROC {auc}): has no say"),
        }
    }
}
