//! The residual stream, its readings and its steering against Hugging Face transformers in f32.

use super::{Demands, Ids, Tensors, norm, read};
use serde::Deserialize;
use trimtab_engine::{Engine, Layer, LayerTable, Operation, Scope, SteeringPlan, Term};
use trimtab_testing::files::golden_json;

/// The largest `‖Δh‖/‖h‖` for each layer from `from_layer` on: of the first token, and of the others.
/// `residual` is `[T, L+1, d]`, the reference `[L+1−from_layer, T, d]`.
fn residual_errors(
    residual: &[f32],
    reference: &(Vec<usize>, Vec<f32>),
    from_layer: usize,
) -> Vec<(f64, f64)> {
    let (&[layers, tokens, d], values) = (&reference.0[..], &reference.1) else {
        panic!("golden residual has shape {:?}", reference.0);
    };
    let layer_rows = from_layer + layers;
    assert_eq!(residual.len(), tokens * layer_rows * d);
    let error = |layer: usize, token: usize| {
        let ours = &residual[(token * layer_rows + from_layer + layer) * d..][..d];
        let theirs = &values[(layer * tokens + token) * d..][..d];
        let difference = norm(ours.iter().zip(theirs).map(|(a, b)| a - b));
        let relative = difference / norm(theirs.iter().copied());
        assert!(
            relative.is_finite(),
            "layer {layer}, token {token}: {relative}"
        );
        relative
    };
    (0..layers)
        .map(|layer| {
            let others = (1..tokens)
                .map(|token| error(layer, token))
                .fold(0.0, f64::max);
            (error(layer, 0), others)
        })
        .collect()
}

/// Prints the errors' maxima and holds them against the demand.
fn judge_residual(name: &str, errors: &[(f64, f64)], from_layer: usize, demands: Demands) {
    let first = errors.iter().map(|e| e.0).fold(0.0, f64::max);
    let (layer, others) = errors
        .iter()
        .map(|e| e.1)
        .enumerate()
        .fold(
            (0, 0.0),
            |best, now| if now.1 > best.1 { now } else { best },
        );
    println!(
        "{name}: largest ‖Δh‖/‖h‖ {others:.2e} (layer {}), first token {first:.2e}",
        from_layer + layer
    );
    match demands.residual {
        Some(allowed) => {
            for (index, (first, others)) in errors.iter().enumerate() {
                let layer = from_layer + index;
                assert!(
                    *others <= allowed,
                    "{name}, layer {layer}: ‖Δh‖/‖h‖ reaches {others:e}"
                );
                assert!(
                    *first <= allowed,
                    "{name}, layer {layer}, first token: {first:e}"
                );
            }
        }
        // 8-bit activations cannot agree to f32's rounding: if they do, the fast path did not run.
        None => assert!(
            others > 1e-4,
            "{name}: the fast precision is suspiciously exact"
        ),
    }
}

#[derive(Deserialize)]
struct ResidualFile {
    prompts: Vec<ResidualPrompt>,
}

#[derive(Deserialize)]
struct ResidualPrompt {
    name: String,
    ids: Ids,
}

pub fn residual_stream(engine: &mut Engine, demands: Demands) {
    let tensors = Tensors::open("residual.safetensors");
    for prompt in golden_json::<ResidualFile>("residual.json").prompts {
        let tokens = prompt.ids.tokens();
        let plan = SteeringPlan::default();
        let outcome = read(engine, &tokens, tokens.len(), &plan, false, true);
        let errors = residual_errors(&outcome.residual, &tensors.get(&prompt.name), 0);
        judge_residual(&prompt.name, &errors, 0, demands);
    }
}

