//! The start-up self-check: the kernels of a model on the actual adapter, with small inputs whose answers the CPU
//! executor knows, before any of the model's weights are there.
//!
//! The model that is run is a [`StandIn`] through the very executor that the model will use, so that every kernel template is
//! rendered in the model's stored forms, precision and head width, each projection in each of its widths, and
//! compiled by the adapter's own compiler. Where a block has few enough weights (SmolLM2-135M's) its widths are the
//! model's too; only the vocabulary, the number of layers and the context are other constants.

use super::speed::{Clock, fastest_variant};
use super::stand_in::{Forms, StandIn};
use crate::cache::PAGE;
use crate::compare::{CompareRequest, Comparison};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::Capture;
use crate::generate::{Answer, GenerateRequest, Generation};
use crate::gpu::GpuExecutor;
use crate::gpu::variant::Variant;
use crate::index::{Layer, Place, SequenceIndex, TokenId};
use crate::op::Value;
use crate::reading::Reading;
use crate::sampling::{Sampler, gumbel, pcg};
use crate::steering::{LayerTable, Operation, Scope, SteeringPlan, Term};
use crate::types::{Backend, Precision, ReadOutcome, ReadRequest, Scoring};
use trimtab_checkpoint::ModelConfig;

/// Rows of the batches that are read: one for each width of a projection.
const READS: [usize; 3] = [8, 2, 1];
/// A text that takes more than one page of the cache, and that batches leave a rest of.
const LONG: usize = PAGE + 6;
const SAMPLED: usize = 3;
const ADD: Operation = Operation::Add { coefficient: 0.7 };

/// A stand-in loaded into the GPU's executor and into the CPU's.
#[derive(Debug)]
pub struct SelfCheck {
    pub stand_in: StandIn,
    pub gpu: Engine,
    /// Exact, whatever the GPU's precision is.
    oracle: Engine,
}

/// How far apart two executors may be; as in `tests/it/executors_agree.rs`.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    /// ‖Δh‖/‖h‖
    residual: f32,
    logprob: f32,
}

impl Tolerance {
    const fn of(precision: Precision) -> Self {
        match precision {
            Precision::Exact => Self {
                residual: 2e-5,
                logprob: 2e-4,
            },
            // In 8 bits an activation is off by up to 0.4 % of its block's largest.
            Precision::Fast => Self {
                residual: 0.05,
                logprob: 0.25,
            },
        }
    }
}

impl SelfCheck {
    /// Opens the adapter and compiles the kernels: browsers and drivers put that off until a kernel is first run.
    pub async fn prepare(
        config: &ModelConfig,
        forms: &Forms,
        precision: Precision,
        variant: Option<Variant>,
    ) -> Result<Self, EngineError> {
        let stand_in = StandIn::new(config, forms).await?;
        let gpu = stand_in.load(Backend::Gpu, precision, variant).await?;
        let oracle = stand_in.load(Backend::Cpu, Precision::Exact, None).await?;
        let mut check = Self {
            stand_in,
            gpu,
            oracle,
        };
        check.run_each_width().await?;
        Ok(check)
    }

    async fn run_each_width(&mut self) -> Result<(), EngineError> {
        for (sequence, count) in (0..).zip(READS) {
            let tokens = self.tokens(sequence, count);
            read(&mut self.gpu, sequence, &tokens, &SteeringPlan::default()).await?;
        }
        Ok(())
    }

    /// The way in which the GPU goes about its work.
    pub fn variant(&self) -> Option<Variant> {
        self.gpu.gpu().map(GpuExecutor::variant)
    }

    /// Takes the variant that is fastest here.
    pub async fn choose(
        &mut self,
        precision: Precision,
        clock: Clock<'_>,
    ) -> Result<(), EngineError> {
        let fastest = fastest_variant(&self.stand_in, &mut self.gpu, precision, clock).await?;
        if self.variant() != Some(fastest) {
            let Self { stand_in, gpu, .. } = self;
            *gpu = stand_in
                .load(Backend::Gpu, precision, Some(fastest))
                .await?;
            self.run_each_width().await?;
        }
        Ok(())
    }

