//! `trimtab record`: the run that the page plays before a model is there. The file's shape is
//! `web/src/state/recording/format.ts`.

use crate::files::write;
use crate::model::ModelArguments;
use crate::progress::{self, Terminal};
use crate::vectors::load_vector;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use trimtab_engine::engine::EngineInfo;
use trimtab_engine::generate::EndReason;
use trimtab_engine::{Backend, Precision, Sampler, Scope};
use trimtab_persona::conversation::{Part, message};
use trimtab_persona::plan::{NamedTerm, TermOperation, relative_dose};
use trimtab_persona::vector_file::Recommended;
use trimtab_studio::generation::{
    ColumnKind, ColumnRequest, ColumnResult, GenerateRequest, SEQUENCES,
};

/// Greedy, so that only the push makes answers differ; with the page's own repetition penalty.
const SAMPLER: Sampler = Sampler {
    repetition_penalty: 1.1,
    ..Sampler::GREEDY
};
/// Longest answer that the page reads.
const MAX_TOKENS: usize = 400;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A ready-made trait with a calibration and a recommendation
    #[arg(long = "trait", value_name = "NAME", default_value = "cheerful")]
    trait_name: String,
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "How was your day?",
        allow_hyphen_values = true
    )]
    question: String,
    /// Five ascending coefficients, one of them 0 [default: the recommended range in four steps]
    #[arg(
        long,
        value_name = "α,α,…",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    doses: Option<Vec<f32>>,
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Where to write
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Recording {
    schema: &'static str,
    made_with: String,
    made_on: String,
    model: RecordedModel,
    r#trait: RecordedTrait,
    layer: u32,
    scope: Scope,
    sampler: Sampler,
    question: String,
    doses: Vec<RecordedDose>,
}

#[derive(Serialize)]
struct RecordedModel {
    name: String,
    sha256: String,
    licence: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordedTrait {
    name: String,
    opposite: String,
    description: String,
    hash: String,
    recommended: Recommended,
    dose_per_unit: f32,
}

#[derive(Serialize)]
struct RecordedDose {
    coefficient: f32,
    tokens: Vec<RecordedToken>,
    end: EndReason,
}

#[derive(Serialize)]
struct RecordedToken {
    id: u32,
    text: String,
    part: Part,
    logprob: Option<f32>,
    reread: Option<f32>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let chat = arguments.model.chat()?;
    ensure!(
        (1..=MAX_TOKENS).contains(&arguments.max_tokens),
        "--max-tokens must be 1 to {MAX_TOKENS}"
    );
    let messages = vec![message("user", &arguments.question)];
    let context = chat.prompt(&messages)?.tokens.len() + arguments.max_tokens;
    let mut session = arguments.model.session(Some(context), SEQUENCES)?;
    let vector = load_vector(&arguments.trait_name, &session)?;
    let recommended = vector
        .recommended
        .clone()
        .context("the vector recommends no layers and range; see `trimtab recommend`")?;
    let Recommended { min, max, .. } = recommended;
    let usual = match min < 0.0 {
        true => vec![min, min / 2.0, 0.0, max / 2.0, max],
        false => vec![0.0, max / 4.0, max / 2.0, 0.75 * max, max],
    };
    let doses = arguments.doses.clone().unwrap_or(usual);
    ensure!(
        doses.len() == 5 && doses.is_sorted_by(|a, b| a < b) && doses.contains(&0.0),
        "a recording needs five ascending coefficients, one of them 0"
    );
    let manifest = arguments
        .model
        .manifest()?
        .context("the model directory has no manifest")?;
    session.set_vectors(vec![vector.clone()])?;
    let layer = *recommended
        .layers
        .first()
        .context("no layer is recommended")?;
    let mut recorded = Vec::with_capacity(doses.len());
    for coefficient in doses {
        let term = NamedTerm {
            vector: vector.name.clone(),
            operation: TermOperation::Add { coefficient },
            layers: Some(recommended.layers()),
            scope: Scope::All,
        };
        let request = GenerateRequest {
            columns: vec![ColumnRequest {
                column: ColumnKind::Steered,
                messages: messages.clone(),
                ids: None,
                plan: vec![term],
                begun: None,
            }],
            sampler: SAMPLER,
            max_tokens: arguments.max_tokens,
            reread: None,
            readings: None,
        };
        let written = recorded.len() + 1;
        let mut watch =
            Terminal::new(|_| progress::show(&format!("writing: answer {written} of 5")));
        let answer = progress::wait(session.generate(request, &mut watch))?;
        let answer = answer.first().context("the engine gave no answer")?;
        recorded.push(dose(answer, layer as usize, coefficient)?);
    }
    let recording = Recording {
        schema: "trimtab-recording-1",
        made_with: made_with(session.engine.info()),
        made_on: time::UtcDateTime::now().date().to_string(),
        model: RecordedModel {
            name: manifest.name,
            sha256: session.sha256.clone(),
            licence: manifest.licence,
        },
        layer,
        scope: Scope::All,
        sampler: SAMPLER,
        question: arguments.question.clone(),
        r#trait: RecordedTrait {
            dose_per_unit: relative_dose(&vector, 1.0, &recommended.layers())
                .context("the vector has no neutral norms")?,
            name: vector.name,
            opposite: vector.opposite,
            description: vector.description,
            hash: vector.hash,
            recommended,
        },
        doses: recorded,
    };
    write(&arguments.out, &serde_json::to_vec(&recording)?)
}

/// `trimtab 0.1.0, CPU executor, exact`.
fn made_with(info: &EngineInfo) -> String {
    let executor = match info.backend {
        Backend::Cpu => "CPU",
        Backend::Reference => "reference",
        Backend::Gpu => "GPU",
    };
    let precision = match info.precision {
        Precision::Exact => "exact",
        Precision::Fast => "fast",
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("trimtab {version}, {executor} executor, {precision}")
}

/// One answer, with its readings at `layer` by the unsteered model.
fn dose(answer: &ColumnResult, layer: usize, coefficient: f32) -> Result<RecordedDose> {
    let tokens = answer.tokens.iter().enumerate().skip(answer.answer_start);
    ensure!(
        tokens.len() > 0,
        "the answer at coefficient {coefficient} is empty; ask another question"
    );
    let finite = |value: f32| value.is_finite().then_some(value);
    let readings = &answer.reread;
    Ok(RecordedDose {
        coefficient,
        tokens: tokens
            .map(|(index, token)| RecordedToken {
                id: token.id,
                text: token.text.clone(),
                part: Part::Response,
                logprob: finite(token.logprob),
                reread: finite(readings.values[index * readings.layer_rows + layer]),
            })
            .collect(),
        end: match answer.reason {
            EndReason::EndToken => EndReason::EndToken,
            _ => EndReason::MaxTokens,
        },
    })
}
