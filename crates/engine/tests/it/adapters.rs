//! Adapters beside a running model: against the trainer's own forward pass, which PEFT's numbers check.

use pollster::block_on;
use std::sync::Arc;
use trimtab_checkpoint::adapter::{AboutAdapter, AdaptableTensor, AdapterSettings, LowRank};
use trimtab_checkpoint::{ModelConfig, adapter};
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::generate::{GenerateRequest, Generation};
use trimtab_engine::train::{
    Adapter, AdapterConfig, BaseModel, Example, Settings, Target, Trainer, kernels,
};
use trimtab_engine::{
    AdapterTerm, AppliedAdapter, Backend, Engine, Precision, Sampler, SequenceIndex, SteeringPlan,
    TokenId,
};
use trimtab_testing::small_models::{Form, Noise, engine, model, tokens};

const SETTINGS: AdapterSettings = AdapterSettings {
    rank: 3,
    alpha: 4.5,
    rank_stabilised: false,
};

/// Of random numbers, on every tensor.
fn file(config: &ModelConfig) -> adapter::Adapter {
    let mut noise = Noise::new(11);
    let mut numbers = |count: usize| (0..count).map(|_| 0.2 * noise.number()).collect();
    let parts = AdaptableTensor::of_model(config).unwrap();
    let parts = parts.into_iter().map(|one| LowRank {
        a: numbers(SETTINGS.rank * one.cols),
        b: numbers(SETTINGS.rank * one.rows),
        module: one.module,
        block: one.block,
        role: one.role,
        scale: SETTINGS.scale(),
        rank: SETTINGS.rank,
    });
    adapter::Adapter {
        settings: SETTINGS,
        parts: parts.collect(),
        about: AboutAdapter::default(),
    }
}

fn plan(adapter: &Arc<AppliedAdapter>, scale: f32) -> SteeringPlan {
    SteeringPlan {
        adapters: vec![AdapterTerm {
            adapter: Arc::clone(adapter),
            scale,
        }],
        ..SteeringPlan::default()
    }
}

/// Negative log-likelihoods of all tokens but the first.
fn losses(engine: &mut Engine, sequence: u32, text: &[TokenId], plan: &SteeringPlan) -> Vec<f32> {
    let request = ReadRequest {
        sequence: SequenceIndex(sequence),
        tokens: text,
        prompt_length: 1,
        plan,
        score: Scoring::Everything,
        capture: false,
    };
    let read = block_on(engine.read(&request, &mut |_, _| {})).unwrap();
    let scored = read
        .records
        .iter()
        .filter_map(|record| record.prediction.as_ref());
    let scored = scored.map(|prediction| -prediction.target_logprob);
    scored.filter(|loss| !loss.is_nan()).collect()
}

fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
}

/// The trainer's loss with the same numbers in its own adapter.
fn by_trainer(base: &BaseModel, file: &adapter::Adapter, text: &[TokenId]) -> f64 {
    let blocks = 0..base.config().layers;
    let config = AdapterConfig {
        rank: SETTINGS.rank,
        alpha: SETTINGS.alpha as f32,
        rank_stabilised: false,
        targets: Target::ALL.to_vec(),
        blocks,
    };
    let mut own = Adapter::empty(base, config).unwrap();
    for part in &file.parts {
        let name = |which: &str| format!("base_model.model.{}.lora_{which}.weight", part.module);
        let (cols, rows) = (part.a.len() / part.rank, part.b.len() / part.rank);
        own.set(&name("A"), [part.rank, cols], &part.a).unwrap();
        own.set(&name("B"), [rows, part.rank], &part.b).unwrap();
    }
    let example = Example {
        tokens: text.to_vec(),
        response: vec![true; text.len()],
    };
    let examples = vec![example.clone()];
    let kernels = kernels(Backend::Reference).unwrap();
    let none = SteeringPlan::default();
    let trainer = Trainer::new(
        base.clone(),
        kernels,
        own,
        examples,
        &none,
        Settings::default(),
    );
    trainer.unwrap().loss(&example, &none).unwrap().unwrap()
}

