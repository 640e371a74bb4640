//! The GPU's and the CPU's kernels against the reference executor on small random models: every stored form,
//! biases, odd widths, every batch width, steering, readings and capture. A missing adapter is a failure.

#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use pollster::block_on;
use trimtab_checkpoint::{ModelConfig, WeightFile};
use trimtab_engine::compare::{CompareRequest, Compared, Comparison};
use trimtab_engine::engine::{ReadOutcome, ReadRequest};
use trimtab_engine::forced::{Forced, ForcedRequest};
use trimtab_engine::generate::{Event, GenerateRequest, Generation};
use trimtab_engine::sampling::pcg;
use trimtab_engine::{
    Backend, Engine, EngineError, EngineOptions, Layer, LayerTable, Operation, Precision, Sampler,
    Scope, SequenceIndex, SteeringPlan, Term, TokenId, TokenRecord,
};

const VOCAB: usize = 300;
const D: usize = 96;
const FFN: usize = 160;
const LAYERS: usize = 3;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    F32,
    F16,
    Bf16,
    Q8,
    Q4,
    Q4WithMin,
}

/// Pseudo-random numbers in −1..1.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(1);
        (pcg(self.0) >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| (self.next() * 127.0) as i8 as u8)
            .collect()
    }
}

/// A safetensors file in the making.
#[derive(Default)]
struct File {
    header: serde_json::Map<String, serde_json::Value>,
    data: Vec<u8>,
}

impl File {
    fn part(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, self.data.len()]});
        self.header.insert(name.into(), entry);
    }

    fn vector(&mut self, name: &str, values: &[f32]) {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.part(name, "F32", &[values.len()], &bytes);
    }

    /// A random matrix whose entries have a deviation near `1 / √cols`.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize, form: Form, noise: &mut Noise) {
        let spread = 1.7 / (cols as f32).sqrt();
        let mut halves = |count: usize, base: f32| -> Vec<u8> {
            (0..count)
                .flat_map(|_| f16::from_f32(base * (1.0 + 0.3 * noise.next())).to_le_bytes())
                .collect()
        };
        let blocks = rows * cols / 32;
        match form {
            Form::F32 | Form::F16 | Form::Bf16 => {
                let values = (0..rows * cols).map(|_| noise.next() * spread);
                let (dtype, bytes): (_, Vec<u8>) = match form {
                    Form::F32 => ("F32", values.flat_map(f32::to_le_bytes).collect()),
                    Form::F16 => (
                        "F16",
                        values
                            .flat_map(|value| f16::from_f32(value).to_le_bytes())
                            .collect(),
                    ),
                    _ => (
                        "BF16",
                        values
                            .flat_map(|value| bf16::from_f32(value).to_le_bytes())
                            .collect(),
                    ),
                };
                self.part(name, dtype, &[rows, cols], &bytes);
            }
            Form::Q8 => {
                let scales = halves(blocks, spread / 127.0);
                self.part(
                    &format!("{name}.q8"),
                    "U8",
                    &[rows, cols],
                    &noise.bytes(rows * cols),
                );
                self.part(&format!("{name}.scale"), "F16", &[rows, cols / 32], &scales);
            }
            Form::Q4 | Form::Q4WithMin => {
                let scales = halves(blocks, spread / 8.0);
                let minima = halves(blocks, -spread);
                self.part(
                    &format!("{name}.q4"),
                    "U8",
                    &[rows, cols / 2],
                    &noise.bytes(rows * cols / 2),
                );
                self.part(&format!("{name}.scale"), "F16", &[rows, cols / 32], &scales);
                if form == Form::Q4WithMin {
                    self.part(&format!("{name}.min"), "F16", &[rows, cols / 32], &minima);
                }
            }
        }
    }

    fn bytes(mut self) -> Vec<u8> {
        self.header.insert(
            "__metadata__".into(),
            serde_json::json!({"trimtab_layout": "1"}),
        );
        let header = serde_json::to_vec(&self.header).unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(self.data);
        bytes
    }
}

fn model(form: Form, family: &str, activation: &str) -> (ModelConfig, WeightFile<Vec<u8>>) {
    model_with_context(form, family, activation, 160)
}

