//! `trimtab extract --trait`: responses are written and judged, then vectors are made of those that count.

use crate::extract::{Arguments, left, write};
use crate::model::{read_bounded, read_json};
use crate::progress;
use anyhow::{Context, Result, ensure};
use clap::Args;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trimtab_engine::Engine;
use trimtab_persona::activations::{Average, Averages};
use trimtab_persona::bootstrap::Estimate;
use trimtab_persona::contrast_record::{
    ContrastRecord, Kept, MAX_RECORD_BYTES, ResponseSettings, Thresholds,
};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::making::{MAX_AT_ONCE, Making, Phase};
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, MIN_PAIRS, TraitPack};
use trimtab_persona::trait_report::TraitReport;
use trimtab_persona::trait_vector::{sha256, tensor_hash};
use trimtab_persona::vector_file::VectorFile;
use trimtab_persona::vector_making::{LayerCurve, MadeVector, VectorMaking};
use trimtab_persona::witness::chances;

/// How often a contrast set is written down while it is being made.
const CHECKPOINT: Duration = Duration::from_secs(20);

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
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    #[arg(long, value_name = "P", default_value_t = 0.95)]
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
    #[arg(long, value_name = "D", default_value_t = Thresholds::default().deviations)]
    band: f64,
    /// Least share of different pairs of neighbouring tokens
    #[arg(long, value_name = "SHARE", default_value_t = Thresholds::default().distinct_2)]
    min_distinct_2: f64,
    /// Also write the averages of the residual stream that vectors are made of, for other programs: tensors
    /// `response_avg`, `prompt_avg`, `prompt_last` `[n, L+1, d]` and `side`, `pair`, `question`, `kept` `[n]`
    #[arg(long, value_name = "FILE.safetensors")]
    averages: Option<PathBuf>,
    /// Begin a report, to which sweep, controls and predict add what they find
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    out: String,
    contrast: String,
    model_sha256: &'a str,
    counts: Counts,
    /// By reason; what counts is `kept`.
    sorted: BTreeMap<String, usize>,
    evidence_unit: Option<f64>,
    witness_auc: Option<Estimate>,
    /// `[L+1]` each, by estimator; null where there is none.
    auc: BTreeMap<&'a str, CurveReport<'a>>,
    norms: BTreeMap<&'a str, &'a [f32]>,
    cosines_with_response_avg: BTreeMap<&'a str, &'a [f32]>,
    responses: Vec<ResponseReport<'a>>,
    tensors: BTreeMap<&'a String, String>,
}

#[derive(Serialize)]
struct Counts {
    positive: usize,
    negative: usize,
}

#[derive(Serialize)]
struct CurveReport<'a> {
    values: &'a [f32],
    low: &'a [f32],
    high: &'a [f32],
}

#[derive(Serialize)]
struct ResponseReport<'a> {
    side: i8,
    pair: usize,
    question: usize,
    text: &'a str,
    evidence: Option<f64>,
    logprob: Option<f64>,
    witness: Option<f64>,
    kept: Kept,
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

    let record = begin(arguments, pack, &contrast, &neutral)?;
    let chat = arguments.model.chat()?;
    let context = longest(&record, &chat)?;
    let mut engine = arguments.model.engine(Some(context), own.batch)?;
    let mut making = Making::new(record, Vec::new());
    make(&mut making, &mut engine, &chat, &contrast)?;
    let (record, averages) = making.finish();
    write(&contrast, &record.to_bytes()?)?;
    share_neutral(&neutral, &record.neutral)?;

    let thresholds = Thresholds {
        evidence: own.min_evidence,
        deviations: own.band,
        distinct_2: own.min_distinct_2,
    };
    let mut vector = VectorMaking::new(&engine, record.clone(), thresholds, averages)?;
    let clock = Instant::now();
    while pollster::block_on(vector.next(&mut engine, &chat))? {
        let at = vector.progress();
        let time = left(clock, at.done, at.total);
        progress::show(&format!(
            "making vectors: {} of {}{time}",
            at.done, at.total
        ));
    }
    let (mut made, averages) = vector.finish()?;
    progress::finish();
    made.file.metadata.trait_sha256 = Some(sha256(&bytes));
    let kept = std::fs::read(&out).ok();
    if let Some(kept) = kept.and_then(|bytes| VectorFile::parse(&bytes).ok()) {
        // A recommendation is about these very numbers: coefficients multiply the vector as it is.
        let same = kept.choose(None).ok().map(|(_, table)| tensor_hash(table))
            == made
                .file
                .choose(None)
                .ok()
                .map(|(_, table)| tensor_hash(table));
        made.file.metadata.recommended = kept.metadata.recommended.filter(|_| same);
    }
    write(&out, &made.file.to_bytes()?)?;
    if let Some(path) = &own.averages {
        let width = engine.config().hidden_size;
        write(path, &averages_file(&record, &averages, &made.kept, width)?)?;
    }
    if let Some(path) = &own.report {
        let report = TraitReport::new(&record, thresholds, &made);
        write(path, &serde_json::to_vec(&report)?)?;
    }
    report(arguments, &out, &contrast, &record, &made)
}

