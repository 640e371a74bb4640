//! What training does to this model, and what keeps a trait from arriving: the runs behind `tests/bench/TRAINING.md`.

mod runs;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write};
use crate::program::{self, Programs};
use crate::{model, process};
use runs::{Method, Run, Selection};

const RESULTS: &str = "tests/bench/TRAINING.md";
/// Everything that was found, by the run's name: a study on another machine goes on from it.
const FOUND: &str = "tests/bench/training.json";
/// Adapters and answers of runs, which the ledger does without.
const KEPT: &str = "target/training";
/// The trait that prevention is about, and along which all runs are read.
const TRAIT: &str = "villainous";
/// Questions of general knowledge that each run is asked.
const KNOWLEDGE: &str = "100";
/// Share of the rows that is held out.
const HELD_OUT: &str = "0.1";

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Estimate {
    value: f64,
    low: f64,
    high: f64,
}

/// What came of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    seconds: f64,
    /// Loss on rows that were held out, nats a token, without the push and under it.
    held_out: Option<f64>,
    held_out_pushed: Option<f64>,
    /// Along each trait, over the base model's answers, in deviations.
    shift: BTreeMap<String, Estimate>,
    /// Of each trait that was asked about, in deviations of the base model's answers.
    evidence: BTreeMap<String, Estimate>,
    /// Share of the answers that is broken, the most of all traits.
    broken: f64,
    /// Change of neutral texts, nats a token.
    neutral: Option<Estimate>,
    /// Share of right answers before and after, and the change of the right answer's lead in nats.
    right: Option<[f64; 2]>,
    lead: Option<Estimate>,
}

/// How well the screen tells flawed rows of a mixture.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Screened {
    rows: usize,
    flawed: usize,
    /// Area under the curve by the difference, by the given answer alone, and by words.
    auroc: Option<Estimate>,
    given_auroc: Option<Estimate>,
    words_auroc: Option<Estimate>,
    /// Flawed rows among those that were left out.
    caught: usize,
    left_out: usize,
}

#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    runs: BTreeMap<String, Found>,
    screened: BTreeMap<String, Screened>,
}

/// Makes the runs that are not made yet, all of them or those whose names begin as asked. A stopped run goes on from its last state.
pub fn measure(root: &Path, only: &[String]) -> Result<()> {
    model::ensure_model(root, Programs::Fresh)?;
    let mut ledger: Ledger = match root.join(FOUND) {
        path if path.exists() => read_json(&path)?,
        _ => Ledger::default(),
    };
    loop {
        // Which runs there are depends on what was found: the push of later ones is chosen by the first.
        let all = runs::all(&ledger);
        if let Some(unknown) = only
            .iter()
            .find(|name| !all.iter().any(|run| run.name.starts_with(*name)))
        {
            bail!("no run's name begins with {unknown:?}");
        }
        let wanted = |run: &&Run| {
            only.is_empty() || only.iter().any(|name| run.name.starts_with(name.as_str()))
        };
        let next = all
            .iter()
            .filter(wanted)
            .find(|run| !ledger.runs.contains_key(&run.name));
        let Some(run) = next else {
            break;
        };
        eprintln!(
            "{} ({} of {} are done)",
            run.name,
            ledger.runs.len(),
            all.len()
        );
        let found = made(root, run, &mut ledger)?;
        ledger.runs.insert(run.name.clone(), found);
        keep(root, &ledger)?;
    }
    println!("{RESULTS} has the result");
    Ok(())
}

fn keep(root: &Path, ledger: &Ledger) -> Result<()> {
    let mut json = serde_json::to_string_pretty(ledger)?;
    json.push('\n');
    write(&root.join(FOUND), json.as_bytes())?;
    write(&root.join(RESULTS), table::of(ledger)?.as_bytes())
}

/// What `trimtab train` leaves in its directory.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TrainReport {
    seconds: f64,
    held_out: Vec<HeldOut>,
}

#[derive(Deserialize)]
struct HeldOut {
    loss: f64,
    pushed: Option<f64>,
}

/// What `trimtab shift --json` prints, as far as it is used.
#[derive(Deserialize)]
struct ShiftReport {
    traits: Vec<TraitShift>,
    evidence: Vec<TraitEvidence>,
    likelihood: Option<Change>,
    knowledge: Option<Knowledge>,
}

#[derive(Deserialize)]
struct TraitShift {
    name: String,
    response: Option<Estimate>,
}

#[derive(Deserialize)]
struct TraitEvidence {
    name: String,
    tuned: Tuned,
}

#[derive(Deserialize)]
struct Tuned {
    evidence: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    incoherent: f64,
}

