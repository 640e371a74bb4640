//! Common parts of sweep, controls and predict: their arguments, the records that they keep, and the report that they
//! add to.

use crate::files::{read_bounded, read_json, write};
use crate::model::ModelArguments;
use crate::progress::{self, Terminal};
use crate::vectors::open_vector;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;
use trimtab_engine::Scope;
use trimtab_persona::coherence::CoherenceCriteria;
use trimtab_persona::outcome::{BaselineSummary, Outcome};
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, TraitPack};
use trimtab_persona::trait_report::TraitReport;
use trimtab_persona::trials::PROMPT_TOKENS;
use trimtab_persona::vector_file::MAX_FILE_BYTES;
use trimtab_studio::failure::Failure;
use trimtab_studio::records::MAX_RECORDS_BYTES;
use trimtab_studio::session::Session;
use trimtab_studio::studies::{StudyEvent, StudySettings, Subject};
use trimtab_studio::verbs::Event;

/// Answers written side by side: more gain little.
const MAX_AT_ONCE: usize = 16;

/// Arguments that the three verbs have in common.
#[derive(Debug, Args)]
pub struct StudyArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// The trait pack: its evaluation questions are asked, and its instruction pairs measure evidence
    #[arg(long, value_name = "TRAIT.json")]
    pub r#trait: PathBuf,
    /// A ready-made trait or a vector file
    #[arg(long, value_name = "NAME")]
    pub vector: String,
    /// Evaluation questions to ask [default: 8]
    #[arg(long, value_name = "N")]
    pub questions: Option<usize>,
    /// Tokens an answer [default: 32]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Instruction pairs that evidence is measured with, of those that extraction did not see [default: at most 2]
    #[arg(long, value_name = "N")]
    pub pairs: Option<usize>,
    /// Pairs that extraction used, from the first on [default: what the vector file says, else all]
    #[arg(long, value_name = "N")]
    pub extraction_pairs: Option<usize>,
    /// Unsteered answers to each question: the unit of effects and the coherence band come from them [default: 3]
    #[arg(long, value_name = "N")]
    pub neutral_samples: Option<usize>,
    /// Width of the coherence band to each side, in deviations of neutral answers [default: 3]
    #[arg(long, value_name = "D")]
    pub band: Option<f64>,
    /// Lowest distinct-2 of a coherent answer [default: 0.7]
    #[arg(long, value_name = "SHARE")]
    pub distinct_2: Option<f64>,
    /// Also write what was found into this report, which `extract --trait --report` began
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// Keep the answers here; a run that was stopped goes on from them
    #[arg(long, value_name = "FILE.json")]
    pub keep: Option<PathBuf>,
    /// Also print the answers
    #[arg(long)]
    pub texts: bool,
    /// Print the report as JSON, answers included
    #[arg(long)]
    pub json: bool,
}

impl StudyArguments {
    /// The subject of the study; where its vector file lies, and which of the tensors is meant.
    pub fn subject(&self) -> Result<(Subject, PathBuf, Option<String>)> {
        let path = &self.r#trait;
        let pack = TraitPack::parse(&read_bounded(path, MAX_PACK_BYTES as u64)?)
            .with_context(|| path.display().to_string())?;
        let (path, tensor, _) = open_vector(&self.vector)?;
        let kept = self.keep.as_ref().filter(|path| path.exists());
        let subject = Subject {
            pack,
            vector: read_bounded(&path, MAX_FILE_BYTES as u64)?,
            records: kept
                .map(|path| read_bounded(path, MAX_RECORDS_BYTES as u64))
                .transpose()?,
        };
        Ok((subject, path, tensor))
    }

    pub fn settings(&self, tensor: Option<String>, scope: Option<Scope>) -> Result<StudySettings> {
        let usual = CoherenceCriteria::default();
        let coherence = CoherenceCriteria {
            deviations: self.band.unwrap_or(usual.deviations),
            distinct_2: self.distinct_2.unwrap_or(usual.distinct_2),
        };
        ensure!(
            coherence.deviations > 0.0 && (0.0..=1.0).contains(&coherence.distinct_2),
            "--band must be above 0, and --distinct-2 between 0 and 1"
        );
        Ok(StudySettings {
            questions: self.questions,
            max_tokens: self.max_tokens,
            pairs: self.pairs,
            extraction_pairs: self.extraction_pairs,
            neutral_samples: self.neutral_samples,
            coherence: Some(coherence),
            scope,
            tensor,
            refuse_other_records: Some(true),
        })
    }