    /// # Errors
    /// [`EngineError::WrongNumbers`] where the adapter's answers are not the CPU's.
    pub async fn run(&mut self) -> Result<(), EngineError> {
        let adapter = match self.gpu.info().adapter.as_str() {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        let wrong = |what: String| EngineError::WrongNumbers {
            adapter: adapter.clone(),
            what,
        };
        let tolerance = Tolerance::of(self.gpu.info().precision);
        let table = |seed| self.table(seed, Place::Residual);
        let directions = [table(10)?, table(11)?, table(12)?];
        let directions = directions.map(|table| table.normalised());
        for engine in [&mut self.gpu, &mut self.oracle] {
            engine.set_directions(&directions)?;
        }
        let plan = self.plan()?;
        let plain = SteeringPlan::default();
        for (sequence, count) in (0..).zip([LONG, READS[1], READS[2]]) {
            // A single token is read without a plan, which is a way of its own through the kernels.
            let plan = if count > 1 { &plan } else { &plain };
            let tokens = self.tokens(sequence, count);
            let got = read(&mut self.gpu, sequence, &tokens, plan).await?;
            let want = read(&mut self.oracle, sequence, &tokens, plan).await?;
            let width = self.stand_in.config.hidden_size;
            tolerance.compare(&want, &got, width).map_err(&wrong)?;
            readings_as_said(&got, &directions, width).map_err(&wrong)?;
        }
        let prompt = self.tokens(0, READS[0]);
        let got = compared(&mut self.gpu, &prompt, &plan).await?;
        let want = compared(&mut self.oracle, &prompt, &plan).await?;
        for (want, got) in want.iter().zip(&got) {
            if !within(want - got, tolerance.logprob * (1.0 + want)) {
                return Err(wrong(format!("a divergence was {got}, not {want}")));
            }
        }
        // Below one, the penalty is a reward: one of the few tokens that were seen is chosen.
        let rewarding = Sampler {
            repetition_penalty: 0.01,
            ..Sampler::GREEDY
        };
        let got = answer(&mut self.gpu, &prompt, &plan, rewarding).await?;
        let want = answer(&mut self.oracle, &prompt, &plan, rewarding).await?;
        let differs = want
            .tokens
            .iter()
            .zip(&got.tokens)
            .position(|(a, b)| a != b);
        if let Some(at) = differs {
            let before = [&prompt[..], &want.tokens[..at]].concat();
            let mut logprobs = [0.0; 2];
            for (logprob, token) in logprobs.iter_mut().zip([want.tokens[at], got.tokens[at]]) {
                let tokens = [&before[..], &[token]].concat();
                let read = read(&mut self.oracle, 0, &tokens, &plan).await?;
                let prediction = &read.records[before.len() - 1].prediction;
                *logprob = prediction
                    .as_ref()
                    .map_or(f32::NAN, |next| next.target_logprob);
            }
            // A near tie may be decided either way.
            if !within(logprobs[0] - logprobs[1], 2.0 * tolerance.logprob) {
                return Err(wrong(chosen_instead(got.tokens[at], want.tokens[at])));
            }
        }
        let warm = Sampler {
            temperature: 0.8,
            top_k: 6,
            top_p: 0.9,
            seed: 3,
            ..Sampler::GREEDY
        };
        let got = answer(&mut self.gpu, &prompt, &plan, warm).await?;
        sampled_as_said(&got, warm).map_err(&wrong)?;
        self.inside(tolerance).await?.map_err(&wrong)
    }

    fn tokens(&self, sequence: u32, count: usize) -> Vec<TokenId> {
        let vocab = self.stand_in.config.vocab_size as u32;
        (0..count as u32)
            .map(|index| TokenId(pcg(index ^ pcg(sequence)) % vocab))
            .collect()
    }

    /// The same where something is changed, read and captured inside blocks: what differs, if anything.
    async fn inside(&mut self, tolerance: Tolerance) -> Result<Result<(), String>, EngineError> {
        const INSIDE: [Place; 2] = [Place::Heads, Place::AfterAttention];
        let tokens = self.tokens(0, READS[0]);
        let mut plan = self.plan()?;
        let mut directions = Vec::new();
        for (seed, place) in (4..).zip(INSIDE) {
            let last = self.gpu.last_layer();
            plan.terms.extend([
                self.term(seed, place, Layer(1), ADD)?,
                self.term(seed + 10, place, last, Operation::Ablate)?,
            ]);
            directions.push(self.table(seed + 20, place)?.normalised());
        }
        let request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens: &tokens,
            prompt_length: tokens.len(),
            plan: &plan,
            score: Scoring::Everything,
            capture: false,
        };
        let capture = Capture {
            after_attention: true,
            heads: true,
            ..Capture::RESIDUAL
        };
        let mut read = Vec::new();
        for engine in [&mut self.oracle, &mut self.gpu] {
            engine.set_directions(&directions)?;
            let mut reading = Reading::start_capturing(engine, &request, capture).await?;
            while reading.next(engine).await? {}
            read.push((reading.take_captured(), reading.finish(engine)));
        }
        let [(want, said), (got, found)] = &mut read[..] else {
            return Ok(Ok(()));
        };
        let compare = || {
            for (row, (want, got)) in want.iter_mut().zip(got).enumerate() {
                for place in Place::ALL {
                    let width = Value::at(place).width(&self.stand_in.config);
                    let (want, got) = (want.at_mut(place), got.at_mut(place));
                    tolerance.layers(want, got, width)?;
                    for (index, direction) in directions.iter().enumerate() {
                        let layers = (1..).map(Layer).zip(got.chunks(width));
                        for (layer, h) in layers.filter(|_| direction.place() == place) {
                            let reading = found.records[row].readings.at(index, layer);
                            read_as_said(h, direction.row(layer), reading)?;
                        }
                    }
                }
            }
            tolerance.predictions(said, found)
        };
        Ok(compare())
    }

