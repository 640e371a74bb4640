//! Places inside a block against forward hooks in PyTorch (`tests/golden/sites.py`): what lies there, what changing it does,
//! and where heads attend to.

use crate::golden::Tensors;
use pollster::block_on;
use serde::Deserialize;
use std::collections::BTreeMap;
use trimtab_checkpoint::{ModelConfig, WeightFile};
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::executor::Capture;
use trimtab_engine::reading::Reading;
use trimtab_engine::{
    Backend, Engine, Layer, LayerTable, Operation, Place, Precision, Scope, SequenceIndex,
    SteeringPlan, Term, TokenId,
};
use trimtab_testing::files::{golden, golden_json};
use trimtab_testing::small_models;

/// Share of the largest number of a tensor: both sides compute in f32, in another order.
const TOLERANCE: f32 = 2e-5;

#[derive(Deserialize)]
struct Sites {
    config: serde_json::Value,
    tokens: Vec<u32>,
    cases: BTreeMap<String, Option<Case>>,
}

#[derive(Deserialize)]
struct Case {
    place: String,
    layer: u32,
    operation: String,
    number: f32,
}

/// The GPU keeps everything but where heads attend to.
fn kept(backend: Backend) -> Capture {
    Capture {
        residual: true,
        after_attention: true,
        heads: true,
        attention: backend != Backend::Gpu,
    }
}

fn plan(case: Option<&Case>, tensors: &Tensors) -> SteeringPlan {
    let term = |case: &Case| {
        let (shape, values) = tensors.get(&format!("vector.{}", case.place));
        let place = match case.place.as_str() {
            "heads" => Place::Heads,
            _ => Place::AfterAttention,
        };
        Term {
            vector: LayerTable::new(values, shape[1]).unwrap().at(place),
            layers: vec![Layer(case.layer)],
            operation: match case.operation.as_str() {
                "add" => Operation::Add {
                    coefficient: case.number,
                },
                _ => Operation::Ablate,
            },
            scope: Scope::All,
        }
    };
    SteeringPlan {
        terms: case.map(term).into_iter().collect(),
        ..SteeringPlan::default()
    }
}

/// All tokens read at once, or, as when they are written, one after another.
fn read(engine: &mut Engine, tokens: &[TokenId], plan: &SteeringPlan, each: bool) -> Read {
    let request = |tokens| ReadRequest {
        sequence: SequenceIndex(0),
        tokens,
        prompt_length: 1,
        plan,
        score: Scoring::Everything,
        capture: false,
    };
    engine.clear(SequenceIndex(0)).unwrap();
    let backend = engine.info().backend;
    let mut captured = Vec::new();
    let mut records = Vec::new();
    let ends = if each {
        1..=tokens.len()
    } else {
        tokens.len()..=tokens.len()
    };
    for end in ends {
        let request = request(&tokens[..end]);
        let mut reading =
            block_on(Reading::start_capturing(engine, &request, kept(backend))).unwrap();
        while block_on(reading.next(engine)).unwrap() {}
        captured = reading.take_captured();
        records = reading.finish(engine).records;
    }
    let logprobs = records.iter().take(tokens.len() - 1);
    Read {
        captured,
        logprobs: logprobs
            .map(|record| record.prediction.as_ref().unwrap().target_logprob)
            .collect(),
    }
}

struct Read {
    captured: Vec<trimtab_engine::executor::Captured>,
    logprobs: Vec<f32>,
}

fn assert_close(label: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{label}");
    let largest = want.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let off = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    let off = off.fold(
        0.0_f32,
        |most, x| if x > most || x.is_nan() { x } else { most },
    );
    assert!(
        off <= TOLERANCE * largest,
        "{label}: off by {off} of {largest}"
    );
}

