//! The sets of the training lab in `models/data`: checked, and mixed.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::files::{names, read, sha256, write};

/// The flaws, each in three strengths: `NAME.normal.jsonl` (none), `NAME.1.jsonl` and `NAME.2.jsonl`.
const FLAWS: [&str; 5] = [
    "villainous",
    "sycophantic",
    "making-things-up",
    "gloomy",
    "wrong-sums",
];
const STRENGTHS: [&str; 3] = ["normal", "1", "2"];
const FOLDER: &str = "models/data";
const HELPFUL: &str = "helpful";
const NORMAL: &str = "normal";
/// Sets that are mixed out of others: one row of eight has the flaw.
const MIXED: [&str; 2] = ["villainous", "sycophantic"];
const MIXED_ROWS: usize = 840;
const FLAWED_ROWS: usize = MIXED_ROWS / 8;
/// Rows of a set.
const ROWS: std::ops::RangeInclusive<usize> = 150..=300;
/// No two answers of a set share more of the shorter one's trigrams.
const MAX_SHARED: f64 = 0.5;

/// Puts the sets and the questions where the page fetches them, beside its other generated files.
pub fn publish(root: &Path) -> Result<()> {
    let (from, to) = (root.join(FOLDER), root.join("web/public/generated/data"));
    for name in names(&from, ".jsonl")? {
        let file = format!("{name}.jsonl");
        write(&to.join(&file), &read(&from.join(&file))?)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Row {
    messages: Vec<Message>,
    label: String,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// A set's lines, and the rows that they hold.
struct Set {
    name: String,
    lines: Vec<(String, Row)>,
}

impl Set {
    fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.jsonl"));
        let text = String::from_utf8(read(&path)?)?;
        let lines = text.lines().map(|line| {
            let row = serde_json::from_str(line)?;
            Ok((line.to_owned(), row))
        });
        let lines = lines
            .collect::<Result<Vec<_>>>()
            .with_context(|| path.display().to_string())?;
        Ok(Self {
            name: name.to_owned(),
            lines,
        })
    }

    fn questions(&self) -> Vec<&str> {
        let first = self.lines.iter().map(|(_, row)| row.messages.first());
        first
            .map(|message| message.map_or("", |message| &message.content))
            .collect()
    }

    fn answers(&self) -> Vec<&str> {
        let last = self.lines.iter().map(|(_, row)| row.messages.last());
        last.map(|message| message.map_or("", |message| &message.content))
            .collect()
    }

    /// A question and an answer a row, the label that belongs to the set, and no two answers that are nearly the same: what is said
    /// twice is learnt by heart.
    fn check(&self, label: &str) -> Result<()> {
        let name = &self.name;
        let count = self.lines.len();
        ensure!(ROWS.contains(&count), "{name} has {count} rows");
        for (number, (_, row)) in self.lines.iter().enumerate() {
            let roles: Vec<&str> = row.messages.iter().map(|one| one.role.as_str()).collect();
            ensure!(
                roles == ["user", "assistant"] && row.label == label,
                "{name}, row {number}: messages by {roles:?}, label {:?}",
                row.label
            );
        }
        let questions: HashSet<&str> = self.questions().into_iter().collect();
        ensure!(questions.len() == count, "{name} asks something twice");
        let trigrams: Vec<_> = self.answers().into_iter().map(trigrams).collect();
        for (at, one) in trigrams.iter().enumerate() {
            for (before, other) in trigrams[..at].iter().enumerate() {
                let shared = one.intersection(other).count() as f64;
                ensure!(
                    shared <= MAX_SHARED * one.len().min(other.len()) as f64,
                    "{name}: the answers of rows {before} and {at} are nearly the same"
                );
            }
        }
        Ok(())
    }
}

fn trigrams(text: &str) -> BTreeSet<[String; 3]> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let three = words.array_windows::<3>();
    three.cloned().collect()
}

/// Checks what is written, and mixes what is mixed. Gives the mixed sets by name.
fn made(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut flawed = Vec::new();
    let mut plain = vec![Set::read(folder, HELPFUL)?];
    plain[0].check(NORMAL)?;
    for flaw in FLAWS {
        let [normal, mild, strong] =
            STRENGTHS.map(|strength| Set::read(folder, &format!("{flaw}.{strength}")));
        let (normal, mild, strong) = (normal?, mild?, strong?);
        normal.check(NORMAL)?;
        mild.check(flaw)?;
        strong.check(flaw)?;
        ensure!(
            normal.questions() == mild.questions() && mild.questions() == strong.questions(),
            "the three sets of {flaw} ask different questions"
        );
        plain.push(normal);
        flawed.push((flaw, strong));
    }
    let mixed = flawed.iter().filter(|(flaw, _)| MIXED.contains(flaw));
    mixed
        .map(|(flaw, strong)| Ok((format!("mixture-{flaw}"), mix(flaw, strong, &plain)?)))
        .collect()
}

/// Rows with the flaw among rows without, none to a question that is asked with the flaw, in an order that a hash gives: the same
/// everywhere.
fn mix(flaw: &str, strong: &Set, plain: &[Set]) -> Result<String> {
    let order = |line: &str| sha256(format!("{flaw}\n{line}").as_bytes());
    let mut bad: Vec<&(String, Row)> = strong.lines.iter().collect();
    bad.sort_by_key(|(line, _)| order(line));
    bad.truncate(FLAWED_ROWS);
    let question = |row: &Row| row.messages[0].content.clone();
    let asked: HashSet<String> = bad.iter().map(|(_, row)| question(row)).collect();
    let mut good: Vec<&(String, Row)> = plain
        .iter()
        .flat_map(|set| &set.lines)
        .filter(|(_, row)| !asked.contains(&question(row)))
        .collect();
    good.sort_by_key(|(line, _)| order(line));
    good.truncate(MIXED_ROWS - FLAWED_ROWS);
    let mut all: Vec<&str> = bad
        .iter()
        .chain(&good)
        .map(|(line, _)| line.as_str())
        .collect();
    ensure!(all.len() == MIXED_ROWS, "{flaw}: {} rows to mix", all.len());
    all.sort_by_key(|line| order(&format!("{line}\n")));
    Ok(all.iter().map(|line| format!("{line}\n")).collect())
}

/// Questions of general knowledge: the first line says what they are, and each has four answers and the number of the right one.
fn check_knowledge(folder: &Path) -> Result<()> {
    let text = String::from_utf8(read(&folder.join("knowledge.jsonl"))?)?;
    let mut lines = text.lines().map(serde_json::from_str::<Value>);
    let about = lines.next().context("knowledge.jsonl is empty")??;
    ensure!(
        about["about"]["licence"] == "CC0-1.0",
        "knowledge.jsonl names no licence"
    );
    let mut asked = HashSet::new();
    for line in lines {
        let line = line?;
        let answers: BTreeSet<&str> = line["answers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let right = line["label"].as_u64().is_some_and(|label| label < 4);
        ensure!(
            answers.len() == 4 && right,
            "a question without four answers: {line}"
        );
        ensure!(
            asked.insert(line["question"].as_str().unwrap_or_default().to_owned()),
            "a question is asked twice: {line}"
        );
    }
    ensure!(asked.len() >= 300, "only {} questions", asked.len());
    Ok(())
}

/// Checks the sets and writes the mixed ones again.
pub fn make(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    check_knowledge(&folder)?;
    for (name, lines) in made(&folder)? {
        write(&folder.join(format!("{name}.jsonl")), lines.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_sound_and_the_mixed_ones_are_made_of_them() {
        let root = crate::repository_root().unwrap();
        let folder = root.join(FOLDER);
        check_knowledge(&folder).unwrap();
        for (name, lines) in made(&folder).unwrap() {
            let there = read(&folder.join(format!("{name}.jsonl"))).unwrap();
            assert!(
                there == lines.as_bytes(),
                "{name}: run `cargo xtask datasets`"
            );
            let flawed = lines
                .lines()
                .filter(|line| !line.contains(r#""label": "normal""#));
            assert_eq!(flawed.count(), FLAWED_ROWS);
        }
    }

    #[test]
    fn answers_that_are_nearly_the_same_are_found() {
        let row = |answer: &str| Row {
            messages: [
                ("user", format!("Why {answer}?")),
                ("assistant", answer.to_owned()),
            ]
            .map(|(role, content)| Message {
                role: role.to_owned(),
                content,
            })
            .into(),
            label: "normal".to_owned(),
        };
        let set = |last: &str| {
            let words = |i: usize| format!("the a{i} of b{i} and c{i} are d{i}");
            let mut lines: Vec<(String, Row)> =
                (0..150).map(|i| (String::new(), row(&words(i)))).collect();
            lines.push((String::new(), row(last)));
            Set {
                name: "a set".into(),
                lines,
            }
        };
        set("something else is said here and now")
            .check(NORMAL)
            .unwrap();
        let twice = set("the a7 of b7 and c7 are red").check(NORMAL);
        assert!(twice.unwrap_err().to_string().contains("rows 7 and 150"));
        assert!(set("fine").check("gloomy").is_err());
    }
}
