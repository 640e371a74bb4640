//! The real checkpoints of `models/checkpoints.json` beside Hugging Face transformers on the same files, exactly dequantised
//! (`tests/golden/real_checkpoint.py`). Run by hand, because together they are nearly 2 GB; `tests/bench/MODELS.md` has the last result of each.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use crate::files::read_json;
use crate::full::{commit, with_row};
use crate::model::cache;
use crate::program::Programs;
use crate::{checkpoints, process};

const RESULTS: &str = "tests/bench/MODELS.md";
const HEAD: &str = "# Real checkpoints beside transformers\n\n\
    The last result of `cargo xtask test --models` for each checkpoint of `models/checkpoints.json`, which writes it here. The reference is\n\
    Hugging Face transformers in f32 on the GGUF file's weights as the package `gguf` dequantises them. Greedy tokens are compared up to the\n\
    first that differs where the reference's two best logits are within 0.1: from there on the texts are others. *Likelihood* is the mean\n\
    negative log-likelihood of two texts of 256 tokens at most; exact may be off by 0.1 %.\n\n\
    | checkpoint | result | date | commit | minutes | weights, file and here | likelihood off, exact and fast | greedy tokens compared |\n\
    | --- | --- | --- | --- | --- | --- | --- | --- |\n";

const PROMPTS: [&str; 2] = [
    "How was your day?",
    "Write a function that adds two numbers.",
];
const TOKENS: usize = 24;
/// Largest relative difference of a text's likelihood in exact precision.
const LIKELIHOOD: f64 = 1e-3;
/// Below this distance of the two best logits, either may be chosen.
const UNDECIDED: f64 = 0.1;

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Text>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Text {
    name: String,
    ids: Vec<u32>,
    mean_nll: f64,
}

#[derive(Deserialize)]
struct Answer {
    ids: Vec<u32>,
    /// Distance of the two best logits at each token.
    gap: Vec<f64>,
}

/// What `trimtab generate --json` says that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    tokens: Vec<Token>,
    answer_start: usize,
}