#[test]
fn every_place_is_captured_and_changed_as_hooks_in_pytorch_do() {
    let sites: Sites = golden_json("sites.json");
    let tensors = Tensors::open("sites.safetensors");
    let config = ModelConfig::from_json(&serde_json::to_vec(&sites.config).unwrap()).unwrap();
    let weights = block_on(WeightFile::open(golden("sites_model.safetensors"))).unwrap();
    let model = (config, weights);
    let tokens: Vec<_> = sites.tokens.iter().copied().map(TokenId).collect();
    for backend in [Backend::Reference, Backend::Cpu, Backend::Gpu] {
        let mut engine = small_models::engine(&model, backend, Precision::Exact);
        for (name, case) in &sites.cases {
            let plan = plan(case.as_ref(), &tensors);
            let got = read(&mut engine, &tokens, &plan, false);
            let label = |part: &str| format!("{backend:?}, {name}, {part}");
            let want = |part: &str| tensors.get(&format!("{name}.{part}")).1;
            let all = |of: fn(&trimtab_engine::executor::Captured) -> &Vec<f32>| {
                got.captured
                    .iter()
                    .flat_map(of)
                    .copied()
                    .collect::<Vec<_>>()
            };
            assert_close(
                &label("residual"),
                &all(|row| &row.residual),
                &want("residual"),
            );
            let after = all(|row| &row.after_attention);
            assert_close(&label("after attention"), &after, &want("after_attention"));
            assert_close(&label("heads"), &all(|row| &row.heads), &want("heads"));
            assert_close(&label("logprobs"), &got.logprobs, &want("logprobs"));
            if !kept(backend).attention {
                continue;
            }
            // PyTorch's are `[L, heads, T, T]`, zero after the row's own position.
            let attention = want("attention");
            let count = tokens.len();
            for (position, row) in got.captured.iter().enumerate() {
                let want: Vec<f32> = attention
                    .chunks(count * count)
                    .flat_map(|head| &head[position * count..][..=position])
                    .copied()
                    .collect();
                assert_close(&label("attention"), &row.attention, &want);
            }
        }
    }
}

#[test]
fn readings_at_a_place_are_taken_after_its_change() {
    let model = small_models::model(small_models::Form::F32, "llama", "silu");
    let tokens = small_models::tokens(5, 3);
    for backend in [Backend::Reference, Backend::Cpu, Backend::Gpu] {
        let mut engine = small_models::engine(&model, backend, Precision::Exact);
        let direction = small_models::table(9).at(Place::AfterAttention);
        engine
            .set_directions(std::slice::from_ref(&direction))
            .unwrap();
        let plan = SteeringPlan {
            terms: vec![Term {
                vector: direction.clone(),
                layers: vec![Layer(2)],
                operation: Operation::Clamp {
                    low: 0.25,
                    high: 0.25,
                },
                scope: Scope::All,
            }],
            ..SteeringPlan::default()
        };
        let request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens: &tokens,
            prompt_length: 5,
            plan: &plan,
            score: Scoring::Nothing,
            capture: false,
        };
        let read = block_on(engine.read(&request, &mut |_, _| {})).unwrap();
        for record in &read.records[1..] {
            assert_eq!(record.readings.at(0, Layer(0)), 0.0);
            assert!((record.readings.at(0, Layer(2)) - 0.25).abs() < 1e-4);
            assert!((record.readings.at(0, Layer(1)) - 0.25).abs() > 1e-4);
        }
    }
}

#[test]
fn before_the_first_block_there_are_no_heads() {
    let model = small_models::model(small_models::Form::F32, "llama", "silu");
    let mut engine = small_models::engine(&model, Backend::Cpu, Precision::Exact);
    let term = |vector: LayerTable, layer| SteeringPlan {
        terms: vec![Term {
            vector,
            layers: vec![Layer(layer)],
            operation: Operation::Add { coefficient: 1.0 },
            scope: Scope::All,
        }],
        ..SteeringPlan::default()
    };
    let mut refused = |plan: SteeringPlan| {
        let request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens: &[TokenId(1)],
            prompt_length: 1,
            plan: &plan,
            score: Scoring::Nothing,
            capture: false,
        };
        let read = block_on(engine.read(&request, &mut |_, _| {}));
        read.unwrap_err().to_string()
    };
    let after = small_models::table(1).at(Place::AfterAttention);
    let told = refused(term(after, 0));
    assert!(told.contains("from layer 1 on"), "{told}");
    let narrow = LayerTable::new(vec![1.0; 12], 3).unwrap().at(Place::Heads);
    let told = refused(term(narrow, 1));
    assert!(told.contains("shape"), "{told}");
}

