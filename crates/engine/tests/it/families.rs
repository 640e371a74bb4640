//! Each family's tiny random checkpoint against transformers (`tests/golden/families.py`), on every executor: as published, and
//! converted from its folder and from a GGUF file.

use crate::golden::{Tensors, answers};
use pollster::block_on;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::convert::Options;
use trimtab_checkpoint::convert::directory::convert;
use trimtab_checkpoint::rotary::Scaling;
use trimtab_checkpoint::{ModelConfig, Rotary, WeightFile};
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::executor::{Capture, Captured};
use trimtab_engine::generate::GenerateRequest;
use trimtab_engine::reading::Reading;
use trimtab_engine::{
    Backend, Engine, Layer, LayerTable, Operation, Precision, Sampler, Scope, SequenceIndex,
    SteeringPlan, Term, TokenId,
};
use trimtab_testing::files::{golden_json, repository};
use trimtab_testing::small_models;

/// Largest `‖Δh‖/‖h‖` of a token at a layer, and largest difference of a log-probability relative to its size (at least one).
const TOLERANCE: f32 = 1e-4;

type Model = (ModelConfig, WeightFile<Vec<u8>>);
/// A part of a model by its name, and how to leave it out.
type Part = (&'static str, fn(&mut ModelConfig));
/// A place by its name, and what was captured there.
type Captures = (&'static str, fn(&Captured) -> &Vec<f32>);

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    steered: Steered,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    config: serde_json::Value,
}

#[derive(Deserialize)]
struct Steered {
    layer: u32,
    coefficient: f32,
}

/// A family's files in `tests/golden/families`.
struct Family {
    name: &'static str,
    directory: PathBuf,
    reference: Reference,
    tensors: Tensors,
}

fn ids(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}

fn opened(directory: &Path) -> Model {
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let config = ModelConfig::from_json(&read("config.json")).unwrap();
    (
        config,
        block_on(WeightFile::open(read("model.safetensors"))).unwrap(),
    )
}

fn relative(got: &[f32], want: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    let off = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
    off / norm(&mut want.iter().copied())
}

impl Family {
    fn open(name: &'static str) -> Self {
        let at = format!("families/{name}");
        Self {
            name,
            directory: repository().join("tests/golden").join(&at),
            reference: golden_json(&format!("{at}/reference.json")),
            tensors: Tensors::open(&format!("{at}/reference.safetensors")),
        }
    }

    fn published(&self) -> Model {
        opened(&self.directory)
    }

    /// The plan of the reference's steered run.
    fn steered(&self) -> SteeringPlan {
        let Steered { layer, coefficient } = self.reference.steered;
        let (shape, values) = self.tensors.get("vector");
        SteeringPlan {
            terms: vec![Term {
                vector: LayerTable::new(values, shape[1]).unwrap(),
                layers: vec![Layer(layer)],
                operation: Operation::Add { coefficient },
                scope: Scope::All,
            }],
            ..SteeringPlan::default()
        }
    }

    /// The largest difference of what `engine` computes: plain with everything captured, and steered; all tokens at once, and
    /// some of them one after another.
    fn difference(&self, engine: &mut Engine) -> f32 {
        let tokens = ids(&self.reference.tokens);
        let whole = [tokens.len()];
        let piecewise: Vec<_> = [11, 12, 14, 15].into_iter().chain(whole).collect();
        let (plain, steered) = (SteeringPlan::default(), self.steered());
        let mut largest = 0.0_f32;
        for (plan, prefix, ends) in [
            (&plain, "", &whole[..]),
            (&plain, "", &piecewise),
            (&steered, "steered.", &whole),
        ] {
            engine.clear(SequenceIndex(0)).unwrap();
            for &end in ends {
                largest = largest.max(self.read(engine, &tokens[..end], plan, prefix));
            }
        }
        largest
    }

    fn read(
        &self,
        engine: &mut Engine,
        tokens: &[TokenId],
        plan: &SteeringPlan,
        prefix: &str,
    ) -> f32 {
        let request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens,
            prompt_length: 1,
            plan,
            score: Scoring::Everything,
            capture: false,
        };
        let capture = Capture {
            after_attention: true,
            heads: true,
            ..Capture::RESIDUAL
        };
        let mut reading = block_on(Reading::start_capturing(engine, &request, capture)).unwrap();
        while block_on(reading.next(engine)).unwrap() {}
        let captured = reading.take_captured();
        let records = reading.finish(engine).records;
        let mut largest = self.predictions(&records, &format!("{prefix}logits"));
        let places: [Captures; 3] = [
            ("residual", |row| &row.residual),
            ("after_attention", |row| &row.after_attention),
            ("heads", |row| &row.heads),
        ];
        for (place, of) in &places[..if prefix.is_empty() { 3 } else { 1 }] {
            let (shape, want) = self.tensors.get(&format!("{prefix}{place}"));
            let want = want.chunks(shape[1] * shape[2]);
            for (captured, want) in captured.iter().zip(want) {
                let got = of(captured);
                assert_eq!(got.len(), want.len(), "{}: {place}", self.name);
                let layers = got.chunks(shape[2]).zip(want.chunks(shape[2]));
                largest = layers.fold(largest, |most, (got, want)| most.max(relative(got, want)));
            }
        }
        largest
    }

    fn predictions(&self, records: &[trimtab_engine::TokenRecord], logits: &str) -> f32 {
        let (shape, logits) = self.tensors.get(logits);
        let mut largest = 0.0_f32;
        for (at, (record, logits)) in records.iter().zip(logits.chunks(shape[1])).enumerate() {
            let most = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
            let logprob = |token: TokenId| logits[token.0 as usize] - most - total.ln();
            let Some(prediction) = &record.prediction else {
                continue;
            };
            let next = self.reference.tokens.get(at + 1).copied().map(TokenId);
            let next = next.zip(Some(prediction.target_logprob));
            for (token, got) in prediction.alternatives.iter().copied().chain(next) {
                let want = logprob(token);
                let off = (got - want).abs() / want.abs().max(1.0);
                if !got.is_nan() {
                    largest = largest.max(off);
                }
            }
        }
        largest
    }

    fn answer(&self, engine: &mut Engine) -> Vec<TokenId> {
        let request = GenerateRequest {
            sequence: SequenceIndex(0),
            prompt: ids(&self.reference.prompt),
            plan: SteeringPlan::default(),
            sampler: Sampler::GREEDY,
            max_tokens: self.reference.greedy.len(),
            end_tokens: vec![],
        };
        answers(engine, vec![request]).remove(0).tokens
    }

    /// The model as published, on every executor, exactly.
    fn computes_as_transformers_does(&self) {
        let model = self.published();
        for backend in [Backend::Reference, Backend::Cpu, Backend::Gpu] {
            let mut engine = small_models::engine(&model, backend, Precision::Exact);
            let off = self.difference(&mut engine);
            println!("{}, {backend:?}: off by {off:.1e}", self.name);
            assert!(off <= TOLERANCE, "{}, {backend:?}: off by {off}", self.name);
            let answer = self.answer(&mut engine);
            assert_eq!(
                answer,
                ids(&self.reference.greedy),
                "{}, {backend:?}",
                self.name
            );
        }
    }

    /// Converted from the folder and from the GGUF file, and in the words of transformers 5.
    fn survives_conversion(&self) {
        let published = self.published();
        let newer = serde_json::to_vec(&self.reference.config).unwrap();
        assert_eq!(
            ModelConfig::from_json(&newer).unwrap(),
            published.0,
            "{}",
            self.name
        );
        let scratch =
            std::env::temp_dir().join(format!("trimtab-{}-{}", self.name, std::process::id()));
        let gguf = Some(self.directory.join("model.gguf")).filter(|file| file.is_file());
        for input in [Some(self.directory.clone()), gguf].into_iter().flatten() {
            let _ = std::fs::remove_dir_all(&scratch);
            convert(&input, &scratch, &Options::default(), &mut |_| {})
                .unwrap_or_else(|error| panic!("{}: {error}", self.name));
            let mut engine =
                small_models::engine(&opened(&scratch), Backend::Cpu, Precision::Exact);
            let off = self.difference(&mut engine);
            assert!(off <= TOLERANCE, "{}: off by {off}", input.display());
        }
        let _ = std::fs::remove_dir_all(&scratch);
    }

    /// That the numbers would be others without each of these: a part of the model that is left out is noticed.
    fn needs(&self, parts: &[Part]) {
        let (config, _) = self.published();
        for (part, without) in parts {
            let mut changed = config.clone();
            without(&mut changed);
            assert_ne!(changed, config, "{}: {part}", self.name);
            let (_, weights) = self.published();
            let mut engine =
                small_models::engine(&(changed, weights), Backend::Cpu, Precision::Exact);
            let off = self.difference(&mut engine);
            assert!(
                off > 100.0 * TOLERANCE,
                "{} without {part}: off by {off}",
                self.name
            );
        }
    }
}