/// Readings are the reference's residual projected on the directions, all of them, at every layer.
pub fn readings(engine: &mut Engine, demands: Demands) {
    let (shape, vector) = Tensors::open("steering.safetensors").get("vector");
    let (layer_rows, d) = (shape[0], shape[1]);
    // Another sign and length, and other rows: directions must neither be mixed up nor left unnormalised.
    let reversed = vector
        .chunks(d)
        .rev()
        .flat_map(|row| row.iter().map(|v| v * -3.0));
    let directions = [vector.clone(), reversed.collect()]
        .map(|values| LayerTable::new(values, d).expect("golden vector is finite"));
    engine
        .set_directions(&directions)
        .expect("golden directions fit");
    let residual = Tensors::open("residual.safetensors");
    let mut worst = 0.0_f64;
    for prompt in golden_json::<ResidualFile>("residual.json").prompts {
        let tokens = prompt.ids.tokens();
        let plan = SteeringPlan::default();
        let outcome = read(engine, &tokens, tokens.len(), &plan, false, false);
        let (_, values) = residual.get(&prompt.name);
        for (token, record) in outcome.records.iter().enumerate() {
            assert_eq!(record.readings.directions(), directions.len());
            for layer in 0..layer_rows {
                let h = &values[(layer * tokens.len() + token) * d..][..d];
                for (index, direction) in directions.iter().enumerate() {
                    let row = direction.row(Layer(layer as u32));
                    let component: f64 = h
                        .iter()
                        .zip(row)
                        .map(|(h, v)| f64::from(*h) * f64::from(*v))
                        .sum();
                    let expected = component / norm(row.iter().copied());
                    let got = f64::from(record.readings.at(index, Layer(layer as u32)));
                    worst = worst.max((got - expected).abs() / norm(h.iter().copied()));
                }
            }
        }
    }
    println!("readings: largest difference {worst:.2e} of the residual's length");
    let allowed = demands.residual.unwrap_or(0.1);
    assert!(
        worst <= allowed,
        "readings differ by {worst:e} of the residual's length"
    );
}

#[derive(Deserialize)]
struct SteeringFile {
    ids: Ids,
    prompt_length: usize,
    cases: Vec<SteeringCase>,
}

#[derive(Deserialize)]
struct SteeringCase {
    name: String,
    from_layer: usize,
    terms: Vec<TermFields>,
}

#[derive(Deserialize)]
struct TermFields {
    operation: String,
    layers: Vec<u32>,
    scope: String,
    coefficient: Option<f32>,
    low: Option<f32>,
    high: Option<f32>,
}

impl TermFields {
    fn term(&self, vector: &LayerTable) -> Term {
        let operation = match (
            self.operation.as_str(),
            self.coefficient,
            self.low.zip(self.high),
        ) {
            ("add", Some(coefficient), _) => Operation::Add { coefficient },
            ("ablate", ..) => Operation::Ablate,
            ("clamp", _, Some((low, high))) => Operation::Clamp { low, high },
            other => panic!("golden term {other:?}"),
        };
        let scope = match self.scope.as_str() {
            "all" => Scope::All,
            "prompt" => Scope::Prompt,
            "response" => Scope::Response,
            other => panic!("golden scope {other:?}"),
        };
        Term {
            vector: vector.clone(),
            layers: self.layers.iter().copied().map(Layer).collect(),
            operation,
            scope,
        }
    }
}

/// The residual stream of steered runs, from the changed layer on.
pub fn steering(engine: &mut Engine, demands: Demands) {
    let file: SteeringFile = golden_json("steering.json");
    let tensors = Tensors::open("steering.safetensors");
    let (shape, values) = tensors.get("vector");
    let vector = LayerTable::new(values, shape[1]).expect("golden vector is finite");
    let tokens = file.ids.tokens();
    for case in &file.cases {
        let plan = SteeringPlan {
            terms: case.terms.iter().map(|term| term.term(&vector)).collect(),
            ..SteeringPlan::default()
        };
        let outcome = read(engine, &tokens, file.prompt_length, &plan, false, true);
        let errors = residual_errors(&outcome.residual, &tensors.get(&case.name), case.from_layer);
        judge_residual(&case.name, &errors, case.from_layer, demands);
    }
}