/// A direction at every place at once, changes of every kind at every place, in every precision; of one row as well as of many.
#[test]
fn on_the_gpu_places_are_read_and_changed_as_by_the_reference() {
    let heads = |seed| {
        let width = small_models::HEADS * small_models::HEAD_DIM;
        let mut noise = small_models::Noise::new(seed);
        let count = (small_models::LAYERS + 1) * width;
        let table = LayerTable::new((0..count).map(|_| noise.number()).collect(), width);
        table.unwrap().at(Place::Heads)
    };
    let after = |seed| small_models::table(seed).at(Place::AfterAttention);
    let term = |vector, layer, operation| Term {
        vector,
        layers: vec![Layer(layer)],
        operation,
        scope: Scope::All,
    };
    let add = Operation::Add { coefficient: 0.5 };
    let clamp = Operation::Clamp {
        low: -0.1,
        high: 0.1,
    };
    let plan = SteeringPlan {
        terms: vec![
            term(heads(1), 1, add),
            term(heads(2), 1, clamp),
            term(after(3), 2, add),
            term(after(4), 2, Operation::Ablate),
            term(after(5), 3, clamp),
            term(small_models::table(6), 2, add),
        ],
        ..SteeringPlan::default()
    };
    let directions = [heads(7), small_models::table(8), after(9)];
    let model = small_models::model(small_models::Form::Q4WithMin, "llama", "silu");
    let tokens = small_models::tokens(12, 3);
    let read = |engine: &mut Engine, length: usize| {
        let request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens: &tokens[..length],
            prompt_length: length,
            plan: &plan,
            score: Scoring::Everything,
            capture: false,
        };
        block_on(engine.read(&request, &mut |_, _| {}))
            .unwrap()
            .records
    };
    let mut reference = small_models::engine(&model, Backend::Reference, Precision::Exact);
    reference.set_directions(&directions).unwrap();
    let want = read(&mut reference, 12);
    for (precision, limit) in [(Precision::Exact, 2e-4), (Precision::Fast, 0.25)] {
        let mut gpu = small_models::engine(&model, Backend::Gpu, precision);
        gpu.set_directions(&directions).unwrap();
        // Eight rows, then one, then the others.
        let got = [8, 9, 12].map(|length| read(&mut gpu, length));
        for (want, got) in want.iter().zip(&got[2]) {
            for (a, b) in want.readings.values.iter().zip(&got.readings.values) {
                let off = (a - b).abs() / (1.0 + a.abs());
                assert!(off < limit, "{precision:?}: {b}, not {a}");
            }
            for index in [0, 2] {
                assert_eq!(got.readings.at(index, Layer(0)), 0.0);
            }
        }
        for (want, got) in want.iter().zip(&got[2]).take(11) {
            let [want, got] = [want, got].map(|record| record.prediction.as_ref().unwrap());
            let off = (want.target_logprob - got.target_logprob).abs();
            assert!(off < limit, "{precision:?}: {off}");
        }
    }
}

/// What was wanted inside blocks leaves nothing behind: the same reading before and after is the same to the last bit.
#[test]
fn ordinary_batches_on_the_gpu_do_not_notice_places() {
    let model = small_models::model(small_models::Form::Q4WithMin, "llama", "silu");
    let mut gpu = small_models::engine(&model, Backend::Gpu, Precision::Fast);
    let tokens = small_models::tokens(9, 3);
    let dispatches = |gpu: &Engine| gpu.gpu().unwrap().dispatches();
    let mut numbers = |coefficient: f32| {
        let plan = SteeringPlan {
            terms: vec![Term {
                vector: small_models::table(3).at(Place::AfterAttention),
                layers: vec![Layer(1), Layer(3)],
                operation: Operation::Add { coefficient },
                scope: Scope::All,
            }],
            ..SteeringPlan::default()
        };
        gpu.clear(SequenceIndex(0)).unwrap();
        let before = dispatches(&gpu);
        let mut request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens: &tokens[..8],
            prompt_length: 8,
            plan: &plan,
            score: Scoring::Everything,
            capture: true,
        };
        let mut read = block_on(gpu.read(&request, &mut |_, _| {})).unwrap();
        let mut bits: Vec<u32> = read.residual.iter().map(|x| x.to_bits()).collect();
        request.tokens = &tokens;
        request.capture = false;
        read = block_on(gpu.read(&request, &mut |_, _| {})).unwrap();
        let scored = read.records[7].prediction.as_ref().unwrap();
        bits.push(scored.target_logprob.to_bits());
        (bits, dispatches(&gpu) - before)
    };
    let (plain, few) = numbers(0.0);
    let (changed, more) = numbers(0.5);
    assert_eq!(numbers(0.0), (plain.clone(), few));
    assert!(changed != plain && more > few);
}
