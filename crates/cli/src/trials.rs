//! Running trials with progress, and keeping what is there, for sweep, controls and predict.

use crate::model::{ModelArguments, read_bounded, read_json};
use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trimtab_engine::{Engine, Scope};
use trimtab_persona::coherence::CoherenceCriteria;
use trimtab_persona::conversation::ChatText;
use trimtab_persona::outcome::{BaselineSummary, Outcome};
use trimtab_persona::sweep::Material;
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, TraitPack};
use trimtab_persona::trait_report::TraitReport;
use trimtab_persona::trials::{PROMPT_TOKENS, TrialRecords, TrialSetup, Trials};
use trimtab_persona::vector_file::VectorFile;

/// Answers written side by side: more gain little.
const MAX_AT_ONCE: usize = 16;
/// How often what is there is kept.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// What the three verbs are asked alike.
#[derive(Debug, Args)]
pub struct TrialArguments {
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

/// Which tokens are pushed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScopeArgument {
    All,
    /// From the last prompt token on, so that prompts are read once
    Response,
}

impl From<ScopeArgument> for Scope {
    fn from(scope: ScopeArgument) -> Self {
        match scope {
            ScopeArgument::All => Self::All,
            ScopeArgument::Response => Self::Response,
        }
    }
}

impl TrialArguments {
    pub fn pack(&self) -> Result<TraitPack> {
        let path = &self.r#trait;
        TraitPack::parse(&read_bounded(path, MAX_PACK_BYTES as u64)?)
            .with_context(|| path.display().to_string())
    }

    /// The pairs that extraction saw.
    pub fn seen(&self, pack: &TraitPack, file: &VectorFile) -> Vec<usize> {
        let pairs = self.extraction_pairs.or(file.metadata.extraction_pairs);
        (0..pairs.unwrap_or(usize::MAX).min(pack.instructions.len())).collect()
    }

    /// Puts what was asked for in place of the defaults; `first` is the first question's number.
    pub fn adjust(
        &self,
        pack: &TraitPack,
        seen: &[usize],
        first: usize,
        material: &mut Material,
    ) -> Result<()> {
        ensure!(
            self.questions != Some(0) && self.pairs != Some(0) && self.max_tokens != Some(0),
            "--questions, --pairs and --max-tokens must be at least 1"
        );
        *material = Material::of(
            pack,
            seen,
            self.pairs.unwrap_or(material.pairs.len()),
            first,
            self.questions.unwrap_or(material.questions.len()),
        );
        Ok(())
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
            write_whole(path, &serde_json::to_vec(&report)?)?;
        }
        Ok(())
    }

    pub fn coherence(&self) -> Result<CoherenceCriteria> {
        let usual = CoherenceCriteria::default();
        let criteria = CoherenceCriteria {
            deviations: self.band.unwrap_or(usual.deviations),
            distinct_2: self.distinct_2.unwrap_or(usual.distinct_2),
        };
        ensure!(
            criteria.deviations > 0.0 && (0.0..=1.0).contains(&criteria.distinct_2),
            "--band must be above 0, and --distinct-2 between 0 and 1"
        );
        Ok(criteria)
    }

    /// Room for `questions` answers and what they are compared with.
    pub fn engine(&self, questions: usize, max_tokens: usize) -> Result<Engine> {
        let sequences = 2 * questions.clamp(1, MAX_AT_ONCE);
        let context = PROMPT_TOKENS.saturating_add(max_tokens);
        self.model.engine(Some(context), sequences)
    }

    /// Runs the trials to their end. `made_of` is what the plans were made of, see [`TrialSetup::key`].
    pub fn run(
        &self,
        engine: &mut Engine,
        chat: &ChatText,
        setup: TrialSetup,
        made_of: &[String],
    ) -> Result<TrialRecords> {
        let key = setup.key(&[&[self.model.weights_sha256()?], made_of].concat());
        let kept = match &self.keep {
            Some(path) if path.exists() => {
                let kept: Kept = read_json(path)?;
                if kept.key != key {
                    bail!(
                        "{} holds answers of another run (other questions, vector, model or settings); name another file with --keep, or remove it",
                        path.display()
                    );
                }
                Some(kept.records)
            }
            _ => None,
        };
        let mut trials = Trials::new(setup, kept)?;
        let before = trials.progress().passes_done;
        let clock = Instant::now();
        let mut saved = Instant::now();
        while let Some(_event) = pollster::block_on(trials.next(engine, chat))? {
            let now = trials.progress();
            let left = left(
                clock,
                now.passes_done - before,
                now.passes_total - now.passes_done,
            );
            progress::show(&format!(
                "{} of {} answers written, {} measured{left}",
                now.written, now.answers, now.measured
            ));
            if saved.elapsed() > KEEP_EVERY {
                self.save(&key, trials.records())?;
                saved = Instant::now();
            }
        }
        progress::finish();
        self.save(&key, trials.records())?;
        Ok(trials.records().clone())
    }

    fn save(&self, key: &str, records: &TrialRecords) -> Result<()> {
        let Some(path) = &self.keep else {
            return Ok(());
        };
        let kept = Kept {
            key: key.to_owned(),
            records: records.clone(),
        };
        write_whole(path, &serde_json::to_vec(&kept)?)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    records: TrialRecords,
}

/// Writes beside the file first, so that a run that is stopped leaves the old one whole.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, path).with_context(|| path.display().to_string())
}

/// `, about 3 min left`, once something is done.
fn left(clock: Instant, done: usize, todo: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let seconds = clock.elapsed().as_secs_f64() / done as f64 * todo as f64;
    if seconds < 90.0 {
        format!(", about {seconds:.0} s left")
    } else {
        format!(", about {:.0} min left", seconds / 60.0)
    }
}

pub fn print_neutral(neutral: &BaselineSummary) {
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
    let evidence = match outcome.deviations {
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
        outcome.distinct[0],
        outcome.distinct[1],
        outcome.distinct[2],
    );
    if texts {
        for answer in &outcome.judged {
            println!("      {:?}: {:?}", answer.coherence, answer.text);
        }
    }
}