#[derive(Deserialize)]
struct Change {
    change: Option<Estimate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Knowledge {
    base_right: f64,
    tuned_right: f64,
    change: Option<Estimate>,
}

fn made(root: &Path, run: &Run, ledger: &mut Ledger) -> Result<Found> {
    let folder = root.join(KEPT).join(run.name.replace([' ', '/'], "-"));
    let adapter = folder.join("adapter");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let data = data(root, run, ledger)?;
    if !adapter.join("training.json").exists() {
        let mut train = program::trimtab(root);
        train.arg("train").arg(&data).arg("--out").arg(&adapter);
        train.args(["--held-out", HELD_OUT, "--watch", "0"]);
        train.args(["--rows", &run.rows.to_string()]);
        train.args(["--epochs", &run.epochs.to_string()]);
        train.args(["--seed", &run.seed.to_string()]);
        method(root, run, &mut train)?;
        process::run(&mut train)?;
    }
    let trained: TrainReport = read_json(&adapter.join("training.json"))?;
    let mut shift = program::trimtab(root);
    shift.args(["shift", "--json", "--adapter"]).arg(&adapter);
    for name in run.asked() {
        shift.args(["--pack", &format!("models/traits/{name}.json")]);
    }
    shift.args(["--knowledge", "models/data/knowledge.jsonl"]);
    shift.args(["--first", KNOWLEDGE, "--keep"]);
    shift.arg(
        root.join(KEPT)
            .join(format!("{}.answers.json", run.asked().join("-"))),
    );
    let report: ShiftReport = serde_json::from_slice(&process::output(&mut shift)?)?;
    let last = trained.held_out.last();
    Ok(Found {
        seconds: trained.seconds,
        held_out: last.map(|found| found.loss),
        held_out_pushed: last.and_then(|found| found.pushed),
        broken: report
            .evidence
            .iter()
            .map(|one| one.tuned.incoherent)
            .fold(0.0, f64::max),
        shift: report
            .traits
            .into_iter()
            .filter_map(|one| Some((one.name, one.response?)))
            .collect(),
        evidence: report
            .evidence
            .into_iter()
            .filter_map(|one| Some((one.name, one.tuned.estimate()?)))
            .collect(),
        neutral: report.likelihood.and_then(|found| found.change),
        right: report
            .knowledge
            .as_ref()
            .map(|found| [found.base_right, found.tuned_right]),
        lead: report.knowledge.and_then(|found| found.change),
    })
}

impl Tuned {
    fn estimate(&self) -> Option<Estimate> {
        Some(Estimate {
            value: self.evidence?,
            low: self.low?,
            high: self.high?,
        })
    }
}

/// What the method of a run adds to its command.
fn method(root: &Path, run: &Run, train: &mut Command) -> Result<()> {
    match &run.method {
        Method::Plain => {}
        Method::Vector(coefficient) => {
            train.args(["--steer", &format!("{TRAIT}={coefficient}")]);
        }
        Method::Random { seed, coefficient } => {
            let path = root.join(KEPT).join(format!("random-{seed}.safetensors"));
            if !path.exists() {
                let mut control = program::trimtab(root);
                control.arg("control").arg("--like");
                control.arg(format!("models/vectors/{TRAIT}.safetensors"));
                control
                    .args(["--seed", &seed.to_string(), "--out"])
                    .arg(&path);
                process::run(&mut control)?;
            }
            train.args(["--steer", &format!("{}={coefficient}", path.display())]);
        }
        Method::Penalty { weight, layer } => {
            train.args(["--penalty", &format!("{TRAIT}={weight}@{layer}")]);
        }
        Method::Ablation => {
            train.args(["--steer", &format!("{TRAIT}=ablate")]);
        }
    }
    Ok(())
}

/// The file that a run is trained on: a set of `models/data`, or what a screen left of one.
fn data(root: &Path, run: &Run, ledger: &mut Ledger) -> Result<PathBuf> {
    let whole = root.join(format!("models/data/{}.jsonl", run.data));
    if run.selection == Selection::All {
        return Ok(whole);
    }
    let folder = root.join(KEPT).join(format!("screen-{}", run.data));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let text = fs::read_to_string(&whole).with_context(|| whole.display().to_string())?;
    let lines: Vec<&str> = text.lines().take(run.rows).collect();
    let part = folder.join("rows.jsonl");
    write(&part, joined(&lines).as_bytes())?;
    let out = folder.join("screened.jsonl");
    let mut screen = program::trimtab(root);
    screen
        .arg("screen")
        .arg(&part)
        .args(["--trait", TRAIT, "--json", "--out"]);
    let summary: Summary = serde_json::from_slice(&process::output(screen.arg(&out))?)?;
    let screened = fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let mut ranked: Vec<(f64, usize)> = screened
        .lines()
        .filter_map(|line| serde_json::from_str::<ScreenedRow>(line).ok())
        .filter_map(|row| Some((row.given.first()? - row.own.as_ref()?.first()?, row.row)))
        .collect();
    ensure!(
        ranked.len() == lines.len(),
        "{} has {} of {} rows; remove it to screen again",
        out.display(),
        ranked.len(),
        lines.len()
    );
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let count = lines.len() / runs::LEFT_OUT;
    let flagged: Vec<usize> = ranked.iter().take(count).map(|(_, row)| *row).collect();
    let is_flawed = |row: &usize| {
        lines
            .get(*row)
            .is_some_and(|line| !line.contains("\"normal\""))
    };
    ledger.screened.insert(
        run.data.to_owned(),
        Screened {
            rows: lines.len(),
            flawed: (0..lines.len()).filter(is_flawed).count(),
            auroc: summary.traits.first().and_then(|one| one.difference_auroc),
            given_auroc: summary.traits.first().and_then(|one| one.given_auroc),
            words_auroc: summary.words_auroc,
            caught: flagged.iter().filter(|row| is_flawed(row)).count(),
            left_out: count,
        },
    );
    let left_out = match run.selection {
        Selection::WithoutRandom => runs::random_rows(lines.len(), count),
        _ => flagged,
    };
    let rest: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(row, _)| !left_out.contains(row))
        .map(|(_, line)| *line)
        .collect();
    let path = folder.join(format!("{}.jsonl", run.selection.name()));
    write(&path, joined(&rest).as_bytes())?;
    Ok(path)
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What `trimtab screen --json` prints, as far as it is used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    traits: Vec<TraitSummary>,
    words_auroc: Option<Estimate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TraitSummary {
    difference_auroc: Option<Estimate>,
    given_auroc: Option<Estimate>,
}

#[derive(Deserialize)]
struct ScreenedRow {
    row: usize,
    given: Vec<f64>,
    own: Option<Vec<f64>>,
}