    fn table(&self, seed: u32, place: Place) -> Result<LayerTable, EngineError> {
        let width = Value::at(place).width(&self.stand_in.config);
        let count = self.gpu.layer_rows() * width;
        let number = |index: u32| (pcg(index ^ pcg(seed)) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        let values = (0..count as u32).map(number).collect();
        Ok(LayerTable::new(values, width)?.at(place))
    }

    fn term(
        &self,
        seed: u32,
        place: Place,
        layer: Layer,
        operation: Operation,
    ) -> Result<Term, EngineError> {
        Ok(Term {
            vector: self.table(seed, place)?,
            layers: vec![layer],
            operation,
            scope: Scope::All,
        })
    }

    /// Every operation, two of them on one layer.
    fn plan(&self) -> Result<SteeringPlan, EngineError> {
        let last = self.gpu.last_layer();
        let clamp = Operation::Clamp {
            low: -0.1,
            high: 0.2,
        };
        let terms = vec![
            self.term(1, Place::Residual, Layer(0), ADD)?,
            self.term(2, Place::Residual, last, Operation::Ablate)?,
            self.term(3, Place::Residual, last, clamp)?,
        ];
        Ok(SteeringPlan {
            terms,
            ..SteeringPlan::default()
        })
    }
}

async fn read(
    engine: &mut Engine,
    sequence: u32,
    tokens: &[TokenId],
    plan: &SteeringPlan,
) -> Result<ReadOutcome, EngineError> {
    let request = ReadRequest {
        sequence: SequenceIndex(sequence),
        tokens,
        prompt_length: tokens.len(),
        plan,
        score: Scoring::Everything,
        capture: true,
    };
    engine.read(&request, &mut |_, _| {}).await
}

/// How far the prediction of each token under the plan is from the one without.
async fn compared(
    engine: &mut Engine,
    tokens: &[TokenId],
    plan: &SteeringPlan,
) -> Result<Vec<f32>, EngineError> {
    let request = CompareRequest {
        unsteered: SequenceIndex(1),
        steered: Some((SequenceIndex(0), plan)),
        tokens,
        prompt_length: 1,
    };
    let mut comparison = Comparison::start(engine, &request).await?;
    while comparison.next(engine).await? {}
    Ok(comparison.finish().divergences)
}

async fn answer(
    engine: &mut Engine,
    prompt: &[TokenId],
    plan: &SteeringPlan,
    sampler: Sampler,
) -> Result<Answer, EngineError> {
    let request = GenerateRequest {
        sequence: SequenceIndex(0),
        prompt: prompt.to_vec(),
        plan: plan.clone(),
        sampler,
        max_tokens: SAMPLED,
        end_tokens: Vec::new(),
    };
    let mut run = Generation::start(engine, vec![request]).await?;
    while run.next(engine).await?.is_some() {}
    Ok(run.finish(engine).await?.remove(0))
}

impl Tolerance {
    /// Fails with what differs, in words. `width` is `d`.
    fn compare(&self, want: &ReadOutcome, got: &ReadOutcome, width: usize) -> Result<(), String> {
        self.layers(&want.residual, &got.residual, width)?;
        self.predictions(want, got)
    }

