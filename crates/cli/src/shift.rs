//! `trimtab shift`: what an adapter (or a push) changes about the model, held against the base model.

use crate::adapters::directory_and_scale;
use crate::files::{read_bounded, write};
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{self, Terminal};
use crate::vectors::{SteeringArguments, load_adapter, load_vector, neutral_answers, ready_made};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use trimtab_engine::Scope;
use trimtab_persona::bootstrap::Estimate;
use trimtab_persona::knowledge;
use trimtab_persona::plan::{NamedTerm, TermOperation};
use trimtab_persona::shift::ShiftReport;
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, TraitPack};
use trimtab_studio::records::MAX_RECORDS_BYTES;
use trimtab_studio::session::Session;
use trimtab_studio::shift::ShiftRequest;
use trimtab_studio::studies::{StudyEvent, StudySettings};
use trimtab_studio::verbs::{Bytes, Event};

/// Tokens of the longest conversation that is read.
const CONTEXT: usize = 2_048;
/// Conversations side by side.
const SEQUENCES: usize = 8;
/// Longest file of neutral answers that is read.
const MAX_NEUTRAL_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The adapters of `--adapter` are held against the base model
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    push: SteeringArguments,
    /// Read the shift along this trait, as often as wished [default: all ready-made ones that fit]
    #[arg(long = "trait", value_name = "NAME")]
    traits: Vec<String>,
    /// Measure evidence for the trait of this pack in answers, as often as wished
    #[arg(long = "pack", value_name = "TRAIT.json")]
    packs: Vec<PathBuf>,
    /// Evaluation questions of each pack to ask [default: 8]
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Tokens an answer [default: 32]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Answers of the base model over which shifts are read [default: 12]
    #[arg(long, value_name = "N")]
    conversations: Option<usize>,
    /// Ask these questions of both models: JSON Lines, {"question", "answers", "label"}
    #[arg(long, value_name = "FILE.jsonl")]
    knowledge: Option<PathBuf>,
    /// Ask the first so many of them [default: all]
    #[arg(long, value_name = "N", requires = "knowledge")]
    first: Option<usize>,
    /// Keep the answers here; another run, also of another adapter, does not write the base model's again
    #[arg(long, value_name = "FILE.json")]
    keep: Option<PathBuf>,
    /// Print the report as JSON, answers included
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let base = ModelArguments {
        adapter: Vec::new(),
        ..arguments.model.clone()
    };
    let mut session = base.session(Some(CONTEXT), SEQUENCES)?;
    let mut plan = arguments.push.load(&mut session, &arguments.traits)?;
    add_traits(arguments, &mut session)?;
    for text in &arguments.model.adapter {
        let (directory, scale) = directory_and_scale(text)?;
        let mut term = NamedTerm {
            vector: directory.display().to_string(),
            operation: TermOperation::Tune { scale },
            layers: None,
            scope: Scope::All,
        };
        load_adapter(&mut term, &mut session)?;
        plan.push(term);
    }
    if let Some(path) = neutral_answers() {
        // Those of another model are none of this one's; it writes its own.
        let _ = session.take_neutral_answers(&read_bounded(&path, MAX_NEUTRAL_BYTES)?);
    }
    let pack = |path: &PathBuf| {
        let bytes = read_bounded(path, MAX_PACK_BYTES as u64)?;
        TraitPack::parse(&bytes).with_context(|| path.display().to_string())
    };
    let packs = arguments.packs.iter().map(pack);
    let mut questions = match &arguments.knowledge {
        None => Vec::new(),
        Some(path) => {
            let bytes = read_bounded(path, knowledge::MAX_BYTES as u64)?;
            let parsed = knowledge::parse(&bytes).map_err(anyhow::Error::msg);
            parsed.with_context(|| path.display().to_string())?
        }
    };
    questions.truncate(arguments.first.unwrap_or(usize::MAX));
    let kept = arguments.keep.as_ref().filter(|path| path.exists());
    let kept = kept.map(|path| read_bounded(path, MAX_RECORDS_BYTES as u64));
    let request = ShiftRequest {
        plan,
        conversations: arguments.conversations,
        packs: packs.collect::<Result<_>>()?,
        study: Some(StudySettings {
            questions: arguments.questions,
            max_tokens: arguments.max_tokens,
            ..StudySettings::default()
        }),
        knowledge: questions,
        records: kept.transpose()?.map(Bytes),
    };
    let mut watch = Terminal::new(|event| {
        if let (Event::Study(StudyEvent::Records { records }), Some(path)) =
            (event, &arguments.keep)
            && let Err(error) = write(path, &records)
        {
            progress::warn(&format!("{error:#}"));
        }
    });
    let report = progress::wait(session.shift(request, &mut watch));
    drop(watch);
    let report = report?;
    match arguments.json {
        true => print_json(&report),
        false => {
            print(&report);
            Ok(())
        }
    }
}

/// The ready-made traits where none were named, as far as they fit the model.
fn add_traits(arguments: &Arguments, session: &mut Session) -> Result<()> {
    if !arguments.traits.is_empty() {
        return Ok(());
    }
    let mut vectors = session.vectors().to_vec();
    for name in ready_made() {
        if vectors.iter().all(|known| known.name != name)
            && let Ok(vector) = load_vector(&name, session)
        {
            vectors.push(vector);
        }
    }
    Ok(session.set_vectors(vectors)?)
}

fn print(report: &ShiftReport) {
    let interval = |found: &Option<Estimate>| {
        found.map_or("–".into(), |found| {
            format!(
                "{:+.2} [{:+.2}, {:+.2}]",
                found.value, found.low, found.high
            )
        })
    };
    println!(
        "shift from the base model, in deviations of what is ordinary for it, over {} of its own answers",
        report.conversations
    );
    for one in &report.traits {
        println!(
            "{:18} layer {:2}  in answers {:24}  at the last prompt token {}",
            one.of.name,
            one.of.layer,
            interval(&one.response),
            interval(&one.prompt)
        );
    }
    for one in &report.evidence {
        println!(
            "{:18} evidence in its answers {} deviations, {:.0} % of them broken",
            one.name,
            interval(&one.tuned.deviations()),
            100.0 * one.tuned.incoherent_share
        );
    }
    if let Some(found) = &report.likelihood {
        println!(
            "neutral texts: {:.3} → {:.3} nats a token, {}",
            found.base,
            found.tuned,
            interval(&found.change)
        );
    }
    if let Some(found) = &report.knowledge {
        println!(
            "knowledge: {:.0} % → {:.0} % right of {}; the right answer's lead changed by {} nats",
            100.0 * found.base_right,
            100.0 * found.tuned_right,
            found.questions,
            interval(&found.change)
        );
    }
}
