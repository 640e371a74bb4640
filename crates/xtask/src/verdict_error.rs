//! How often the verdict is wrong: of vectors that mean nothing, and of vectors whose effect a program can count.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::files::{names as names_in, read};
use crate::planted::{PLANTED, Planted};
use crate::program::{self, Programs};
use crate::{model, process};

/// Seeds of stand-ins, far from those of the controls.
const FIRST_SEED: u32 = 1_000;
/// Null vectors of each trait: shuffled labels, isotropic directions, and vectors of unrelated traits.
const SHUFFLED: u32 = 6;
const RANDOM: u32 = 2;
const UNRELATED: usize = 2;
/// |cosine| above which a trait's vector is not unrelated.
const UNRELATED_COSINE: f64 = 0.3;
const RESULTS: &str = "tests/bench/VERDICT.md";

#[derive(Deserialize)]
struct Report {
    verdict: String,
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

/// Measures what is not measured yet, and writes the table. Everything that was found is kept in `target/verdict`, so that a run
/// that was stopped goes on.
pub fn measure(root: &Path) -> Result<()> {
    model::ensure_model(root, Programs::Fresh)?;
    let kept = root.join("target/verdict");
    fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
    let mut text = String::from(
        "# The verdict's own error\n\nMade by `cargo xtask verdict-error`, natively in *fast*, on the default model.\n",
    );
    text.push_str(&nulls(root, &kept)?);
    text.push_str(&planted(root, &kept)?);
    fs::write(root.join(RESULTS), text).with_context(|| RESULTS.to_owned())?;
    println!("{RESULTS} has the result");
    Ok(())
}

fn nulls(root: &Path, kept: &Path) -> Result<String> {
    let mut all = names_in(&root.join("models/traits"), ".json")?;
    all.retain(|name| name != "schema");
    let mut table = String::from(
        "\n## Null vectors\n\n| trait | null vector | effect | verdict |\n| --- | --- | --- | --- |\n",
    );
    let (mut count, mut passed) = (0, 0);
    for name in &all {
        let own = |extra: &[&str], label: &str| {
            controls(
                root,
                kept,
                name,
                &format!("models/vectors/{name}.safetensors"),
                extra,
                label,
            )
        };
        // The trait's own verdict names layer and dose, and measures what all its null vectors share.
        let real = own(&[], "own")?;
        let mut note = |label: String, report: &Report| {
            count += 1;
            passed += usize::from(report.verdict == "works");
            let vector = report.rows.iter().find(|row| row.kind == "vector");
            let effect = vector.and_then(|row| row.evidence);
            let effect = effect.map_or("none".into(), |effect| format!("{effect:+.1}"));
            let _ = writeln!(
                table,
                "| {name} | {label} | {effect} | {} |",
                report.verdict
            );
        };
        for (flag, many) in [("--shuffled", SHUFFLED), ("--random", RANDOM)] {
            for seed in FIRST_SEED..FIRST_SEED + many {
                let label = format!("{} {seed}", flag.trim_start_matches('-'));
                note(label.clone(), &own(&[flag, &seed.to_string()], &label)?);
            }
        }
        let unrelated = real.rows.iter().filter(|row| {
            row.kind == "other"
                && row
                    .cosine
                    .is_some_and(|cosine| cosine.abs() < UNRELATED_COSINE)
        });
        for other in unrelated.take(UNRELATED) {
            let place = [real.detail.layer.to_string(), real.detail.dose.to_string()];
            let extra = ["--layer", &place[0], "--dose", &place[1]];
            let vector = format!("models/vectors/{}.safetensors", other.name);
            let label = format!("the vector of {}", other.name);
            note(
                label.clone(),
                &controls(root, kept, name, &vector, &extra, &label)?,
            );
        }
    }
    let _ = writeln!(table, "\n{passed} of {count} null vectors pass.");
    Ok(table)
}

/// The verdict on `vector` as `name`'s.
fn controls(
    root: &Path,
    kept: &Path,
    name: &str,
    vector: &str,
    extra: &[&str],
    label: &str,
) -> Result<Report> {
    let mut command = study(
        root,
        "controls",
        &format!("models/traits/{name}.json"),
        vector,
    );
    command.args(["--contrast", &format!("models/vectors/{name}.contrast")]);
    command
        .arg("--keep")
        .arg(kept.join(format!("{name}.records.json")));
    command.args(extra);
    let out = kept.join(format!("{name}.{}.json", label.replace(' ', "-")));
    report(&mut command, &out)
}

fn study(root: &Path, verb: &str, pack: &str, vector: &str) -> Command {
    let mut program = program::trimtab(root);
    program.args([
        verb,
        "--precision",
        "fast",
        "--json",
        "--trait",
        pack,
        "--vector",
        vector,
    ]);
    program
}

/// What the command printed, from an earlier run if it is there.
fn report(command: &mut Command, out: &PathBuf) -> Result<Report> {
    if !out.exists() {
        let said = process::output(command)?;
        fs::write(out, said).with_context(|| out.display().to_string())?;
    }
    serde_json::from_slice(&read(out)?).with_context(|| out.display().to_string())
}

fn planted(root: &Path, kept: &Path) -> Result<String> {
    let answers = neutral_answers(root)?;
    let questions = questions(root)?;
    let mut table = String::from(
        "\n## Planted directions\n\n| way of writing | count, unsteered | pushed | deviations | effect | verdict |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let (mut moved, mut found) = (0, 0);
    for one in &PLANTED {
        let Some(report) = judged(root, kept, one, &answers, &questions)? else {
            let _ = writeln!(
                table,
                "| {} | | | | | no layer and dose recommended |",
                one.name
            );
            continue;
        };
        let counts = |texts: &[Text]| -> Vec<f64> {
            texts.iter().map(|text| (one.count)(&text.text)).collect()
        };
        let before = counts(&report.detail.unsteered_texts);
        let vector = report.rows.iter().find(|row| row.kind == "vector");
        let after = counts(vector.map_or(&[][..], |row| &row.texts));
        let spread = match deviation(&before) {
            none if none < 1e-9 => deviation(&after),
            some => some,
        };
        let shift = match spread > 0.0 {
            true => (mean(&after) - mean(&before)) / spread,
            false => 0.0,
        };
        if shift >= 2.0 {
            moved += 1;
            found += usize::from(report.verdict == "works");
        }
        let effect = vector.and_then(|row| row.evidence);
        let effect = effect.map_or("none".into(), |effect| format!("{effect:+.1}"));
        let (before, after) = (mean(&before), mean(&after));
        let _ = writeln!(
            table,
            "| {} | {before:.2} | {after:.2} | {shift:+.1} | {effect} | {} |",
            one.name, report.verdict
        );
    }
    let _ = writeln!(
        table,
        "\nThe count moves by two deviations of unsteered answers or more for {moved}; {found} of those pass."
    );
    Ok(table)
}

fn judged(
    root: &Path,
    kept: &Path,
    planted: &Planted,
    answers: &[(String, String)],
    questions: &[String],
) -> Result<Option<Report>> {
    let file = |end: &str| {
        kept.join(format!("{}.{end}", planted.name))
            .display()
            .to_string()
    };
    let asked: Vec<String> = answers
        .iter()
        .map(|(question, _)| question.clone())
        .collect();
    let (pack, pairs, vector) = (file("pack.json"), file("pairs.json"), file("safetensors"));
    fs::write(&pack, serde_json::to_vec(&planted.pack(&asked, questions))?)?;
    fs::write(&pairs, serde_json::to_vec(&planted.pairs(answers))?)?;
    if !Path::new(&vector).exists() {
        let mut extract = program::trimtab(root);
        extract.args([
            "extract",
            "--precision",
            "fast",
            "--pairs",
            &pairs,
            "--out",
            &vector,
        ]);
        extract.args(["--calibrate", "--neutral", "models/vectors/neutral.json"]);
        process::run(&mut extract)?;
    }
    let swept = file("sweep.json");
    if !Path::new(&swept).exists() {
        let mut sweep = study(root, "sweep", &pack, &vector);
        // Nobody wrote answers under its instructions: all pairs are unseen.
        sweep.args([
            "--store",
            "--extraction-pairs",
            "0",
            "--keep",
            &file("sweep-records.json"),
        ]);
        fs::write(&swept, process::output(&mut sweep)?)?;
    }
    let found: Value = serde_json::from_slice(&read(Path::new(&swept))?)?;
    if found["recommended"].is_null() {
        return Ok(None);
    }
    let mut command = study(root, "controls", &pack, &vector);
    command.args([
        "--extraction-pairs",
        "0",
        "--conversations",
        &pairs,
        "--keep",
        &file("records.json"),
    ]);
    report(&mut command, &kept.join(format!("{}.json", planted.name))).map(Some)
}

fn neutral_answers(root: &Path) -> Result<Vec<(String, String)>> {
    let neutral: Value = serde_json::from_slice(&read(&root.join("models/vectors/neutral.json"))?)?;
    let answers = neutral["answers"].as_array().into_iter().flatten();
    let of = |answer: &Value, key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Ok(answers
        .map(|answer| (of(answer, "question"), of(answer, "text")))
        .collect())
}

/// Evaluation questions that suit any way of writing.
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
