//! Whole runs: beside PEFT, interrupted, refused and out of bounds.

use super::*;
use trimtab_engine::train::{TrainError, TrainingState};

/// The run of 50 steps, from where it was resumed; its losses, and what it learnt.
fn run(backend: Backend, interrupted: bool) -> (Vec<StepReport>, Adapter) {
    let run = golden_json::<Golden>("training.json").run;
    let model = random_model(&run.config, |_, _| ());
    let settings = Settings {
        micro_batch_tokens: 24,
        ..run.steps.settings(run.examples.len())
    };
    let trainer = || {
        Trainer::new(
            model.clone(),
            kernels(backend).unwrap(),
            adapter(&model, &run.adapter, [run.steps.initial, 0.0]),
            examples(&run.examples),
            &SteeringPlan::default(),
            settings.clone(),
        )
        .unwrap()
    };
    let mut trained = trainer();
    assert_eq!(trained.steps(), run.steps.steps);
    let mut reports = Vec::new();
    while let Some(report) = trained.step().unwrap() {
        reports.push(report);
        if interrupted && report.step % 20 == 0 {
            // In the middle of the next step.
            trained.advance().unwrap();
            let state = trained.state().to_bytes();
            trained = trainer();
            trained
                .resume(TrainingState::from_bytes(&state).unwrap())
                .unwrap();
        }
    }
    (reports, trained.adapter().clone())
}

#[test]
fn fifty_steps_go_as_peft_goes() {
    let want = golden_json::<Golden>("training.json").run;
    let tensors = Tensors::open("training.safetensors");
    for backend in BACKENDS {
        let (reports, learnt) = run(backend, false);
        let mut worst = 0.0_f64;
        for (report, want) in reports.iter().zip(&want.steps.losses) {
            worst = worst.max((report.loss - want).abs() / want);
        }
        // The cosine of all products B A together.
        let (mut both, mut own, mut other) = (0.0, 0.0, 0.0);
        let rank = want.adapter.rank;
        let (_, numbers) = tensors.get("run");
        let mut rest = &numbers[..];
        // A before B.
        for factors in sorted(&learnt, learnt.parameters()).chunks(2) {
            let (a, others) = rest.split_at(factors[0].values.len());
            let (b, others) = others.split_at(factors[1].values.len());
            rest = others;
            let got = product(factors[0].values, factors[1].values, rank);
            for (got, want) in got.iter().zip(&product(a, b, rank)) {
                both += got * want;
                own += got * got;
                other += want * want;
            }
        }
        assert!(rest.is_empty());
        let cosine = both / (own * other).sqrt();
        let last = reports.last().unwrap();
        println!(
            "{backend:?}: losses off by {worst:.1e}, 1 − cosine {:.1e}, {last:?}",
            1.0 - cosine
        );
        assert_eq!(reports.len(), want.steps.losses.len());
        assert!(worst < 5e-3, "{backend:?}: a loss is off by {worst}");
        assert!(cosine > 0.999, "{backend:?}: {cosine}");
        assert!(
            last.loss < 0.2 * reports[0].loss,
            "{backend:?} learns little: {last:?}"
        );
    }
}

/// `B A`, `[outputs, inputs]`.
fn product(a: &[f32], b: &[f32], rank: usize) -> Vec<f64> {
    let inputs = a.len() / rank;
    let row = |b: &[f32], column: usize| -> f64 {
        let terms = b.iter().zip(a[column..].iter().step_by(inputs));
        terms.map(|(b, a)| f64::from(*b) * f64::from(*a)).sum()
    };
    let rows = b.chunks(rank);
    rows.flat_map(|b| (0..inputs).map(move |column| row(b, column)))
        .collect()
}

#[test]
fn a_run_that_was_interrupted_goes_on_to_the_same_bits() {
    let (whole, learnt) = run(Backend::Cpu, false);
    let (resumed, learnt_too) = run(Backend::Cpu, true);
    assert_eq!(whole, resumed);
    assert_eq!(learnt.parameters(), learnt_too.parameters());
}

#[test]
fn a_state_of_another_run_is_refused() {
    let case = Case::named("llama");
    let model = random_model(&case.config, |_, _| ());
    let state = case
        .trainer(&model, case.settings(&model), Backend::Cpu)
        .state();
    let others = Settings {
        epochs: 2,
        ..case.settings(&model)
    };
    let mut other = case.trainer(&model, others, Backend::Cpu);
    let told = other.resume(state).unwrap_err().to_string();
    assert!(told.contains("another run"), "{told}");
}

#[test]
fn what_cannot_be_trained_is_refused_in_words() {
    let case = Case::named("llama");
    let model = random_model(&case.config, |_, _| ());
    let refused = |texts: &[Text], settings: Settings| -> String {
        let adapter = adapter(&model, &case.adapter, RANDOM);
        let kernels = kernels(Backend::Cpu).unwrap();
        let plan = SteeringPlan::default();
        let made = Trainer::new(
            model.clone(),
            kernels,
            adapter,
            examples(texts),
            &plan,
            settings,
        );
        made.unwrap_err().to_string()
    };
    let text = |tokens: Vec<u32>, response: Vec<bool>| Text { tokens, response };
    let settings = || case.settings(&model);
    let told = refused(&[], settings());
    assert!(told.contains("nothing to learn"), "{told}");
    let told = refused(&[text(vec![3, 4], vec![true, false])], settings());
    assert!(told.contains("nothing to learn"), "{told}");
    let long = text(vec![3; 65], vec![true; 65]);
    let told = refused(&[case.examples[0].clone(), long], settings());
    assert!(told.starts_with("example 2 has 65 tokens"), "{told}");
    let told = refused(&[text(vec![3, 50], vec![false, true])], settings());
    assert!(told.contains("token 50"), "{told}");
    let mut penalised = settings();
    penalised.penalty = Some(Penalty {
        layer: Layer(0),
        direction: vec![1.0; 40],
        weight: 1.0,
    });
    let told = refused(&case.examples, penalised);
    assert!(told.contains("moves layers 1 to 2"), "{told}");
    let mut config = case.adapter.adapter();
    config.blocks = 1..3;
    let told = Adapter::new(&model, config, 0).unwrap_err().to_string();
    assert!(told.contains("which has 2"), "{told}");
}

/// A loss that grew beyond all bounds stops the run, and leaves the adapter as it was.
#[test]
fn numbers_beyond_all_bounds_stop_the_run() {
    let case = Case::named("llama");
    let model = random_model(&case.config, |_, _| ());
    let mut settings = case.settings(&model);
    settings.epochs = 40;
    settings.optimiser.learning_rate = 10.0;
    settings.optimiser.weight_decay = 10.0;
    let mut trainer = case.trainer(&model, settings, Backend::Cpu);
    let stopped = loop {
        let before = trainer.adapter().parameters().to_vec();
        match trainer.step() {
            Ok(report) => assert!(report.is_some(), "it never stopped"),
            Err(error) => {
                assert_eq!(before, trainer.adapter().parameters());
                break error;
            }
        }
    };
    assert!(matches!(stopped, TrainError::NotFinite { .. }), "{stopped}");
}
