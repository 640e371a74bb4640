//! `trimtab extract --trait`: responses are written and judged, then vectors are made of those that count.

use crate::calibrate::{open_neutral, share_neutral};
use crate::extract::{Arguments, hashes};
use crate::files::{read_bounded, write};
use crate::output::print_json;
use crate::progress::{self, Terminal};
use anyhow::{Context, Result, ensure};
use clap::Args;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trimtab_persona::activations::{Average, Averages};
use trimtab_persona::contrast_record::{
    ContrastRecord, MAX_RECORD_BYTES, ResponseSettings, ResponseStanding, Thresholds,
};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, MIN_PAIRS, TraitPack};
use trimtab_persona::trait_report::{ExtractionReport, TraitReport};
use trimtab_persona::trait_vector::{sha256, tensor_hash};
use trimtab_persona::vector_file::VectorFile;
use trimtab_studio::jobs::responses::MAX_AT_ONCE;
use trimtab_studio::making::{MakingEvent, VectorRequest, WriteRequest};
use trimtab_studio::verbs::Event;

#[derive(Debug, Args)]
pub struct TraitArguments {
    /// Instruction pairs to use, from the pack's first on [default: all but two, at least two: sweeps and
    /// verdicts ask by pairs that made nothing]
    #[arg(long, value_name = "N")]
    instruction_pairs: Option<usize>,
    /// Extraction questions to use, from the pack's first on [default: all]
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    #[arg(long, value_name = "N", default_value_t = 40)]
    max_tokens: usize,
    #[arg(
        long,
        value_name = "T",
        allow_negative_numbers = true,
        default_value_t = 0.8
    )]
    temperature: f32,
    #[arg(
        long,
        value_name = "P",
        allow_negative_numbers = true,
        default_value_t = 0.95
    )]
    top_p: f32,
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u32,
    /// Responses written side by side
    #[arg(long, value_name = "N", default_value_t = MAX_AT_ONCE)]
    batch: usize,
    /// Where the contrast set is kept (packed); a run that was stopped goes on from it, and another
    /// run with other thresholds writes nothing anew [default: the vector file's name with .contrast]
    #[arg(long, value_name = "FILE")]
    contrast: Option<PathBuf>,
    /// Evidence that a response needs for its side, in deviations of neutral answers' evidence
    #[arg(long, value_name = "E", default_value_t = Thresholds::default().evidence, allow_hyphen_values = true)]
    min_evidence: f64,
    /// How far from neutral answers' likelihood a response may lie, in their deviations
    #[arg(long, value_name = "D", allow_negative_numbers = true, default_value_t = Thresholds::default().deviations)]
    band: f64,
    /// Least share of different pairs of neighbouring tokens
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = Thresholds::default().distinct_2)]
    min_distinct_2: f64,
    /// Also write the averages of the residual stream that vectors are made of, for other programs: tensors
    /// `response_avg`, `prompt_avg`, `prompt_last` `[n, L+1, d]` and `side`, `pair`, `question`, `kept` `[n]`
    #[arg(long, value_name = "FILE.safetensors")]
    averages: Option<PathBuf>,
    /// Begin a report, to which sweep, controls and predict add what they find
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

/// The report that `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    out: String,
    contrast: String,
    /// Hashes of the tensors, by name.
    tensors: BTreeMap<&'a String, String>,
    #[serde(flatten)]
    report: &'a TraitReport,
}

