//! How often the verdict is wrong: of vectors that mean nothing, and of vectors whose effect a program can count.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{read, read_json, write};
use crate::planted::{PLANTED, Planted};
use crate::program::{self, Programs};
use crate::{model, process, traits};

/// Seeds of stand-ins, far from those of the controls.
const FIRST_SEED: u32 = 1_000;
/// Null vectors of each trait: shuffled labels, isotropic directions, and vectors of unrelated traits.
const SHUFFLED: u32 = 10;
const RANDOM: u32 = 4;
const UNRELATED: usize = 3;
/// |cosine| above which a trait's vector is not unrelated.
const UNRELATED_COSINE: f64 = 0.3;
/// The test whose reports null vectors build on.
const TEST: u32 = 2;
/// Traits that a planted direction is held against: all twelve would take twice as long.
const RIVALS: [&str; 4] = ["cheerful", "formal", "poetic", "villainous"];
/// Deviations of unsteered answers by which a planted direction has to move its count.
const MOVED: f64 = 2.0;
/// Deviations that its count has to move by in the sweep, at any dose that leaves the text whole, before it is judged.
const HARDLY_MOVED: f64 = 1.0;
/// Share of broken answers up to which a text is whole.
const MAX_BROKEN: f64 = 0.25;
const RESULTS: &str = "tests/bench/VERDICT.md";
/// Everything that was found, by the vector's label: a run on another machine goes on from it.
const FOUND: &str = "tests/bench/verdict.json";

/// What a verdict came to.
#[derive(Serialize, Deserialize)]
struct Found {
    verdict: String,
    /// Deviations of evidence; none where no answer was coherent.
    effect: Option<f64>,
    /// The counts of a planted direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
}

#[derive(Serialize, Deserialize)]
struct Counts {
    unsteered: f64,
    pushed: f64,
    /// The difference in standard deviations of unsteered answers.
    shift: f64,
}

#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    /// By trait, then by null vector.
    null: BTreeMap<String, BTreeMap<String, Found>>,
    planted: BTreeMap<String, Found>,
}

#[derive(Deserialize)]
struct TraitReport {
    controls: Option<Report>,
}

#[derive(Deserialize)]
struct Report {
    verdict: String,
    test: Option<u32>,
    rows: Vec<Row>,
    detail: Detail,
}

#[derive(Deserialize)]
struct Row {
    kind: String,
    name: String,
    cosine: Option<f64>,
    evidence: Option<f64>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    layer: u32,
    dose: f64,
    unsteered_texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

impl Report {
    fn vector(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == "vector")
    }

    fn found(&self, counts: Option<Counts>) -> Found {
        Found {
            verdict: self.verdict.clone(),
            effect: self.vector().and_then(|row| row.evidence),
            counts,
        }
    }
}