fn model_with_context(
    form: Form,
    family: &str,
    activation: &str,
    context: usize,
) -> (ModelConfig, WeightFile<Vec<u8>>) {
    let config = serde_json::json!({
        "model_type": family, "hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "intermediate_size": FFN, "vocab_size": VOCAB,
        "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "hidden_act": activation, "eos_token_id": 2,
    });
    let config = ModelConfig::from_json(&serde_json::to_vec(&config).unwrap()).unwrap();
    let mut noise = Noise(form as u32 * 1_000_003);
    let mut file = File::default();
    let gain =
        |noise: &mut Noise| -> Vec<f32> { (0..D).map(|_| 1.0 + 0.5 * noise.next()).collect() };
    file.matrix("model.embed_tokens.weight", VOCAB, D, form, &mut noise);
    file.matrix("lm_head.weight", VOCAB, D, form, &mut noise);
    file.vector("model.norm.weight", &gain(&mut noise));
    for block in 0..LAYERS {
        let name = |end: &str| format!("model.layers.{block}.{end}");
        let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        file.vector(&name("input_layernorm.weight"), &gain(&mut noise));
        file.vector(&name("post_attention_layernorm.weight"), &gain(&mut noise));
        for (projection, rows) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
            file.matrix(
                &name(&format!("self_attn.{projection}.weight")),
                rows,
                D,
                form,
                &mut noise,
            );
            if family == "qwen2" {
                let bias: Vec<f32> = (0..rows).map(|_| noise.next()).collect();
                file.vector(&name(&format!("self_attn.{projection}.bias")), &bias);
            }
        }
        file.matrix(&name("self_attn.o_proj.weight"), D, q, form, &mut noise);
        file.matrix(&name("mlp.gate_proj.weight"), FFN, D, form, &mut noise);
        file.matrix(&name("mlp.up_proj.weight"), FFN, D, form, &mut noise);
        file.matrix(&name("mlp.down_proj.weight"), D, FFN, form, &mut noise);
    }
    (config, block_on(WeightFile::open(file.bytes())).unwrap())
}

fn engine(
    model: &(ModelConfig, WeightFile<Vec<u8>>),
    backend: Backend,
    precision: Precision,
) -> Engine {
    let options = EngineOptions {
        backend,
        precision,
        context: None,
        sequences: 3,
    };
    block_on(Engine::load(&model.0, &model.1, options, &mut |_| {})).unwrap_or_else(|error| {
        match error {
            EngineError::NoAdapter { .. } => {
                panic!("{error}; on Debian, `apt-get install mesa-vulkan-drivers`")
            }
            error => panic!("{error}"),
        }
    })
}

fn tokens(count: usize, seed: u32) -> Vec<TokenId> {
    (0..count as u32)
        .map(|index| TokenId(pcg(index ^ pcg(seed)) % VOCAB as u32))
        .collect()
}

fn table(seed: u32) -> LayerTable {
    let mut noise = Noise(seed);
    LayerTable::new((0..(LAYERS + 1) * D).map(|_| noise.next()).collect(), D).unwrap()
}

/// Every operation at once, on layers that overlap.
fn plan() -> SteeringPlan {
    let term = |seed, layers: &[u32], operation, scope| Term {
        vector: table(seed),
        layers: layers.iter().map(|&layer| Layer(layer)).collect(),
        operation,
        scope,
    };
    SteeringPlan {
        terms: vec![
            term(1, &[0, 2], Operation::Add { coefficient: 0.7 }, Scope::All),
            term(2, &[2], Operation::Ablate, Scope::Prompt),
            term(
                3,
                &[2, 3],
                Operation::Clamp {
                    low: -0.1,
                    high: 0.2,
                },
                Scope::All,
            ),
            term(
                4,
                &[1],
                Operation::Clamp {
                    low: f32::NEG_INFINITY,
                    high: 0.0,
                },
                Scope::Response,
            ),
        ],
    }
}

