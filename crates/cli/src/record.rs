//! `trimtab record`: the run that the page plays before a model is there. The file's shape is
//! `web/src/state/recording/format.ts`.

use crate::model::{ModelArguments, end_tokens};
use crate::progress;
use crate::vectors::load_vector;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use trimtab_engine::engine::EngineInfo;
use trimtab_engine::generate::{Answer, EndReason, Event, GenerateRequest, Generation};
use trimtab_engine::{
    Backend, Engine, Operation, Precision, Sampler, Scope, SequenceIndex, SteeringPlan, Term,
    TokenId,
};
use trimtab_persona::conversation::{ChatText, Part, TokenisedConversation, message};
use trimtab_persona::plan::relative_dose;
use trimtab_persona::reading_block::ReadingBlock;
use trimtab_persona::reread::reread;
use trimtab_persona::vector_file::{Recommended, TraitVector};

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
    let prompt = chat.prompt(&[message("user", &arguments.question)])?;
    let context = prompt.tokens.len() + arguments.max_tokens;
    let mut engine = arguments.model.engine(Some(context), 5)?;
    let vector = load_vector(&arguments.trait_name, &engine)?;
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
    engine.set_directions(std::slice::from_ref(&vector.table))?;
    let requests = doses
        .iter()
        .enumerate()
        .map(|(index, &coefficient)| GenerateRequest {
            sequence: SequenceIndex(index as u32),
            prompt: prompt.tokens.clone(),
            plan: plan(&vector, &recommended, coefficient),
            sampler: SAMPLER,
            max_tokens: arguments.max_tokens,
            end_tokens: end_tokens(engine.config()),
        });
    let requests = requests.collect();
    let answers = pollster::block_on(write(&mut engine, requests))?;
    let mut recorded = Vec::with_capacity(5);
    for ((answer, logprobs), coefficient) in answers.iter().zip(doses) {
        recorded.push(pollster::block_on(dose(
            &mut engine,
            &chat,
            &vector,
            &recommended,
            &prompt,
            answer,
            logprobs,
            coefficient,
        ))?);
    }
    progress::finish();
    let recording = Recording {
        schema: "trimtab-recording-1",
        made_with: made_with(engine.info()),
        made_on: time::UtcDateTime::now().date().to_string(),
        model: RecordedModel {
            name: manifest.name,
            sha256: arguments.model.weights_sha256()?,
            licence: manifest.licence,
        },
        layer: recommended.layers[0],
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
    std::fs::write(&arguments.out, serde_json::to_vec(&recording)?)
        .with_context(|| arguments.out.display().to_string())
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

fn plan(vector: &TraitVector, recommended: &Recommended, coefficient: f32) -> SteeringPlan {
    let term = Term {
        vector: vector.table.clone(),
        layers: recommended.layers(),
        operation: Operation::Add { coefficient },
        scope: Scope::All,
    };
    SteeringPlan { terms: vec![term] }
}

/// Runs the requests together; with each answer the log-probabilities of its tokens in that run.
async fn write(
    engine: &mut Engine,
    requests: Vec<GenerateRequest>,
) -> Result<Vec<(Answer, Vec<f32>)>> {
    let mut logprobs = vec![Vec::new(); requests.len()];
    let mut run = Generation::start(engine, requests).await?;
    while let Some(event) = run.next(engine).await? {
        if let Event::Token {
            request,
            position,
            prediction,
        } = event
        {
            logprobs[request].push(prediction.chosen_logprob);
            progress::show(&format!("writing five answers: token {}", position.0));
        }
    }
    Ok(run
        .finish(engine)
        .await?
        .into_iter()
        .zip(logprobs)
        .collect())
}

/// One answer with its re-readings.
#[allow(clippy::too_many_arguments)]
async fn dose(
    engine: &mut Engine,
    chat: &ChatText,
    vector: &TraitVector,
    recommended: &Recommended,
    prompt: &TokenisedConversation,
    answer: &Answer,
    logprobs: &[f32],
    coefficient: f32,
) -> Result<RecordedDose> {
    ensure!(
        !answer.tokens.is_empty(),
        "the answer at coefficient {coefficient} is empty; ask another question"
    );
    let conversation = prompt.clone().answered(&answer.tokens);
    let length = prompt.tokens.len();
    let read = reread(
        engine,
        SequenceIndex(0),
        &conversation.tokens,
        length,
        &mut |_, _| {},
    )
    .await?;
    let block = ReadingBlock::calibrated(
        &read.records,
        &conversation.parts,
        &[vector.calibration.as_ref()],
    );
    let layer = recommended
        .layers()
        .into_iter()
        .next()
        .context("no layer is recommended")?;
    let finite = |value: f32| value.is_finite().then_some(value);
    let token = |(index, (id, text)): (usize, (&TokenId, String))| RecordedToken {
        id: id.0,
        text,
        part: Part::Response,
        logprob: logprobs.get(index).copied().and_then(finite),
        reread: finite(block.at(length + index, 0, layer)),
    };
    Ok(RecordedDose {
        coefficient,
        tokens: answer
            .tokens
            .iter()
            .zip(chat.pieces(&answer.tokens))
            .enumerate()
            .map(token)
            .collect(),
        end: match answer.reason {
            EndReason::EndToken => EndReason::EndToken,
            _ => EndReason::MaxTokens,
        },
    })
}