    /// The report that is added to, where one is.
    pub fn open_report(&self) -> Result<Option<TraitReport>> {
        let Some(path) = &self.report else {
            return Ok(None);
        };
        ensure!(
            path.exists(),
            "there is no report {}; `trimtab extract --trait … --report` begins one",
            path.display()
        );
        read_json(path).map(Some)
    }

    /// Adds to the report, where one is. It is read again: writing what was found takes no time, finding it did.
    pub fn add_to_report(&self, add: impl FnOnce(&mut TraitReport)) -> Result<()> {
        if let (Some(path), Some(mut report)) = (&self.report, self.open_report()?) {
            add(&mut report);
            write(path, &serde_json::to_vec(&report)?)?;
        }
        Ok(())
    }

    /// A session with room for `questions` answers and what they are compared with.
    pub fn session(&self, questions: usize) -> Result<Session> {
        let sequences = 2 * self.questions.unwrap_or(questions).clamp(1, MAX_AT_ONCE);
        let context = PROMPT_TOKENS.saturating_add(self.max_tokens.unwrap_or(32));
        self.model.session(Some(context), sequences)
    }

    /// Shows how far a study is, and keeps what it has done.
    pub fn watch(&self) -> Terminal<'_> {
        Terminal::new(|event| {
            if let (Event::Study(StudyEvent::Records { records }), Some(path)) = (event, &self.keep)
                && let Err(error) = write(path, &records)
            {
                // The study goes on, and tries again with the next records.
                progress::warn(&format!("{error:#}"));
            }
        })
    }

    /// Waits for a study; an error names the file that it was to go on from where that may be why.
    pub fn wait<T>(&self, study: impl Future<Output = Result<T, Failure>>) -> Result<T> {
        let done = progress::wait(study);
        match &self.keep {
            Some(path) if path.exists() => done.with_context(|| {
                format!(
                    "with {} (name another file with --keep, or remove it, to begin again)",
                    path.display()
                )
            }),
            _ => Ok(done?),
        }
    }
}

pub fn print_unsteered(neutral: &BaselineSummary) {
    println!(
        "unsteered: {} answers; evidence {:+.3} nats a token, deviation {:.3} (the unit below); perplexity {:.2}; coherent between {:.2} and {:.2} nats a token",
        neutral.answers,
        neutral.evidence_mean,
        neutral.evidence_deviation,
        neutral.perplexity,
        neutral.band.low,
        neutral.band.high,
    );
}

/// The numbers of one plan, in one line after `label`.
pub fn print_outcome(label: &str, outcome: &Outcome, texts: bool) {
    let evidence = match outcome.deviations() {
        Some(found) => format!(
            "{:+5.2} [{:+.2}, {:+.2}]",
            found.value, found.low, found.high
        ),
        None => "   no coherent answer".into(),
    };
    let number =
        |value: Option<f64>| value.map_or("  –  ".into(), |value| format!("{value:5.2}"));
    let [unlikely, likely, repetitive, empty] = outcome.incoherent;
    let why = match outcome.incoherent.iter().sum::<usize>() {
        0 => String::new(),
        _ => format!(
            " ({unlikely} too unlikely, {likely} too likely, {repetitive} repetitive, {empty} empty)"
        ),
    };
    println!(
        "{label}  evidence {evidence}  incoherent {:3.0} %  perplexity {}  KL {}  distinct-1/2/3 {:.2} {:.2} {:.2}{why}",
        100.0 * outcome.incoherent_share,
        number(outcome.perplexity),
        number(outcome.kl),
        outcome.distinct1,
        outcome.distinct2,
        outcome.distinct3,
    );
    if texts {
        for answer in &outcome.texts {
            println!("      {:?}: {:?}", answer.coherence, answer.text);
        }
    }
}