pub fn run(arguments: &Arguments, path: &Path) -> Result<()> {
    let own = &arguments.from_trait;
    let bytes = read_bounded(path, MAX_PACK_BYTES as u64)?;
    let pack = TraitPack::parse(&bytes).with_context(|| path.display().to_string())?;
    let named = || format!("{}.safetensors", pack.name).into();
    let out: PathBuf = arguments.out.clone().unwrap_or_else(named);
    let contrast = own.contrast.clone();
    let contrast = contrast.unwrap_or_else(|| out.with_extension("contrast"));
    let neutral = arguments.neutral.clone();
    let neutral = neutral.unwrap_or_else(|| out.with_file_name("neutral.json"));
    ensure!(own.batch > 0, "--batch must be at least 1");

    let record = begin(arguments, pack.clone(), &contrast, &neutral)?;
    let context = longest(&record, &arguments.model.chat()?)?;
    let mut session = arguments.model.session(Some(context), own.batch)?;
    let mut watch = Terminal::new(|event| {
        if let Event::Making(MakingEvent::Checkpoint { contrast: kept, .. }) = event
            && let Err(error) = write(&contrast, &kept)
        {
            // The work goes on, and is kept with the next checkpoint.
            progress::warn(&format!("{error:#}"));
        }
    });
    let request = WriteRequest {
        pack: pack.clone(),
        settings: record.settings,
        contrast: Some(record.to_bytes()?),
    };
    let set = progress::wait(session.write_responses(request, &mut watch))?;
    write(&contrast, &set.bytes)?;
    let record = ContrastRecord::parse(&set.bytes)?;
    share_neutral(&neutral, &record.neutral)?;

    let thresholds = Thresholds {
        evidence: own.min_evidence,
        deviations: own.band,
        distinct_2: own.min_distinct_2,
    };
    let request = VectorRequest {
        pack,
        contrast: set.bytes,
        thresholds,
    };
    let made = progress::wait(session.make_vector(request, &mut watch))?;
    drop(watch);
    let mut file = VectorFile::parse(&made.vector)?;
    file.metadata.trait_sha256 = Some(sha256(&bytes));
    let kept = std::fs::read(&out).ok();
    if let Some(kept) = kept.and_then(|bytes| VectorFile::parse(&bytes).ok()) {
        // A recommendation is about these very numbers: coefficients multiply the vector as it is.
        let hash = |file: &VectorFile| file.choose(None).ok().map(|(_, table)| tensor_hash(table));
        let same = hash(&kept) == hash(&file);
        file.metadata.recommended = kept.metadata.recommended.filter(|_| same);
    }
    write(&out, &file.to_bytes()?)?;
    if let Some(path) = &own.averages {
        let width = session.engine.config().hidden_size;
        let averages = session.averages.take(&record);
        let kept = &made.report.kept;
        write(path, &averages_file(&record, &averages, kept, width)?)?;
    }
    let made_how = file.metadata.made.clone().unwrap_or_default();
    let report = TraitReport::new(&record, thresholds, made_how, made.report);
    if let Some(path) = &own.report {
        write(path, &serde_json::to_vec(&report)?)?;
    }
    if arguments.json {
        let printed = Printed {
            out: out.display().to_string(),
            contrast: contrast.display().to_string(),
            tensors: hashes(&file),
            report: &report,
        };
        return print_json(&printed);
    }
    print(&out, &report.extraction)
}

/// Two pairs are kept back for evidence that the vector has not seen.
fn usual_pairs(pack: &TraitPack) -> usize {
    pack.instructions.len().saturating_sub(2).max(MIN_PAIRS)
}

/// The record that lies at `contrast`, or a new one.
fn begin(
    arguments: &Arguments,
    pack: TraitPack,
    contrast: &Path,
    neutral: &Path,
) -> Result<ContrastRecord> {
    let own = &arguments.from_trait;
    let settings = ResponseSettings {
        pairs: own.instruction_pairs.unwrap_or_else(|| usual_pairs(&pack)),
        questions: own.questions.unwrap_or(pack.questions.extraction.len()),
        max_tokens: own.max_tokens,
        temperature: own.temperature,
        top_p: own.top_p,
        seed: own.seed,
    };
    let model_sha256 = arguments.model.names()?.sha256;
    if contrast.exists() {
        let named = || contrast.display().to_string();
        let bytes = read_bounded(contrast, MAX_RECORD_BYTES as u64)?;
        let record = ContrastRecord::parse(&bytes).with_context(named)?;
        return record
            .continued(&pack, &settings, &model_sha256)
            .with_context(named);
    }
    let shared = open_neutral(neutral, &model_sha256)?;
    Ok(ContrastRecord::new(pack, model_sha256, settings, shared)?)
}