fn check(name: &'static str, parts: &[Part]) {
    let family = Family::open(name);
    family.computes_as_transformers_does();
    family.survives_conversion();
    family.needs(parts);
}

#[test]
fn llama_3_scales_its_rotary_frequencies() {
    let unscaled = |config: &mut ModelConfig| config.rotary.scaling = Scaling::None;
    check("llama3", &[("scaling", unscaled)]);
}

#[test]
fn qwen_3_normalises_queries_and_keys() {
    check("qwen3", &[]);
}

#[test]
fn gemma_3_slides_and_has_two_rotary_bases() {
    check(
        "gemma3",
        &[
            ("a second base", |config| config.local_rotary = None),
            ("a window", |config| config.sliding_window = None),
            ("scaled embeddings", |config| config.embedding_scale = 1.0),
        ],
    );
}

#[test]
fn gpt_2_has_layer_norms_learned_positions_and_biases() {
    let silu = |config: &mut ModelConfig| config.activation = "silu".into();
    check("gpt2", &[("its activation", silu)]);
}

#[test]
fn phi_3_stacks_projections_and_turns_a_part_of_each_head() {
    check(
        "phi3",
        &[
            ("factors", |config| config.rotary.scaling = Scaling::None),
            ("a rest of heads that is not turned", |config| {
                config.rotary = Rotary::unscaled(config.rotary.theta);
            }),
        ],
    );
}