    fn layers(&self, want: &[f32], got: &[f32], width: usize) -> Result<(), String> {
        for (want, got) in want.chunks(width).zip(got.chunks(width)) {
            let off = distance(want, got) / norm(want).max(1e-6);
            if !within(off, self.residual) {
                return Err(format!("a layer's output was off by {:.2} %", 100.0 * off));
            }
        }
        Ok(())
    }

    fn predictions(&self, want: &ReadOutcome, got: &ReadOutcome) -> Result<(), String> {
        for (want, got) in want.records.iter().zip(&got.records) {
            let (Some(want), Some(got)) = (&want.prediction, &got.prediction) else {
                continue;
            };
            let likely = want.alternatives.iter().zip(&got.alternatives);
            let scored = [(want.target_logprob, got.target_logprob)];
            for (want, got) in likely.map(|(a, b)| (a.1, b.1)).chain(scored) {
                // The last token of a text has no target.
                let neither = want.is_nan() && got.is_nan();
                if !neither && !within(want - got, self.logprob) {
                    return Err(format!("a log-probability was {got}, not {want}"));
                }
            }
        }
        Ok(())
    }
}

/// False of NaN.
fn within(off: f32, limit: f32) -> bool {
    off.abs() < limit
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f32>().sqrt()
}

/// Whether each reading is that of the captured residual stream, so that it does not matter how precise that is.
/// `directions` are of length one.
fn readings_as_said(got: &ReadOutcome, directions: &[LayerTable], d: usize) -> Result<(), String> {
    let layer_rows = got.residual.len() / d / got.records.len().max(1);
    for (record, residual) in got.records.iter().zip(got.residual.chunks(layer_rows * d)) {
        for (index, direction) in directions.iter().enumerate() {
            for (layer, h) in (0..).map(Layer).zip(residual.chunks(d)) {
                read_as_said(h, direction.row(layer), record.readings.at(index, layer))?;
            }
        }
    }
    Ok(())
}

fn read_as_said(h: &[f32], direction: &[f32], got: f32) -> Result<(), String> {
    let along = h.iter().zip(direction).map(|(h, v)| h * v);
    let want = along.sum::<f32>();
    match within(want - got, 1e-4 * (1.0 + norm(h))) {
        true => Ok(()),
        false => Err(format!("a reading was {got}, not {want}")),
    }
}

/// Whether each token is the one that its own log-probabilities and the noise make it, so that it does not matter
/// how precise they are. Every candidate is among the reported alternatives, because top-k keeps fewer.
fn sampled_as_said(answer: &Answer, sampler: Sampler) -> Result<(), String> {
    for (at, &token) in (answer.prompt_length..).zip(&answer.tokens) {
        let Some(prediction) = &answer.records[at - 1].prediction else {
            return Err("a token was chosen without a prediction".into());
        };
        let likely = &prediction.alternatives[..sampler.top_k as usize];
        let weight = |logprob: f32| ((logprob - likely[0].1) / sampler.temperature).exp();
        let total: f32 = likely.iter().map(|(_, logprob)| weight(*logprob)).sum();
        let mut mass = 0.0;
        let kept = likely.iter().take_while(|(_, logprob)| {
            let needed = mass < sampler.top_p * total;
            mass += weight(*logprob);
            needed
        });
        let score = |&(token, logprob): &(TokenId, f32)| {
            logprob / sampler.temperature + gumbel(sampler.seed, at as u32, token.0)
        };
        let want = kept.max_by(|a, b| score(a).total_cmp(&score(b)));
        if want.is_none_or(|(want, _)| *want != token) {
            let want = want.map_or(token, |(want, _)| *want);
            return Err(chosen_instead(token, want));
        }
    }
    Ok(())
}

fn chosen_instead(got: TokenId, want: TokenId) -> String {
    format!("token {} was chosen, not {}", got.0, want.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::speed::Speeds;
    use crate::gpu::shader::sabotage::{self, during};
    use pollster::block_on;
    use std::collections::HashSet;
    use std::time::Instant;

    const DEFAULT: &[u8] = br#"{"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "head_dim": 64, "intermediate_size": 1536, "vocab_size": 49152,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "hidden_act": "silu",
        "tie_word_embeddings": true}"#;

    /// The default model's, or a small one of a family without merged kernels.
    fn config(model: Option<&str>) -> ModelConfig {
        let json = match model {
            None => DEFAULT,
            Some("gpt2") => include_bytes!("../../../../tests/golden/families/gpt2/config.json"),
            Some("qwen3") => include_bytes!("../../../../tests/golden/families/qwen3/config.json"),
            Some(other) => panic!("nothing is known of a {other}"),
        };
        let mut config = ModelConfig::from_json(json).unwrap();
        // The small ones have too little room for the check's text.
        config.context = config.context.max(256);
        config
    }

    fn check(precision: Precision, variant: Option<Variant>) -> Result<(), EngineError> {
        check_model(&config(None), precision, variant)
    }

    fn check_model(
        config: &ModelConfig,
        precision: Precision,
        variant: Option<Variant>,
    ) -> Result<(), EngineError> {
        block_on(async {
            let forms = Forms::usual();
            let mut check = SelfCheck::prepare(config, &forms, precision, variant).await?;
            assert!(variant.is_none_or(|variant| check.variant() == Some(variant)));
            check.run().await
        })
    }

    #[test]
    fn every_variant_passes() {
        for precision in [Precision::Exact, Precision::Fast] {
            let variants = Variant::candidates(false).iter();
            for &variant in variants.filter(|variant| variant.exists(precision, true)) {
                check(precision, Some(variant))
                    .unwrap_or_else(|error| panic!("{variant}: {error}"));
            }
        }
    }

    #[test]
    fn models_without_merged_kernels_pass() {
        for model in ["qwen3", "gpt2"] {
            for precision in [Precision::Exact, Precision::Fast] {
                check_model(&config(Some(model)), precision, None)
                    .unwrap_or_else(|error| panic!("{model}, {precision:?}: {error}"));
            }
        }
    }

    #[test]
    fn this_adapter_passes_and_both_executors_are_timed() {
        for precision in [Precision::Exact, Precision::Fast] {
            let begun = Instant::now();
            let clock = || begun.elapsed().as_secs_f64();
            block_on(async {
                let forms = Forms::usual();
                let mut check = SelfCheck::prepare(&config(None), &forms, precision, None)
                    .await
                    .unwrap();
                let prepared = clock();
                check.choose(precision, &clock).await.unwrap();
                let chosen = check.variant().unwrap();
                assert!(
                    Variant::candidates(true)
                        .iter()
                        .any(|one| one.few == chosen.few)
                );
                let timed = clock();
                check.run().await.unwrap();
                let checked = clock();
                let SelfCheck { stand_in, gpu, .. } = &mut check;
                let speeds = Speeds::measure(stand_in, gpu, precision, &clock)
                    .await
                    .unwrap();
                assert!(speeds.gpu.is_finite() && speeds.gpu > 0.0, "{speeds:?}");
                assert!(speeds.cpu.is_finite() && speeds.cpu > 0.0, "{speeds:?}");
                println!(
                    "{precision:?}: {prepared:.3} s to prepare, {:.3} s to choose “{chosen}”, {:.3} s to check, {:.3} s to time: {speeds:?}",
                    timed - prepared,
                    checked - timed,
                    clock() - checked
                );
            });
        }
    }

    /// A fault of each class of kernels at one precision; with `TRIMTAB_FULL` every fault at each of its precisions, which is
    /// minutes of a software adapter.
    #[test]
    fn every_kernel_that_is_broken_is_noticed() {
        let full = std::env::var_os("TRIMTAB_FULL").is_some();
        let mut classes = HashSet::new();
        for fault in sabotage::all() {
            if !full && !classes.insert(fault.class.clone()) {
                continue;
            }
            let precisions = if full { usize::MAX } else { 1 };
            for precision in fault.precisions.iter().take(precisions) {
                let precision = match precision.as_str() {
                    "exact" => Precision::Exact,
                    "fast" => Precision::Fast,
                    other => panic!("{other} is no precision"),
                };
                let config = config(fault.model.as_deref());
                let (outcome, applied) = during(&fault, || check_model(&config, precision, None));
                assert!(applied > 0, "{}: changes nothing", fault.name);
                let Err(error @ EngineError::WrongNumbers { .. }) = outcome else {
                    panic!("{}, {precision:?}: {outcome:?}", fault.name);
                };
                let told = error.to_string();
                assert!(
                    told.contains("computes wrongly") && told.contains("CPU"),
                    "{told}"
                );
            }
        }
    }
}
