//! `trimtab screen`: which rows of a dataset would move the model along which trait, before anything is trained. Rows stream through:
//! what is found of each is a line of a file, from which a run that was stopped goes on.

use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{self, Terminal};
use crate::vectors::{load_vector, ready_made};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use trimtab_checkpoint::convert::directory::hash_file;
use trimtab_engine::Precision;
use trimtab_persona::bootstrap::Estimate;
use trimtab_persona::dataset::{DatasetError, NumberedRow, Rows};
use trimtab_persona::screening::{NORMAL, Screen, ScreenSummary, ScreenedRow, ScreenedTrait};
use trimtab_studio::screening::ScreenRequest;
use trimtab_studio::session::Session;

/// Rows that are worked on between two writes.
const AT_ONCE: usize = 8;
/// Tokens of the longest row that is read whole; what is longer is cut.
const CONTEXT: usize = 2_048;
/// Longest line of results that is read, in bytes.
const MAX_RESULT_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// JSON Lines, one conversation a line: {"messages": [{"role", "content"}, …]}, perhaps with a "label"
    data: PathBuf,
    /// What is found of each row goes here, a line each; a run that was stopped goes on from it
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// A ready-made trait or a vector file, as often as wished [default: all ready-made ones]
    #[arg(long = "trait", value_name = "NAME")]
    traits: Vec<String>,
    /// The model writes its own answer to every so many rows; 0: to none, and only the given answers' projections are read
    #[arg(long, value_name = "N", default_value_t = 1)]
    own_every: u32,
    /// Tokens of an own answer
    #[arg(long, value_name = "N", default_value_t = 48)]
    max_tokens: usize,
    /// Seed of the own answers
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u32,
    /// Screen only every N-th row, from the I-th on (0/4, 1/4 …), so that several machines share a file
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// A label that the screen should find, as often as wished [default: every label but "normal"]
    #[arg(long, value_name = "LABEL")]
    flag: Vec<String>,
    /// Then write the rows whose difference along the (only) trait is above this to --flagged and the others to --rest; in
    /// deviations of neutral answers
    #[arg(long, value_name = "D", allow_hyphen_values = true, requires_all = ["flagged", "rest"])]
    above: Option<f64>,
    #[arg(long, value_name = "FILE.jsonl", requires = "above")]
    flagged: Option<PathBuf>,
    #[arg(long, value_name = "FILE.jsonl", requires = "above")]
    rest: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Rows whose number leaves `part` when divided by `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shard {
    part: u64,
    of: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let parsed = numbers.and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((part, of)) if part < of => Ok(Self { part, of }),
            _ => Err("a shard is I/N with I from 0 to N − 1, such as 0/4".into()),
        }
    }
}

/// The first line of a file of results: what they are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct About {
    model_sha256: String,
    /// Of the dataset's file.
    data_sha256: String,
    precision: Precision,
    traits: Vec<ScreenedTrait>,
    own_every: u32,
    max_tokens: usize,
    seed: u32,
    shard: Shard,
}

#[derive(Serialize, Deserialize)]
struct Header {
    about: About,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.above.is_none() || arguments.traits.len() == 1,
        "--above is about one trait; name it with --trait"
    );
    ensure!(
        arguments.above.is_none() || arguments.own_every == 1,
        "--above needs the model's own answer to every row, so leave --own-every at 1"
    );
    check_paths(arguments)?;
    let mut session = arguments.model.session(Some(CONTEXT), AT_ONCE)?;
    let names = match arguments.traits.is_empty() {
        true => ready_made(),
        false => arguments.traits.clone(),
    };
    let vectors = names.iter().map(|name| load_vector(name, &session));
    let vectors = vectors.collect::<Result<Vec<_>>>()?;
    session.set_vectors(vectors)?;
    let about = About {
        model_sha256: session.sha256.clone(),
        data_sha256: hash_file(&arguments.data)
            .with_context(|| arguments.data.display().to_string())?
            .1,
        precision: session.engine.info().precision,
        traits: session.screened_traits()?,
        own_every: arguments.own_every,
        max_tokens: arguments.max_tokens,
        seed: arguments.seed,
        shard: arguments.shard.unwrap_or(Shard { part: 0, of: 1 }),
    };
    let next = go_on(&arguments.out, &about)?;
    screen(arguments, &about, next, &mut session)?;
    let summary = summary(arguments, &about)?;
    if let (Some(above), Some(flagged), Some(rest)) =
        (arguments.above, &arguments.flagged, &arguments.rest)
    {
        split(arguments, &about, above, [flagged, rest])?;
    }
    match arguments.json {
        true => print_json(&summary),
        false => {
            print(&summary);
            Ok(())
        }
    }
}

/// Refuses to write over what is read, or two things to one file.
fn check_paths(arguments: &Arguments) -> Result<()> {
    let named = [
        Some(&arguments.out),
        arguments.flagged.as_ref(),
        arguments.rest.as_ref(),
    ];
    let mut known = vec![absolute(&arguments.data)?];
    for path in named.into_iter().flatten() {
        let path = absolute(path)?;
        ensure!(
            !known.contains(&path),
            "{} is named twice; give every file a name of its own",
            path.display()
        );
        known.push(path);
    }
    Ok(())
}

/// Where a path lies, whether or not a file is there.
fn absolute(path: &Path) -> Result<PathBuf> {
    let named = || path.display().to_string();
    match path.exists() {
        true => path.canonicalize().with_context(named),
        false => std::path::absolute(path).with_context(named),
    }
}

fn length(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.len())
}

fn rows(path: &Path) -> Result<Rows<BufReader<File>>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(Rows::new(BufReader::new(file)))
}

/// Makes a file of results ready to be added to: begins it, or cuts off a line that was not finished. Gives the number of the first
/// row that it lacks.
fn go_on(path: &Path, about: &About) -> Result<u64> {
    let named = || path.display().to_string();
    if !path.exists() || length(path)? == 0 {
        let header = Header {
            about: about.clone(),
        };
        let line = format!("{}\n", serde_json::to_string(&header)?);
        std::fs::write(path, line).with_context(named)?;
        return Ok(0);
    }
    let mut results = Results::open(path)?;
    ensure!(
        results.about == *about,
        "{} holds what was found with other settings, traits, data or another model; name another file with --out, or remove it",
        path.display()
    );
    let mut next = 0;
    while let Some(row) = results.next()? {
        ensure!(
            row.row >= next,
            "{} has row {} twice; remove the file, and screen again",
            path.display(),
            row.row
        );
        next = row.row + 1;
    }
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(named)?;
    file.set_len(results.whole_bytes).with_context(named)?;
    Ok(next)
}

/// A file of results, a line in memory at a time.
struct Results {
    from: BufReader<File>,
    about: About,
    path: PathBuf,
    /// Bytes of the lines that were read and are whole.
    whole_bytes: u64,
}

impl Results {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut from = BufReader::new(file);
        let line = whole_line(&mut from)?.unwrap_or_default();
        let header: Header = serde_json::from_slice(&line)
            .with_context(|| format!("{} is no file of a screen's results", path.display()))?;
        Ok(Self {
            from,
            about: header.about,
            path: path.to_owned(),
            whole_bytes: line.len() as u64,
        })
    }

    /// The next row; `None` at the end, and at a line that was not finished.
    fn next(&mut self) -> Result<Option<ScreenedRow>> {
        let Some(line) = whole_line(&mut self.from)? else {
            return Ok(None);
        };
        let row = serde_json::from_slice(&line).with_context(|| {
            let at = self.whole_bytes;
            format!("{} is broken at byte {at}", self.path.display())
        })?;
        self.whole_bytes += line.len() as u64;
        Ok(Some(row))
    }
}

/// A line with its end, if it has one.
fn whole_line(from: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    std::io::Read::take(&mut *from, MAX_RESULT_BYTES).read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then_some(line))
}

/// Screens the rows from number `next` on that are in the shard.
fn screen(arguments: &Arguments, about: &About, next: u64, session: &mut Session) -> Result<()> {
    let named = || arguments.out.display().to_string();
    let out = OpenOptions::new().append(true).open(&arguments.out);
    let mut out = BufWriter::new(out.with_context(named)?);
    let mut group: Vec<NumberedRow> = Vec::with_capacity(AT_ONCE);
    let mut done = 0_u64;
    let shard = about.shard;
    let wanted = |row: &NumberedRow| row.row >= next && row.row % shard.of == shard.part;
    let mut rows = rows(&arguments.data)?;
    loop {
        let row = rows
            .next()
            .transpose()
            .with_context(|| arguments.data.display().to_string())?;
        let last = row.is_none();
        group.extend(row.filter(&wanted));
        if group.len() == AT_ONCE || (last && !group.is_empty()) {
            let request = ScreenRequest {
                rows: std::mem::take(&mut group),
                own_every: Some(arguments.own_every),
                max_tokens: Some(arguments.max_tokens),
                seed: Some(arguments.seed),
            };
            let found = pollster::block_on(session.screen(request, &mut Terminal::quiet()))?.rows;
            for row in &found {
                serde_json::to_writer(&mut out, row)?;
                out.write_all(b"\n").with_context(named)?;
            }
            out.flush().with_context(named)?;
            done += found.len() as u64;
            progress::show(&format!("screening: {done} rows"));
        }
        if last {
            progress::finish();
            return Ok(());
        }
    }
}

/// Rows of the dataset with what was found of them, in order.
fn found(
    arguments: &Arguments,
    mut visit: impl FnMut(&NumberedRow, &[u8], &ScreenedRow) -> Result<()>,
) -> Result<()> {
    let mut results = Results::open(&arguments.out)?;
    let mut rows = rows(&arguments.data)?;
    while let Some(found) = results.next()? {
        let row = loop {
            match rows.next().transpose()? {
                Some(row) if row.row == found.row => break row,
                Some(row) if row.row < found.row => {}
                _ => bail!(
                    "{} has no row {}; it changed since it was screened",
                    arguments.data.display(),
                    found.row
                ),
            }
        };
        visit(&row, rows.line_of_last(), &found)?;
    }
    Ok(())
}

fn summary(arguments: &Arguments, about: &About) -> Result<ScreenSummary> {
    let mut screen = Screen::new(about.traits.clone());
    let flagged = |label: &str| match arguments.flag.is_empty() {
        true => label != NORMAL,
        false => arguments.flag.iter().any(|flag| flag == label),
    };
    found(arguments, |row, _, found| {
        screen.add(found, row.conversation.answer(), flagged);
        Ok(())
    })?;
    let summary = screen.summary();
    match summary.rows {
        0 => Err(DatasetError::Empty).with_context(|| arguments.data.display().to_string()),
        _ => Ok(summary),
    }
}

/// Writes the dataset's lines to two files, by the difference along the first trait.
fn split(
    arguments: &Arguments,
    about: &About,
    above: f64,
    [flagged, rest]: [&Path; 2],
) -> Result<()> {
    let create = |path: &Path| -> Result<BufWriter<File>> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(BufWriter::new(file))
    };
    let unit = about.traits.first().map_or(1.0, ScreenedTrait::unit);
    let mut files = [create(flagged)?, create(rest)?];
    found(arguments, |_, line, found| {
        // A row that could not be read is not flagged.
        let is_flagged = found.difference(0).is_some_and(|one| one / unit > above);
        let file = &mut files[usize::from(!is_flagged)];
        file.write_all(line)?;
        Ok(file.write_all(b"\n")?)
    })?;
    for file in &mut files {
        file.flush()?;
    }
    Ok(())
}

fn print(summary: &ScreenSummary) {
    println!(
        "{} rows, {} of them with an answer of the model's own; differences in deviations of neutral answers",
        summary.rows, summary.with_own
    );
    let interval = |found: &Option<Estimate>| {
        found.map_or("–".into(), |found| {
            format!(
                "{:+.2} [{:+.2}, {:+.2}]",
                found.value, found.low, found.high
            )
        })
    };
    let area = |found: &Option<Estimate>| {
        found.map_or("–".into(), |found| {
            format!("{:.2} [{:.2}, {:.2}]", found.value, found.low, found.high)
        })
    };
    for one in &summary.traits {
        println!(
            "{:18} layer {:2}  difference {:22}  AUROC {:18}  of the given answers alone {}",
            one.of.name,
            one.of.layer,
            interval(&one.difference),
            area(&one.difference_auroc),
            area(&one.given_auroc),
        );
    }
    if let Some(words) = &summary.words_auroc {
        println!("a classifier of words alone: AUROC {}", area(&Some(*words)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_parts_of_a_whole() {
        assert_eq!("1/4".parse(), Ok(Shard { part: 1, of: 4 }));
        for wrong in ["4/4", "1", "-1/4", "1/0", "a/b", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn results_go_on_behind_the_last_whole_line() {
        let folder = std::env::temp_dir().join(format!("trimtab-screen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("found.jsonl");
        let _ = std::fs::remove_file(&path);
        let about = About {
            model_sha256: "a".into(),
            data_sha256: "b".into(),
            precision: Precision::Exact,
            traits: Vec::new(),
            own_every: 1,
            max_tokens: 8,
            seed: 1,
            shard: Shard { part: 0, of: 1 },
        };
        assert_eq!(go_on(&path, &about).unwrap(), 0);
        let row = |row: u64| format!(r#"{{"row":{row},"tokens":1,"given":[0.5]}}"#);
        let begun = std::fs::read_to_string(&path).unwrap();
        let whole = format!("{begun}{}\n{}\n", row(0), row(4));
        // What a kill leaves: half a line.
        std::fs::write(&path, format!("{whole}{}", &row(5)[..9])).unwrap();
        assert_eq!(go_on(&path, &about).unwrap(), 5);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        let other = About {
            seed: 2,
            ..about.clone()
        };
        assert!(
            go_on(&path, &other)
                .unwrap_err()
                .to_string()
                .contains("other settings")
        );
        std::fs::write(&path, format!("{whole}{}\n", row(4))).unwrap();
        assert!(
            go_on(&path, &about)
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