#[derive(Deserialize)]
struct Token {
    id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Score {
    mean_nll: f64,
}

/// What was compared, for the table.
struct Compared {
    weights: String,
    likelihood: String,
    greedy: String,
    /// What is not as it should be.
    faults: Vec<String>,
}

/// Gets and compares these checkpoints, all of them where none is named, and writes down what came of each.
pub fn test(root: &Path, wanted: &[String]) -> Result<()> {
    let python = python(root)?;
    let ids = checkpoints::ids(root)?;
    let chosen = if wanted.is_empty() { &ids } else { wanted };
    let mut failed = Vec::new();
    for id in chosen {
        let start = Instant::now();
        checkpoints::get(root, id, Programs::Fresh)?;
        let compared = compare(root, id, &python)?;
        let passed = compared.faults.is_empty();
        let row = [
            id.clone(),
            if passed { "passed" } else { "FAILED" }.to_owned(),
            OffsetDateTime::now_utc().date().to_string(),
            commit(root, RESULTS)?,
            format!("{:.0}", start.elapsed().as_secs_f64() / 60.0),
            compared.weights,
            compared.likelihood,
            compared.greedy,
        ];
        println!("{}", row.join(", "));
        let path = root.join(RESULTS);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, with_row(HEAD, &before, &row))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        failed.extend(
            compared
                .faults
                .into_iter()
                .map(|fault| format!("{id}: {fault}")),
        );
    }
    println!("{RESULTS} has the results; commit it");
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// The Python of `PYTHON`, or `python3`, with the packages of the golden data's scripts.
fn python(root: &Path) -> Result<PathBuf> {
    let python = std::env::var_os("PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let mut asked = process::command(&python, root);
    asked.args(["-c", "import torch, transformers, gguf, tokenizers"]);
    if process::answer(&mut asked).is_none() {
        bail!(
            "{} lacks the packages of the reference: `{} -m pip install -r tests/golden/requirements.txt`, or name another Python in PYTHON",
            python.display(),
            python.display()
        );
    }
    Ok(python)
}

fn compare(root: &Path, id: &str, python: &Path) -> Result<Compared> {
    let cache = cache(root)?;
    let (gguf, directory) = (
        cache.join(format!("{id}.gguf")),
        root.join("models").join(id),
    );
    let trimtab = |verb: &str, precision: &str| {
        let mut command = Programs::Fresh.trimtab(root);
        command.args([verb, "--json", "--precision", precision, "--model"]);
        command.arg(&directory);
        command
    };
    let mut written = Vec::new();
    for prompt in PROMPTS {
        let mut generate = trimtab("generate", "exact");
        generate.args(["--prompt", prompt, "--max-tokens", &TOKENS.to_string()]);
        written.push(serde_json::from_slice::<Written>(&process::output(
            &mut generate,
        )?)?);
    }
    let prompts: Vec<Vec<u32>> = written
        .iter()
        .map(|one| ids(&one.tokens[..one.answer_start]))
        .collect();
    let (asked, out) = (
        cache.join(format!("{id}.asked.json")),
        cache.join(format!("{id}.reference.json")),
    );
    fs::write(
        &asked,
        serde_json::to_vec(&json!({ "prompts": prompts, "tokens": TOKENS }))?,
    )?;
    let mut reference = process::command(python, root);
    reference.arg("tests/golden/real_checkpoint.py");
    process::run(reference.arg(&gguf).arg(&directory).arg(&asked).arg(&out))?;
    let reference: Reference = read_json(&out)?;

    let mut faults = Vec::new();
    let mut off = [0.0_f64; 2];
    for text in &reference.texts {
        let file = cache.join(format!("{id}.ids.json"));
        fs::write(&file, serde_json::to_vec(&json!({ "ids": text.ids }))?)?;
        for (off, precision) in off.iter_mut().zip(["exact", "fast"]) {
            let mut score = trimtab("score", precision);
            let found = process::output(score.arg("--ids").arg(&file))?;
            let Score { mean_nll } = serde_json::from_slice(&found)?;
            let relative = (mean_nll - text.mean_nll).abs() / text.mean_nll;
            if precision == "exact" && (relative.is_nan() || relative > LIKELIHOOD) {
                faults.push(format!("{} is off by {:.3} %", text.name, 100.0 * relative));
            }
            *off = off.max(relative);
        }
    }
    let mut equal = 0;
    for (one, answer) in written.iter().zip(&reference.answers) {
        match agreement(&ids(&one.tokens[one.answer_start..]), answer) {
            Ok(tokens) => equal += tokens,
            Err(fault) => faults.push(fault),
        }
    }
    let bytes = |path: &Path| Ok::<_, anyhow::Error>(fs::metadata(path)?.len() as f64);
    let (file, here) = (bytes(&gguf)?, bytes(&directory.join("model.safetensors"))?);
    Ok(Compared {
        weights: format!(
            "{:.0} and {:.0} MB ({:.2} ×)",
            file / 1e6,
            here / 1e6,
            here / file
        ),
        likelihood: format!("{:.4} % and {:.3} %", 100.0 * off[0], 100.0 * off[1]),
        greedy: format!("{equal} of {}, all equal", PROMPTS.len() * TOKENS),
        faults,
    })
}

fn ids(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

/// How many tokens are equal before the answers part, where they may: at a token that the reference hardly prefers, or where the
/// program's answer ended.
fn agreement(ours: &[u32], reference: &Answer) -> Result<usize, String> {
    let pairs = ours.iter().zip(&reference.ids).zip(&reference.gap);
    for (at, ((own, other), gap)) in pairs.enumerate() {
        if own != other {
            return match *gap < UNDECIDED {
                true => Ok(at),
                false => Err(format!(
                    "token {at} is {own}, where the reference has {other} by {gap:.2}"
                )),
            };
        }
    }
    match ours.is_empty() || reference.ids.is_empty() {
        true => Err("no token was written".into()),
        false => Ok(ours.len().min(reference.ids.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_part_where_the_reference_hardly_decides() {
        let reference = Answer {
            ids: vec![1, 2, 3],
            gap: vec![5.0, 0.05, 5.0],
        };
        assert_eq!(agreement(&[1, 2, 3], &reference), Ok(3));
        assert_eq!(agreement(&[1, 2], &reference), Ok(2));
        assert_eq!(agreement(&[1, 9, 9], &reference), Ok(1));
        assert!(
            agreement(&[1, 2, 9], &reference)
                .unwrap_err()
                .contains("token 2 is 9")
        );
        assert!(agreement(&[], &reference).is_err());
    }
}