#[test]
fn smollm_3_has_blocks_without_positions() {
    let rotated = |config: &mut ModelConfig| config.positionless = Vec::new();
    check("smollm3", &[("a block without positions", rotated)]);
}

#[test]
fn olmo_2_normalises_what_is_added() {
    check("olmo2", &[]);
}

#[test]
fn granite_multiplies_by_its_own_constants() {
    check(
        "granite",
        &[
            ("scaled embeddings", |config| config.embedding_scale = 1.0),
            ("scaled scores", |config| config.attention_scale = None),
            ("scaled sums", |config| config.residual_scale = 1.0),
            ("scaled logits", |config| config.logits_scale = 1.0),
        ],
    );
}

#[test]
fn mistral_attends_to_a_window() {
    check(
        "mistral",
        &[("a window", |config| config.sliding_window = None)],
    );
}

/// Beyond the texts that a model with LongRoPE was first trained on, other factors would count.
#[test]
fn phi_3_reads_no_longer_texts_than_its_short_factors_serve() {
    let model = Family::open("phi3").published();
    assert_eq!(model.0.context, 256);
    let mut engine = small_models::engine(&model, Backend::Cpu, Precision::Exact);
    let request = ReadRequest {
        sequence: SequenceIndex(0),
        tokens: &ids(&[5; 257]),
        prompt_length: 1,
        plan: &SteeringPlan::default(),
        score: Scoring::Nothing,
        capture: false,
    };
    let told = block_on(engine.read(&request, &mut |_, _| {})).unwrap_err();
    assert!(
        told.to_string().contains("not scaled for longer texts"),
        "{told}"
    );
}