fn read(
    engine: &mut Engine,
    tokens: &[TokenId],
    plan: &SteeringPlan,
    capture: bool,
) -> ReadOutcome {
    engine
        .set_directions(&[table(10), table(11), table(12)])
        .unwrap();
    let request = ReadRequest {
        sequence: SequenceIndex(1),
        tokens,
        prompt_length: tokens.len() / 2,
        plan,
        score: true,
        capture,
    };
    block_on(engine.read(&request, &mut |_, _| {})).unwrap()
}

/// The largest ‖Δh‖/‖h‖ over all rows of width `D`.
fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    let rows = a.chunks(D).zip(b.chunks(D));
    rows.map(|(a, b)| {
        let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        norm(&difference) / norm(a).max(1e-6)
    })
    .fold(0.0, f32::max)
}

fn compare(form: Form, family: &str, activation: &str, precision: Precision) {
    for backend in [Backend::Cpu, Backend::Gpu] {
        compare_one(backend, form, family, activation, precision);
    }
}

fn compare_one(backend: Backend, form: Form, family: &str, activation: &str, precision: Precision) {
    let label = format!("{backend:?} {form:?} {family} {activation} {precision:?}");
    let model = model(form, family, activation);
    let mut reference = engine(&model, Backend::Reference, Precision::Exact);
    let mut tested = engine(&model, backend, precision);
    // In 8 bits an activation is off by up to 0.4 % of its block's largest.
    let (residual_limit, logprob_limit) = match tested.info().precision {
        Precision::Exact => (2e-5, 2e-4),
        Precision::Fast => (0.05, 0.25),
    };
    for (count, plan) in [
        (1, SteeringPlan::default()),
        (2, plan()),
        (7, plan()),
        (90, SteeringPlan::default()),
        (90, plan()),
    ] {
        let tokens = tokens(count, count as u32);
        let (want, got) = (
            read(&mut reference, &tokens, &plan, true),
            read(&mut tested, &tokens, &plan, true),
        );
        let difference = largest_difference(&want.residual, &got.residual);
        assert!(
            difference < residual_limit,
            "{label}, {count} tokens: residual off by {difference}"
        );
        for (want, got) in want.records.iter().zip(&got.records) {
            assert_eq!(
                (want.token, want.position),
                (got.token, got.position),
                "{label}"
            );
            for (want, got) in want.readings.values.iter().zip(&got.readings.values) {
                let scale = 1.0 + want.abs();
                assert!(
                    (want - got).abs() < residual_limit * 20.0 * scale,
                    "{label}: reading {got}, not {want}"
                );
            }
            let Some((want, got)) = want.prediction.as_ref().zip(got.prediction.as_ref()) else {
                continue;
            };
            assert!(
                (want.target_logprob - got.target_logprob).abs() < logprob_limit,
                "{label}, {count} tokens: log-probability {}, not {}",
                got.target_logprob,
                want.target_logprob
            );
            if tested.info().precision == Precision::Exact {
                for (want, got) in want.alternatives.iter().zip(&got.alternatives) {
                    assert!(
                        (want.1 - got.1).abs() < logprob_limit,
                        "{label}: {got:?}, not {want:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn quantised_weights_with_exact_activations() {
    for form in [Form::Q8, Form::Q4, Form::Q4WithMin] {
        compare(form, "llama", "silu", Precision::Exact);
    }
}

#[test]
fn quantised_weights_with_fast_activations() {
    for form in [Form::Q8, Form::Q4, Form::Q4WithMin] {
        compare(form, "llama", "silu", Precision::Fast);
    }
}

#[test]
fn float_weights() {
    for form in [Form::F32, Form::F16, Form::Bf16] {
        compare(form, "llama", "silu", Precision::Exact);
    }
}

#[test]
fn biases_and_another_activation() {
    compare(Form::Q4WithMin, "qwen2", "silu", Precision::Exact);
    compare(Form::F32, "qwen2", "gelu_pytorch_tanh", Precision::Exact);
}

#[test]
fn float_weights_are_run_exactly_whatever_was_asked() {
    for backend in [Backend::Cpu, Backend::Gpu] {
        let engine = engine(&model(Form::F16, "llama", "silu"), backend, Precision::Fast);
        assert_eq!(engine.info().precision, Precision::Exact);
    }
}

/// Several answers at once, in every way of choosing a token.
fn generate(engine: &mut Engine, sampler: Sampler, together: &[u32]) -> Vec<Vec<TokenId>> {
    block_on(async {
        let requests = together.iter().map(|&sequence| GenerateRequest {
            sequence: SequenceIndex(sequence),
            prompt: tokens(5 + 9 * sequence as usize, sequence),
            plan: plan(),
            sampler: Sampler {
                seed: sampler.seed + sequence,
                ..sampler
            },
            max_tokens: 24,
            end_tokens: vec![],
        });
        let mut run = Generation::start(engine, requests.collect()).await.unwrap();
        while run.next(engine).await.unwrap().is_some() {}
        let answers = run.finish(engine).await.unwrap();
        answers.into_iter().map(|answer| answer.tokens).collect()
    })
}

#[test]
fn all_executors_choose_the_same_tokens() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let mut reference = engine(&model, Backend::Reference, Precision::Exact);
    let mut tested =
        [Backend::Cpu, Backend::Gpu].map(|backend| engine(&model, backend, Precision::Exact));
    let warm = Sampler {
        temperature: 0.8,
        seed: 3,
        ..Sampler::GREEDY
    };
    let samplers = [
        Sampler::GREEDY,
        Sampler {
            repetition_penalty: 1.4,
            ..Sampler::GREEDY
        },
        warm,
        Sampler { top_k: 12, ..warm },
        Sampler { top_p: 0.7, ..warm },
        Sampler {
            top_k: 40,
            top_p: 0.8,
            repetition_penalty: 1.2,
            ..warm
        },
    ];
    for sampler in samplers {
        let want = generate(&mut reference, sampler, &[0, 1, 2]);
        assert!(want.iter().all(|answer| answer.len() == 24), "{sampler:?}");
        for engine in &mut tested {
            assert_eq!(generate(engine, sampler, &[0, 1, 2]), want, "{sampler:?}");
            for (sequence, want) in want.iter().enumerate() {
                assert_eq!(
                    &generate(engine, sampler, &[sequence as u32])[0],
                    want,
                    "alone: {sampler:?}"
                );
            }
        }
    }
}

/// A run of two answers, one of them pushed in another way from its sixth token on. After `interrupted` tokens of both
/// together, `second` goes on in the place of `first`.
fn interrupted(
    first: &mut Engine,
    second: Option<(usize, &mut Engine)>,
) -> (Vec<Vec<TokenId>>, Vec<(usize, u32)>) {
    let warm = Sampler {
        temperature: 0.9,
        top_p: 0.9,
        repetition_penalty: 1.2,
        seed: 11,
        ..Sampler::GREEDY
    };
    let requests = [(0, 20), (1, 6)].map(|(sequence, max_tokens)| GenerateRequest {
        sequence: SequenceIndex(sequence),
        prompt: tokens(8 + sequence as usize, sequence),
        plan: SteeringPlan::default(),
        sampler: warm,
        max_tokens,
        end_tokens: vec![],
    });
    block_on(async {
        let mut run = Generation::start(first, requests.into()).await.unwrap();
        let mut engine = first;
        let mut second = second;
        let mut chosen = [0, 0];
        let mut read = Vec::new();
        while let Some(event) = run.next(engine).await.unwrap() {
            match event {
                Event::Token { request, .. } => {
                    chosen[request] += 1;
                    if (request, chosen[0]) == (0, 6) {
                        run.set_plan(engine, 0, plan()).unwrap();
                    }
                }
                Event::Read { request, record } => read.push((request, record.position.0)),
                _ => continue,
            }
            let enough = |after: usize| chosen.iter().sum::<usize>() >= after;
            if let Some((after, _)) = &second
                && enough(*after)
                && let Some((_, other)) = second.take()
            {
                engine = other;
                run.resume(engine).await.unwrap();
            }
        }
        let answers = run.finish(engine).await.unwrap();
        for answer in &answers {
            let consumed = answer.records.iter().map(|record| record.token);
            let whole = tokens(answer.prompt_length, answer.sequence.0);
            let whole = whole.into_iter().chain(answer.tokens.iter().copied());
            assert!(consumed.zip(whole).all(|(record, token)| record == token));
            assert!(answer.records.len() >= answer.prompt_length + answer.tokens.len() - 1);
        }
        (
            answers.into_iter().map(|answer| answer.tokens).collect(),
            read,
        )
    })
}

#[test]
fn an_interrupted_run_goes_on_elsewhere_with_the_same_tokens() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let new = |backend| engine(&model, backend, Precision::Exact);
    let (want, want_read) = interrupted(&mut new(Backend::Cpu), None);
    assert_eq!((want[0].len(), want[1].len()), (20, 6));
    for (after, backend) in [
        (1, Backend::Cpu),
        (7, Backend::Gpu),
        (12, Backend::Cpu),
        (19, Backend::Gpu),
    ] {
        let (first, mut second) = (&mut new(Backend::Cpu), new(backend));
        let (got, read) = interrupted(first, Some((after, &mut second)));
        assert_eq!(got, want, "interrupted after {after} tokens, {backend:?}");
        let sorted = |mut read: Vec<(usize, u32)>| {
            read.sort_unstable();
            read
        };
        assert_eq!(
            sorted(read),
            sorted(want_read.clone()),
            "every token is read once"
        );
    }
}

/// A slider that was moved with every other token leaves more plans in one answer than an engine has room for
/// in one batch; read again elsewhere, each token has its own.
#[test]
fn an_answer_of_many_segments_is_read_again_under_each_of_its_plans() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let pushed = |count: usize| SteeringPlan {
        terms: vec![Term {
            vector: table(5),
            layers: vec![Layer(1), Layer(3)],
            operation: Operation::Add {
                coefficient: 0.2 + 0.1 * count as f32,
            },
            scope: Scope::All,
        }],
    };
    let request = || GenerateRequest {
        sequence: SequenceIndex(0),
        prompt: tokens(6, 1),
        plan: pushed(0),
        sampler: Sampler::GREEDY,
        max_tokens: 30,
        end_tokens: vec![],
    };
    let run = |other: Option<&mut Engine>| {
        block_on(async {
            let mut first = engine(&model, Backend::Cpu, Precision::Exact);
            let engine = &mut first;
            let mut run = Generation::start(engine, vec![request()]).await.unwrap();
            let mut chosen = 0;
            while let Some(event) = run.next(engine).await.unwrap() {
                if matches!(event, Event::Token { .. }) {
                    chosen += 1;
                    if chosen % 2 == 0 && chosen < 26 {
                        run.set_plan(engine, 0, pushed(chosen)).unwrap();
                    }
                }
                if chosen == 28 && other.is_some() {
                    break;
                }
            }
            let engine = match other {
                Some(other) => {
                    run.resume(other).await.unwrap();
                    while run.next(other).await.unwrap().is_some() {}
                    other
                }
                None => engine,
            };
            run.finish(engine).await.unwrap().remove(0)
        })
    };
    let want = run(None);
    assert_eq!((want.segments.len(), want.tokens.len()), (13, 30));
    for backend in [Backend::Cpu, Backend::Gpu] {
        let mut other = engine(&model, backend, Precision::Exact);
        other.set_directions(&[table(5)]).unwrap();
        let got = run(Some(&mut other));
        assert_eq!(got.tokens, want.tokens, "{backend:?}");
        // What every token is like under its own plan, read segment by segment.
        let all = [tokens(6, 1), want.tokens.clone()].concat();
        let forced = ForcedRequest {
            sequence: SequenceIndex(2),
            tokens: &all,
            prompt_length: 6,
            segments: &want.segments,
            sampler: Sampler::GREEDY,
        };
        let records = block_on(async {
            let mut forced = Forced::start(&mut other, &forced).await.unwrap();
            while forced.next(&mut other).await.unwrap() {}
            forced.finish(&other)
        });
        for (got, want) in got.records.iter().zip(&records) {
            for (got, want) in got.readings.values.iter().zip(&want.readings.values) {
                assert!(
                    (got - want).abs() < 1e-3 * (1.0 + want.abs()),
                    "{backend:?}: {got}, not {want}"
                );
            }
        }
    }
}

/// A run with a slider movement in it, forced: every token is chosen again, under a repetition penalty
/// (one token a batch) and without (many); and where one was put in its place, the run's own is.
#[test]
fn a_run_that_is_forced_chooses_its_own_tokens_again() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    for backend in [Backend::Cpu, Backend::Gpu] {
        let mut engine = engine(&model, backend, Precision::Exact);
        for repetition_penalty in [1.0, 1.3] {
            let sampler = Sampler {
                temperature: 0.9,
                top_k: 60,
                top_p: 0.95,
                repetition_penalty,
                seed: 5,
            };
            let request = GenerateRequest {
                sequence: SequenceIndex(0),
                prompt: tokens(9, 4),
                plan: plan(),
                sampler,
                max_tokens: 24,
                end_tokens: Vec::new(),
            };
            let answer = block_on(async {
                let mut run = Generation::start(&mut engine, vec![request]).await.unwrap();
                let mut written = 0;
                while let Some(event) = run.next(&mut engine).await.unwrap() {
                    written += usize::from(matches!(event, Event::Token { .. }));
                    if written == 8 {
                        written += 1;
                        run.set_plan(&engine, 0, SteeringPlan::default()).unwrap();
                    }
                }
                run.finish(&mut engine).await.unwrap().remove(0)
            });
            assert_eq!((answer.segments.len(), answer.tokens.len()), (2, 24));
            let mut all = [tokens(9, 4), answer.tokens.clone()].concat();
            let mut force = |all: &[TokenId]| {
                let request = ForcedRequest {
                    sequence: SequenceIndex(2),
                    tokens: all,
                    prompt_length: 9,
                    segments: &answer.segments,
                    sampler,
                };
                block_on(async {
                    let mut forced = Forced::start(&mut engine, &request).await.unwrap();
                    while forced.next(&mut engine).await.unwrap() {}
                    assert_eq!(forced.done(), forced.total());
                    forced.finish(&engine)
                })
            };
            let chosen = |records: &[TokenRecord]| -> Vec<TokenId> {
                let asked = records[8..32].iter();
                asked
                    .map(|record| record.prediction.as_ref().unwrap().chosen)
                    .collect()
            };
            assert_eq!(chosen(&force(&all)), answer.tokens, "{backend:?}");
            // The prompt comes from the cache this time.
            all[12] = TokenId((all[12].0 + 1) % VOCAB as u32);
            let records = force(&all);
            assert_eq!(records.len(), all.len());
            assert_eq!(chosen(&records)[..4], answer.tokens[..4], "{backend:?}");
        }
    }
}

/// Attention in one piece and in splits of the keys (two on a software adapter, up to five on another), for one new row and
/// for several, some of which have one split more than others.
#[test]
fn long_contexts() {
    let model = model_with_context(Form::Q4WithMin, "llama", "silu", 2100);
    let tokens = tokens(2057, 9);
    let mut reference = engine(&model, Backend::Reference, Precision::Exact);
    let mut gpu = engine(&model, Backend::Gpu, Precision::Exact);
    let directions = [table(10), table(11)];
    let records = |engine: &mut Engine, steps: &[usize]| {
        engine.set_directions(&directions).unwrap();
        let mut records = Vec::new();
        for &length in steps {
            let request = ReadRequest {
                sequence: SequenceIndex(1),
                tokens: &tokens[..length],
                prompt_length: 1,
                plan: &plan(),
                score: true,
                capture: false,
            };
            records = block_on(engine.read(&request, &mut |_, _| {}))
                .unwrap()
                .records;
        }
        records
    };
    let steps = [
        500, 502, 505, 509, 511, 512, 513, 1022, 1023, 1024, 1027, 1531, 1535, 1539, 2044, 2047,
        2051, 2053, 2057,
    ];
    let want = records(&mut reference, &[2057]);
    let got = records(&mut gpu, &steps);
    assert_eq!(got.len(), want.len());
    for (want, got) in want.iter().zip(&got) {
        for (a, b) in want.readings.values.iter().zip(&got.readings.values) {
            assert!((a - b).abs() < 4e-4 * (1.0 + a.abs()), "{b}, not {a}");
        }
        if let Some((want, got)) = want.prediction.as_ref().zip(got.prediction.as_ref()) {
            assert!((want.chosen_logprob - got.chosen_logprob).abs() < 2e-4);
        }
    }
}

/// Readings and steering are parts of kernels that run anyway: `(4 a block) + embedding, first boundary, logits, sampling`.
#[test]
fn readings_and_a_plan_take_no_dispatch() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    for precision in [Precision::Exact, Precision::Fast] {
        let mut gpu = engine(&model, Backend::Gpu, precision);
        let add = |seed, coefficient| Term {
            vector: table(seed),
            layers: (0..=LAYERS as u32).map(Layer).collect(),
            operation: Operation::Add { coefficient },
            scope: Scope::All,
        };
        let two = SteeringPlan {
            terms: vec![add(5, 0.3), add(6, -0.2)],
        };
        let four = [table(10), table(11), table(12), table(13)];
        for (directions, plan) in [
            (&four[..0], SteeringPlan::default()),
            (&four[..], two),
            (&four[..], self::plan()),
        ] {
            gpu.set_directions(directions).unwrap();
            let mut dispatches = |max_tokens| {
                gpu.clear(SequenceIndex(0)).unwrap();
                let before = gpu.dispatches();
                let request = GenerateRequest {
                    sequence: SequenceIndex(0),
                    prompt: tokens(1, 3),
                    plan: plan.clone(),
                    sampler: Sampler::GREEDY,
                    max_tokens,
                    end_tokens: vec![],
                };
                block_on(async {
                    let mut run = Generation::start(&mut gpu, vec![request]).await.unwrap();
                    while run.next(&mut gpu).await.unwrap().is_some() {}
                    run.finish(&mut gpu).await.unwrap();
                });
                gpu.dispatches() - before
            };
            // The last token is read without being continued: no logits, no sampling.
            let one = 4 * LAYERS + 4;
            assert_eq!(dispatches(1), one + one - 2, "{precision:?}");
            assert_eq!(dispatches(3), 3 * one + one - 2, "{precision:?}");
        }
    }
}