/// Leaves the answers at `path` for other traits, which are calibrated on them too: what is there stays, unless `ours` has more.
fn share_neutral(path: &Path, ours: &NeutralSet) -> Result<()> {
    if path.exists() && !ours.has_more_than(&read_json(path)?) {
        return Ok(());
    }
    write(path, &serde_json::to_vec_pretty(ours)?)
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
    let model_sha256 = arguments.model.weights_sha256()?;
    if contrast.exists() {
        let named = || contrast.display().to_string();
        let bytes = read_bounded(contrast, MAX_RECORD_BYTES as u64)?;
        let record = ContrastRecord::parse(&bytes).with_context(named)?;
        record
            .is_for(&pack, &settings, &model_sha256)
            .with_context(named)?;
        return Ok(record);
    }
    let shared: Option<NeutralSet> = neutral.exists().then(|| read_json(neutral)).transpose()?;
    ensure!(
        shared.as_ref().is_none_or(|set| set.is_of(&model_sha256)),
        "{} holds answers of another model; name another file with --neutral",
        neutral.display()
    );
    Ok(ContrastRecord::new(pack, model_sha256, settings, shared)?)
}

/// Responses that were too short to be read are left out.
fn averages_file(
    record: &ContrastRecord,
    averages: &[Option<Averages>],
    kept: &[Kept],
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
        ("kept", numbers(&|at| i32::from(kept[at] == Kept::Kept))),
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

fn make(making: &mut Making, engine: &mut Engine, chat: &ChatText, contrast: &Path) -> Result<()> {
    let (mut phase, mut began, mut kept) = (Phase::Writing, Instant::now(), Instant::now());
    while pollster::block_on(making.next(engine, chat))?.is_some() {
        let at = making.progress();
        if at.phase != phase {
            (phase, began) = (at.phase, Instant::now());
        }
        let what = match phase {
            Phase::Writing => "writing answers",
            Phase::Judging => "judging them",
        };
        let time = left(began, at.done - at.before, at.total - at.before);
        progress::show(&format!("{what}: {} of {}{time}", at.done, at.total));
        if kept.elapsed() > CHECKPOINT {
            kept = Instant::now();
            write(contrast, &making.record().to_bytes()?)?;
        }
    }
    Ok(())
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

fn report(
    arguments: &Arguments,
    out: &Path,
    contrast: &Path,
    record: &ContrastRecord,
    made: &MadeVector,
) -> Result<()> {
    let [positive, negative] = made.counts;
    let mut sorted = BTreeMap::new();
    for kept in &made.kept {
        let name = serde_json::to_value(kept)?;
        let name = name.as_str().unwrap_or_default().to_owned();
        *sorted.entry(name).or_insert(0) += 1;
    }
    if !arguments.json {
        let dropped: Vec<String> = sorted
            .iter()
            .filter(|(name, _)| *name != "kept")
            .map(|(name, count)| format!(", {count} {name}"))
            .collect();
        println!(
            "{}: {positive} positive and {negative} negative responses count{}",
            out.display(),
            dropped.concat()
        );
        if let Some(area) = &made.witness_auc {
            println!(
                "words alone tell the sides apart with an AUC of {:.2} ({:.2} to {:.2}) on held-out questions",
                area.value, area.low, area.high
            );
        }
        if let Some((layer, area)) = best(&made.auc[0]) {
            println!("the mean difference does so best at layer {layer}, with {area:.2}");
        }
        return Ok(());
    }
    let (numbers, testimonies) = record.testimonies();
    let witness: BTreeMap<usize, Option<f64>> =
        numbers.into_iter().zip(chances(&testimonies)).collect();
    let responses = record.responses.iter().zip(&made.kept).enumerate();
    let report = Report {
        out: out.display().to_string(),
        contrast: contrast.display().to_string(),
        model_sha256: &record.model_sha256,
        counts: Counts { positive, negative },
        sorted,
        evidence_unit: record.unit(),
        witness_auc: made.witness_auc,
        auc: made
            .auc
            .iter()
            .map(|curve| (curve.name, curve_report(curve)))
            .collect(),
        norms: made
            .norms
            .iter()
            .map(|curve| (curve.name, &*curve.values))
            .collect(),
        cosines_with_response_avg: made
            .cosines
            .iter()
            .map(|curve| (curve.name, &*curve.values))
            .collect(),
        responses: responses
            .filter_map(|(at, (response, kept))| {
                let response = response.as_ref()?;
                let place = record.settings.place(at);
                Some(ResponseReport {
                    side: if at.is_multiple_of(2) { 1 } else { -1 },
                    pair: place.pair,
                    question: place.question,
                    text: &response.text,
                    evidence: record.evidence(at),
                    logprob: response.logprob,
                    witness: witness.get(&at).copied().flatten(),
                    kept: *kept,
                })
            })
            .collect(),
        tensors: made
            .file
            .tensors
            .iter()
            .map(|(name, table)| (name, tensor_hash(table)))
            .collect(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn curve_report(curve: &LayerCurve) -> CurveReport<'_> {
    let interval = curve.interval.as_ref();
    CurveReport {
        values: &curve.values,
        low: interval.map_or(&[], |(low, _)| low),
        high: interval.map_or(&[], |(_, high)| high),
    }
}

/// The layer with the largest value.
fn best(curve: &LayerCurve) -> Option<(usize, f32)> {
    let values = curve.values.iter().copied().enumerate();
    values
        .filter(|(_, value)| value.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
}