#[test]
fn a_tuned_answer_is_as_likely_as_the_trainer_says() {
    for family in ["llama", "qwen2"] {
        let model = model(Form::Q4WithMin, family, "silu");
        let file = file(&model.0);
        let text = tokens(20, 5);
        for (backend, precision, tolerance) in [
            (Backend::Reference, Precision::Exact, 1e-5),
            (Backend::Cpu, Precision::Exact, 1e-5),
            // Activations are rounded to 8 bits; the adapter adds to that with its own in f32.
            (Backend::Cpu, Precision::Fast, 2e-2),
        ] {
            let mut engine = engine(&model, backend, precision);
            let want = by_trainer(&engine.base_model().unwrap(), &file, &text);
            let applied = engine.adapter(&file).unwrap();
            let tuned = mean(&losses(&mut engine, 0, &text, &plan(&applied, 1.0)));
            let base = mean(&losses(&mut engine, 1, &text, &SteeringPlan::default()));
            let off = (tuned - want).abs() / want;
            assert!(
                off < tolerance,
                "{family}, {backend:?}, {precision:?}: {tuned}, not {want}"
            );
            assert!(
                (base - want).abs() > 0.05,
                "{family}: {base} without, {want} with"
            );
        }
    }
}

#[test]
fn nothing_of_an_adapter_is_nothing_and_rows_keep_their_own() {
    let model = model(Form::Q8, "llama", "silu");
    let file = file(&model.0);
    for backend in [Backend::Reference, Backend::Cpu] {
        let mut engine = engine(&model, backend, Precision::Exact);
        let text = tokens(30, 9);
        let base = losses(&mut engine, 0, &text, &SteeringPlan::default());
        let applied = engine.adapter(&file).unwrap();
        assert_eq!(losses(&mut engine, 1, &text, &plan(&applied, 0.0)), base);
        let whole = losses(&mut engine, 2, &text, &plan(&applied, 1.0));
        assert_ne!(whole, base);
        // The cache of one is not the other's.
        assert_eq!(
            losses(&mut engine, 2, &text, &SteeringPlan::default()),
            base
        );
        assert_eq!(losses(&mut engine, 1, &text, &plan(&applied, 1.0)), whole);
        assert_ne!(losses(&mut engine, 0, &text, &plan(&applied, 0.5)), whole);
        // Side by side in one batch each writes what it writes alone.
        let request = |sequence, plan: &SteeringPlan| GenerateRequest {
            sequence: SequenceIndex(sequence),
            prompt: text[..8].to_vec(),
            plan: plan.clone(),
            sampler: Sampler::GREEDY,
            max_tokens: 12,
            end_tokens: Vec::new(),
        };
        let tuned = plan(&applied, 1.5);
        let mut written = |requests: Vec<GenerateRequest>| -> Vec<Vec<TokenId>> {
            block_on(async {
                let mut run = Generation::start(&mut engine, requests).await.unwrap();
                while run.next(&mut engine).await.unwrap().is_some() {}
                let answers = run.finish(&mut engine).await.unwrap();
                answers.into_iter().map(|answer| answer.tokens).collect()
            })
        };
        let together = written(vec![
            request(0, &SteeringPlan::default()),
            request(1, &tuned),
        ]);
        let alone = [
            written(vec![request(2, &SteeringPlan::default())]),
            written(vec![request(2, &tuned)]),
        ];
        assert_eq!(together, alone.concat());
        assert_ne!(together[0], together[1]);
        // An adapter that always acts makes of the empty plan what the plan with it is.
        engine.set_adapters(plan(&applied, 1.0).adapters).unwrap();
        assert_eq!(
            losses(&mut engine, 0, &text, &SteeringPlan::default()),
            whole
        );
    }
}