/// Responses that were too short to be read are left out.
fn averages_file(
    record: &ContrastRecord,
    averages: &[Option<Averages>],
    kept: &[ResponseStanding],
    width: usize,
) -> Result<Vec<u8>> {
    let read: Vec<(usize, &Averages)> = averages
        .iter()
        .enumerate()
        .filter_map(|(at, averages)| Some((at, averages.as_ref()?)))
        .collect();
    let kinds = [
        ("response_avg", Average::Response),
        ("prompt_avg", Average::Prompt),
        ("prompt_last", Average::PromptLast),
    ];
    let rows = read
        .first()
        .map_or(0, |(_, one)| one.table(Average::Response).len() / width);
    let mut tensors = Vec::new();
    for (name, average) in kinds {
        let values = read.iter().flat_map(|(_, one)| one.table(average));
        let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        tensors.push((name, Dtype::F32, vec![read.len(), rows, width], bytes));
    }
    let numbers = |of: &dyn Fn(usize) -> i32| -> Vec<u8> {
        read.iter()
            .flat_map(|(at, _)| of(*at).to_le_bytes())
            .collect()
    };
    let place = |at: usize| record.settings.place(at);
    for (name, bytes) in [
        (
            "side",
            numbers(&|at| if at.is_multiple_of(2) { 1 } else { -1 }),
        ),
        ("pair", numbers(&|at| place(at).pair as i32)),
        ("question", numbers(&|at| place(at).question as i32)),
        (
            "kept",
            numbers(&|at| i32::from(kept[at] == ResponseStanding::Kept)),
        ),
    ] {
        tensors.push((name, Dtype::I32, vec![read.len()], bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, kind, shape, bytes)| {
            Ok((*name, TensorView::new(*kind, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize(views, None)?)
}

/// Tokens of the longest conversation that will be read.
fn longest(record: &ContrastRecord, chat: &ChatText) -> Result<usize> {
    let longest = |texts: Vec<&String>| -> Result<usize> {
        let lengths = texts.into_iter().map(|text| Ok(chat.encode(text)?.len()));
        let lengths = lengths.collect::<Result<Vec<_>>>()?;
        Ok(lengths.into_iter().max().unwrap_or(0))
    };
    let pairs = record.pack.instructions.iter();
    let sides = pairs.flat_map(|pair| [&pair.positive, &pair.negative]);
    let questions = record.pack.questions.extraction.iter();
    let answers = record.neutral.answers.iter().map(|answer| answer.ids.len());
    let answer = answers.chain([
        record.settings.max_tokens,
        record.neutral.settings.max_tokens,
    ]);
    // The template's own tokens around them: a generous allowance.
    Ok(longest(sides.collect())? + longest(questions.collect())? + answer.max().unwrap_or(0) + 96)
}

fn print(out: &Path, found: &ExtractionReport) -> Result<()> {
    let mut dropped = BTreeMap::new();
    for kept in found
        .kept
        .iter()
        .filter(|kept| **kept != ResponseStanding::Kept)
    {
        let name = serde_json::to_value(kept)?;
        let name = name.as_str().unwrap_or_default().to_owned();
        *dropped.entry(name).or_insert(0) += 1;
    }
    let dropped: Vec<String> = dropped
        .iter()
        .map(|(name, count)| format!(", {count} {name}"))
        .collect();
    println!(
        "{}: {} positive and {} negative responses count{}",
        out.display(),
        found.kept_positive,
        found.kept_negative,
        dropped.concat()
    );
    if let Some(area) = found.witness_auc {
        println!("words alone tell the sides apart with an AUC of {area:.2} on held-out questions");
    }
    if let Some((layer, area)) = best(&found.auc[0].values) {
        println!("the mean difference does so best at layer {layer}, with {area:.2}");
    }
    Ok(())
}

/// The layer with the largest value.
fn best(curve: &[f32]) -> Option<(usize, f32)> {
    let values = curve.iter().copied().enumerate();
    values
        .filter(|(_, value)| value.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
}