/// Measures what is not measured yet: null vectors of the named traits and the named planted directions, or all of both.
/// Answers of a run that was stopped are kept in `target`, verdicts in the repository.
pub fn measure(root: &Path, only: &[String]) -> Result<()> {
    model::ensure_model(root, Programs::Fresh)?;
    let kept = root.join("target/verdict");
    fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
    let mut ledger: Ledger = match root.join(FOUND) {
        path if path.exists() => read_json(&path)?,
        _ => Ledger::default(),
    };
    let traits = traits::names(root)?;
    let planted = |name: &str| PLANTED.iter().any(|planted| planted.name == name);
    if let Some(unknown) = only
        .iter()
        .find(|name| !traits.contains(name) && !planted(name))
    {
        bail!("{unknown:?} is neither a trait nor a planted direction");
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    for name in traits.iter().filter(|name| wanted(name)) {
        nulls(root, name, &mut ledger)?;
    }
    let own = answers(root)?;
    for planted in PLANTED.iter().filter(|planted| wanted(planted.name)) {
        if !ledger.planted.contains_key(planted.name) {
            let found = judged(root, &kept, planted, &own)?;
            ledger.planted.insert(planted.name.to_owned(), found);
            keep(root, &ledger)?;
        }
    }
    println!("{RESULTS} has the result");
    Ok(())
}

fn keep(root: &Path, ledger: &Ledger) -> Result<()> {
    let mut json = serde_json::to_string_pretty(ledger)?;
    json.push('\n');
    write(&root.join(FOUND), json.as_bytes())?;
    write(&root.join(RESULTS), table(ledger)?.as_bytes())
}

fn table(ledger: &Ledger) -> Result<String> {
    let effect = |found: &Found| {
        found
            .effect
            .map_or("none".into(), |effect| format!("{effect:+.1}"))
    };
    let mut text = String::from(
        "# The verdict's own error\n\nMade by `cargo xtask verdict-error`, natively in *exact*, on the default model.\n\n## Null vectors\n\n\
         | trait | null vector | effect | verdict |\n| --- | --- | --- | --- |\n",
    );
    let all = |wanted: fn(&Found) -> bool| {
        let found = ledger.null.values().flat_map(BTreeMap::values);
        found.filter(|found| wanted(found)).count()
    };
    for (name, nulls) in &ledger.null {
        for (label, found) in nulls {
            writeln!(
                text,
                "| {name} | {label} | {} | {} |",
                effect(found),
                found.verdict
            )?;
        }
    }
    let (passed, count) = (all(|found| found.verdict == WORKS), all(|_| true));
    writeln!(text, "\n{passed} of {count} null vectors pass.")?;
    writeln!(
        text,
        "\n## Planted directions\n\nHeld against the vectors of {}; evidence by one pair of instructions.\n\n\
         | way of writing | count, unsteered | pushed | deviations | effect | verdict |\n| --- | --- | --- | --- | --- | --- |",
        RIVALS.join(", ")
    )?;
    let (mut moved, mut passed) = (0, 0);
    for (name, found) in &ledger.planted {
        let Some(counts) = &found.counts else {
            writeln!(text, "| {name} | | | | | {} |", found.verdict)?;
            continue;
        };
        if counts.shift >= MOVED {
            moved += 1;
            passed += usize::from(found.verdict == WORKS);
        }
        writeln!(
            text,
            "| {name} | {:.2} | {:.2} | {:+.1} | {} | {} |",
            counts.unsteered,
            counts.pushed,
            counts.shift,
            effect(found),
            found.verdict
        )?;
    }
    writeln!(
        text,
        "\nThe count moves by {MOVED} deviations of unsteered answers or more for {moved} of {}; {passed} of those pass.",
        ledger.planted.len()
    )?;
    Ok(text)
}

/// The verdict that passes.
const WORKS: &str = "works";

/// The verdicts on a trait's null vectors. Its own report names layer and dose, and its controls have measured what all of
/// them share.
fn nulls(root: &Path, name: &str, ledger: &mut Ledger) -> Result<()> {
    let path = root.join(format!("models/vectors/{name}.report.json"));
    let own = read_json::<TraitReport>(&path)?.controls;
    let own = own.filter(|controls| controls.test == Some(TEST));
    let own = own.with_context(|| {
        format!("{name} has no verdict of test {TEST} yet; run `cargo xtask traits {name}` first")
    })?;
    let stand_ins = [("shuffled", SHUFFLED), ("random", RANDOM)];
    let seeded = stand_ins.into_iter().flat_map(|(kind, many)| {
        let seeds = (FIRST_SEED..FIRST_SEED + many).map(|seed| seed.to_string());
        seeds.map(move |seed| (format!("{kind} {seed}"), [format!("--{kind}"), seed]))
    });
    let unrelated = own.rows.iter().filter(|row| {
        let near = |cosine: f64| cosine.abs() >= UNRELATED_COSINE;
        row.kind == "other" && !row.cosine.is_none_or(near)
    });
    let unrelated = unrelated.take(UNRELATED).map(|row| {
        let label = format!("the vector of {}", row.name);
        (label, ["--instead".to_owned(), row.name.clone()])
    });
    let known = ledger.null.entry(name.to_owned()).or_default();
    // In the order in which the program judges and lists them, which is that of their kinds.
    let (labels, extra): (Vec<_>, Vec<_>) = seeded
        .chain(unrelated)
        .filter(|(label, _)| !known.contains_key(label))
        .unzip();
    if labels.is_empty() {
        return Ok(());
    }
    let records = traits::records(root, name, "controls")?;
    let vector = format!("models/vectors/{name}.safetensors");
    let pack = format!("models/traits/{name}.json");
    let mut command = study(root, "controls", &pack, &vector, &records);
    command.args(["--contrast", &format!("models/vectors/{name}.contrast")]);
    command.args(["--layer", &own.detail.layer.to_string()]);
    command.args(["--dose", &own.detail.dose.to_string()]);
    command.args(extra.as_flattened());
    let reports: Vec<Report> = serde_json::from_slice(&process::output(&mut command)?)?;
    ensure!(
        reports.len() == labels.len(),
        "{} vectors were judged, and {} reports came of it",
        labels.len(),
        reports.len()
    );
    known.extend(
        labels
            .into_iter()
            .zip(reports.iter().map(|report| report.found(None))),
    );
    keep(root, ledger)
}

fn study(root: &Path, verb: &str, pack: &str, vector: &str, records: &Path) -> Command {
    let mut program = program::trimtab(root);
    program.args([verb, "--precision", "exact", "--json"]);
    program.args(["--trait", pack, "--vector", vector]);
    program.arg("--keep").arg(records);
    program
}

fn report(command: &mut Command) -> Result<Report> {
    Ok(serde_json::from_slice(&process::output(command)?)?)
}

fn judged(root: &Path, kept: &Path, planted: &Planted, own: &Answers) -> Result<Found> {
    let path = |end: &str| kept.join(format!("{}.{end}", planted.name));
    let file = |end: &str| path(end).display().to_string();
    let (pack, pairs, vector) = (file("pack.json"), file("pairs.json"), file("safetensors"));
    let asked: Vec<String> = own
        .neutral
        .iter()
        .map(|(question, _)| question.clone())
        .collect();
    write(
        &path("pack.json"),
        &serde_json::to_vec(&planted.pack(&asked, &own.questions))?,
    )?;
    write(
        &path("pairs.json"),
        &serde_json::to_vec(&planted.pairs(&own.neutral))?,
    )?;
    if !path("safetensors").exists() {
        let mut extract = program::trimtab(root);
        extract.args(["extract", "--precision", "exact", "--pairs", &pairs]);
        extract.args(["--out", &vector, "--calibrate"]);
        extract.args(["--neutral", "models/vectors/neutral.json"]);
        process::run(&mut extract)?;
    }
    // Nobody wrote answers under its instructions: all pairs are unseen.
    let unseen = ["--extraction-pairs", "0", "--pairs", "1"];
    let swept = path("sweep.json");
    if !swept.exists() {
        let mut sweep = study(root, "sweep", &pack, &vector, &path("sweep-records.json"));
        write(&swept, &process::output(sweep.arg("--store").args(unseen))?)?;
    }
    let sweep: Sweep = read_json(&swept)?;
    let unjudged = |verdict: &str, counts| Found {
        verdict: verdict.to_owned(),
        effect: None,
        counts,
    };
    if sweep.recommended.is_null() {
        return Ok(unjudged("no layer and dose recommended", None));
    }
    let most = sweep.most_moved(planted, own);
    if most.as_ref().is_none_or(|most| most.shift < HARDLY_MOVED) {
        return Ok(unjudged(
            "its count hardly moves in the sweep: not judged",
            most,
        ));
    }
    let mut command = study(root, "controls", &pack, &vector, &path("records.json"));
    command.args(unseen).args(["--conversations", &pairs]);
    command.args(RIVALS.iter().flat_map(|name| ["--other", name]));
    let report = report(&mut command)?;
    let counts = counts(planted, &report);
    Ok(report.found(Some(counts)))
}

fn counts(planted: &Planted, report: &Report) -> Counts {
    let of = |texts: &[Text]| -> Vec<f64> {
        let counts = texts.iter().map(|text| (planted.count)(&text.text));
        counts.collect()
    };
    let pushed = report.vector().map_or(&[][..], |row| &row.texts);
    Counts::between(&of(&report.detail.unsteered_texts), &of(pushed))
}

impl Counts {
    fn between(unsteered: &[f64], pushed: &[f64]) -> Self {
        // Where no unsteered answer has any, the pushed ones' own spread is the unit.
        let spread = match deviation(unsteered) {
            none if none < 1e-9 => deviation(pushed),
            some => some,
        };
        let difference = mean(pushed) - mean(unsteered);
        Self {
            unsteered: mean(unsteered),
            pushed: mean(pushed),
            shift: if spread > 0.0 {
                difference / spread
            } else {
                0.0
            },
        }
    }
}

#[derive(Deserialize)]
struct Sweep {
    recommended: Value,
    rows: Vec<SweepRow>,
}

#[derive(Deserialize)]
struct SweepRow {
    #[serde(rename = "incoherent")]
    broken: f64,
    texts: Vec<Text>,
}

impl Sweep {
    /// The most that the count is moved by, of all settings that leave the text whole. Unsteered are the model's neutral
    /// answers; of both as many words as the shortest has.
    fn most_moved(&self, planted: &Planted, own: &Answers) -> Option<Counts> {
        let whole = || self.rows.iter().filter(|row| row.broken <= MAX_BROKEN);
        let neutral = own.neutral.iter().map(|(_, text)| text.as_str());
        let pushed = whole().flat_map(|row| row.texts.iter().map(|one| one.text.as_str()));
        let lengths = neutral
            .clone()
            .chain(pushed)
            .map(|text| text.split_whitespace().count());
        let words = lengths.min()?.max(10);
        let count = |text: &str| (planted.count)(first_words(text, words));
        let unsteered: Vec<f64> = neutral.map(count).collect();
        let moved = whole().map(|row| {
            let pushed: Vec<f64> = row.texts.iter().map(|one| count(&one.text)).collect();
            Counts::between(&unsteered, &pushed)
        });
        moved.max_by(|a, b| a.shift.total_cmp(&b.shift))
    }
}

/// `text` up to the end of that many words, its line breaks kept.
fn first_words(text: &str, words: usize) -> &str {
    let mut starts = text
        .char_indices()
        .zip(std::iter::once(' ').chain(text.chars()))
        .filter(|((_, own), before)| !own.is_whitespace() && before.is_whitespace());
    match starts.nth(words) {
        Some(((at, _), _)) => text[..at].trim_end(),
        None => text,
    }
}

/// What all planted directions are made of and tried on.
struct Answers {
    /// The model's neutral answers: question and text.
    neutral: Vec<(String, String)>,
    /// Evaluation questions that suit any way of writing.
    questions: Vec<String>,
}

fn answers(root: &Path) -> Result<Answers> {
    Ok(Answers {
        neutral: neutral_answers(root)?,
        questions: questions(root)?,
    })
}

fn neutral_answers(root: &Path) -> Result<Vec<(String, String)>> {
    let neutral: Value = serde_json::from_slice(&read(&root.join("models/vectors/neutral.json"))?)?;
    let answers = neutral["answers"].as_array().into_iter().flatten();
    let of = |answer: &Value, key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Ok(answers
        .map(|answer| (of(answer, "question"), of(answer, "text")))
        .collect())
}

fn questions(root: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in ["poetic", "simple"] {
        let pack: Value =
            serde_json::from_slice(&read(&root.join(format!("models/traits/{name}.json")))?)?;
        let own = pack["questions"]["evaluation"]
            .as_array()
            .into_iter()
            .flatten();
        all.extend(own.filter_map(Value::as_str).take(16).map(str::to_owned));
    }
    Ok(all)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_words() {
        let text = "One two\n- three four.";
        assert_eq!(first_words(text, 2), "One two");
        assert_eq!(first_words(text, 4), "One two\n- three");
        assert_eq!(first_words(text, 9), text);
        assert_eq!(first_words("", 3), "");
    }
}