/// 31 answer tokens, so that the pairs of rows fill more than one batch and more than one group of heads.
fn compared(engine: &mut Engine, plan: &SteeringPlan) -> Compared {
    let tokens: Vec<TokenId> = (0..70).map(|i| TokenId((i * 37 + 11) % 300)).collect();
    let request = CompareRequest {
        unsteered: SequenceIndex(1),
        steered: Some((SequenceIndex(0), plan)),
        tokens: &tokens,
        prompt_length: 20,
    };
    let mut comparison = block_on(Comparison::start(engine, &request)).unwrap();
    while block_on(comparison.next(engine)).unwrap() {}
    comparison.finish()
}

#[test]
fn a_push_is_compared_with_no_push() {
    let model = model(Form::F32, "llama", "silu");
    let values = (0..(LAYERS + 1) * D).map(|i| (i % 5) as f32 / 4.0 - 0.5);
    let term = Term {
        vector: LayerTable::new(values.collect(), D).unwrap(),
        layers: vec![Layer(2)],
        operation: Operation::Add { coefficient: 2.0 },
        scope: Scope::Response,
    };
    let plan = SteeringPlan { terms: vec![term] };
    let mut cpu = engine(&model, Backend::Cpu, Precision::Exact);
    let mut reference = engine(&model, Backend::Reference, Precision::Exact);
    let (got, want) = (compared(&mut cpu, &plan), compared(&mut reference, &plan));
    assert_eq!((got.logprobs.len(), got.divergences.len()), (50, 50));
    for (got, want) in got.divergences.iter().zip(&want.divergences) {
        assert!(*want > 1e-3 && (got - want).abs() < 1e-3 * want + 1e-5);
    }
    for (got, want) in got.logprobs.iter().zip(&want.logprobs) {
        assert!((got - want).abs() < 1e-3);
    }
    // Without a plan both sides are the same, and what the reader says is what the comparison says.
    let idle = compared(&mut cpu, &SteeringPlan::default());
    assert!(idle.divergences.iter().all(|divergence| *divergence < 1e-6));
    assert!(
        idle.logprobs
            .iter()
            .zip(&got.logprobs)
            .all(|(idle, got)| (idle - got).abs() < 1e-5)
    );
}
