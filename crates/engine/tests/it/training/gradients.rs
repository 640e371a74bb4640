//! Gradients, by autograd and by differences, and what must not matter to them.

use super::*;

#[test]
fn every_gradient_is_that_of_pytorch() {
    let golden: Golden = golden_json("training.json");
    for case in &golden.cases {
        let model = random_model(&case.config, |_, _| ());
        for backend in BACKENDS {
            let settings = case.settings(&model);
            let (report, off, tensor) = case.compare(&model, settings, backend);
            println!(
                "{}, {backend:?}: loss {:.6} ({:+.1e}), gradient off by {off:.1e} ({tensor})",
                case.name,
                report.loss,
                report.loss - case.loss
            );
            assert!(
                off <= TOLERANCE,
                "{}, {backend:?}: {tensor} is off by {off}",
                case.name
            );
            assert!(
                (report.loss - case.loss).abs() < 1e-4,
                "{}: {report:?}",
                case.name
            );
            assert!(
                (report.penalty - case.penalty_loss).abs() < 1e-4,
                "{}: {report:?}",
                case.name
            );
        }
    }
}

/// The comparison sees one weight of one matrix or one gain that is a tenth off.
#[test]
fn a_changed_weight_is_noticed() {
    let case = Case::named("llama");
    for changed in [
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.post_attention_layernorm.weight",
        "model.norm.weight",
    ] {
        let model = random_model(&case.config, |name, values| {
            if name == changed {
                let largest = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let place = values.iter().position(|x| x.abs() == largest).unwrap();
                values[place] *= 1.1;
            }
        });
        for backend in BACKENDS {
            let (_, off, _) = case.compare(&model, case.settings(&model), backend);
            assert!(off > TOLERANCE, "{changed}, {backend:?}: {off}");
        }
    }
}

/// Whether examples go through together or apart, and whether intermediate results are kept or computed again.
#[test]
fn how_it_is_computed_does_not_matter() {
    for name in ["llama_penalty", "llama_part"] {
        let case = Case::named(name);
        let model = random_model(&case.config, |_, _| ());
        for backend in BACKENDS {
            for (micro_batch_tokens, notes_bytes) in [(1, 0), (1, 1 << 30), (512, 0), (512, 20_000)]
            {
                let settings = Settings {
                    micro_batch_tokens,
                    notes_bytes,
                    ..case.settings(&model)
                };
                let (report, off, tensor) = case.compare(&model, settings, backend);
                assert!(off <= TOLERANCE, "{name}, {backend:?}: {tensor} {off}");
                assert!((report.loss - case.loss).abs() < 1e-4, "{report:?}");
                assert!(
                    (report.penalty - case.penalty_loss).abs() < 1e-4,
                    "{report:?}"
                );
            }
        }
    }
}

/// States below the lowest adapter are the same in every epoch, under a plan, too.
#[test]
fn states_that_were_kept_are_those_computed_again() {
    let case = Case::named("llama_part");
    let model = random_model(&case.config, |_, _| ());
    let push = GoldenTerm {
        vector: "increments".into(),
        layers: vec![0, 1, 2],
        add: Some(0.5),
        clamp: None,
        scope: Scope::All,
        place: None,
    };
    let plan = SteeringPlan {
        terms: vec![push.term(&model)],
    };
    let reports = |kept_bytes: usize, plan: &SteeringPlan| -> Vec<StepReport> {
        let settings = Settings {
            epochs: 4,
            examples_a_step: 1,
            shuffle: Some(3),
            kept_bytes,
            ..case.settings(&model)
        };
        let adapter = adapter(&model, &case.adapter, RANDOM);
        let kernels = kernels(Backend::Cpu).unwrap();
        let examples = examples(&case.examples);
        let trainer = Trainer::new(model.clone(), kernels, adapter, examples, plan, settings);
        let mut trainer = trainer.unwrap();
        std::iter::from_fn(|| trainer.step().unwrap()).collect()
    };
    let computed = reports(0, &plan);
    assert_eq!(computed.len(), 8);
    // Room for the states of one example, and for all.
    for kept_bytes in [40 * 4 * 12, 1 << 20] {
        assert_eq!(reports(kept_bytes, &plan), computed);
    }
    assert_ne!(reports(0, &SteeringPlan::default()), computed);
}

/// The gradient along a random direction against the difference of two losses.
#[test]
fn the_loss_changes_as_the_gradient_says() {
    for name in ["llama", "gpt2", "phi3", "olmo2", "llama_ablate"] {
        let case = Case::named(name);
        let model = random_model(&case.config, |_, _| ());
        let plan = case.plan(&model);
        for backend in BACKENDS {
            let mut trainer = case.trainer(&model, case.settings(&model), backend);
            let start = trainer.state();
            let direction = numbers("direction", start.parameters.len());
            let weights: Vec<f64> = examples(&case.examples)
                .iter()
                .map(|example| example.predicted() as f64)
                .collect();
            let loss = |trainer: &mut Trainer, length: f32| {
                let mut state = start.clone();
                let moved = state.parameters.iter_mut().zip(&direction);
                moved.for_each(|(x, d)| *x += length * d);
                trainer.resume(state).unwrap();
                let losses = examples(&case.examples);
                let losses = losses
                    .iter()
                    .map(|example| trainer.loss(example, &plan).unwrap().unwrap());
                let sum: f64 = losses
                    .zip(&weights)
                    .map(|(loss, weight)| loss * weight)
                    .sum();
                sum / weights.iter().sum::<f64>()
            };
            let length = 3e-3;
            let difference = loss(&mut trainer, length) - loss(&mut trainer, -length);
            let slope = difference / (2.0 * f64::from(length));
            trainer.resume(start.clone()).unwrap();
            trainer.step().unwrap();
            let products = trainer.gradient().iter().zip(&direction);
            let want: f64 = products.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            println!("{name}, {backend:?}: {slope:.5}, by the gradient {want:.5}");
            assert!(
                (slope - want).abs() < 0.01 * want.abs().max(0.1),
                "{name}, {backend:?}: {slope}, not {want}"
            );
        }
    }
}
