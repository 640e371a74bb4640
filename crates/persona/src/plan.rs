//! Steering plans by trait name: what sliders, `--steer` and links say, made into the engine's plan.

use crate::trait_vector::TraitVector;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use trimtab_engine::adapter::{AdapterTerm, AppliedAdapter};
use trimtab_engine::steering::PlanError;
use trimtab_engine::{Layer, Operation, Scope, SteeringPlan, Term};
use ts_rs::TS;

/// Layers that one term may name.
const MAX_LAYERS: u32 = 1_024;

/// What a term does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[ts(rename = "Operation")]
pub enum TermOperation {
    /// `h ← h + α v`, `v` as it is, not normalised (persona vectors, section 3.2).
    Add { coefficient: f32 },
    /// `h ← h − (h·v̂) v̂`; never on the first token.
    Ablate,
    /// Limits `h·v̂` to `low..=high`; never on the first token.
    Clamp { low: f32, high: f32 },
    /// `W x + scale · s · B A x`: the adapter of that name acts on all tokens; 1 is as it was trained.
    Tune { scale: f32 },
}

/// One term of a plan, its vector or adapter by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "SteeringTerm", optional_fields)]
pub struct NamedTerm {
    /// A ready-made trait or, in the program, the path of a vector file (`PATH#TENSOR`); of an adapter its name.
    #[serde(rename = "trait")]
    pub vector: String,
    pub operation: TermOperation,
    /// `None`: the layers that the vector file recommends. An adapter has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Layer>>,
    pub scope: Scope,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NamedPlanError {
    #[error(
        "{text:?} is not a steering term ({reason}); write NAME=COEFFICIENT@LAYERS, for example cheerful=2@16 or poetic=-1.5@14-16:response"
    )]
    Syntax { text: String, reason: String },
    #[error("there is no vector called {name:?} here; there are {known}")]
    UnknownVector { name: String, known: String },
    #[error("there is no adapter called {name:?} here; there are {known}")]
    UnknownAdapter { name: String, known: String },
    #[error("the vector {name} recommends no layers; name them, as in {name}=2@16")]
    NoLayers { name: String },
    #[error("{name}: {source}")]
    Plan { name: String, source: PlanError },
}

impl fmt::Display for NamedTerm {
    /// As [`NamedTerm::from_str`] reads it.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}=", self.vector)?;
        match self.operation {
            TermOperation::Add { coefficient } => write!(to, "{coefficient}")?,
            TermOperation::Ablate => write!(to, "ablate")?,
            TermOperation::Clamp { low, high } => write!(to, "clamp({low},{high})")?,
            TermOperation::Tune { scale } => write!(to, "tune({scale})")?,
        }
        for (index, layer) in self.layers.iter().flatten().enumerate() {
            write!(to, "{}{}", if index == 0 { '@' } else { ',' }, layer.0)?;
        }
        match self.scope {
            Scope::All => Ok(()),
            Scope::Prompt => write!(to, ":prompt"),
            Scope::Response => write!(to, ":response"),
        }
    }
}

impl FromStr for NamedTerm {
    type Err = NamedPlanError;

    /// `NAME=α[@LAYER[,LAYER…|a-b]][:prompt|:response]`; in place of `α` also `ablate` or
    /// `clamp(low,high)`, the range in units of the reading; `NAME=tune(SCALE)` is about an adapter, which has layers of its own
    /// and acts on all tokens. NAME may contain any of these signs: the last `=` counts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason: &str| NamedPlanError::Syntax {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (vector, value) = text.rsplit_once('=').ok_or_else(|| fail("there is no ="))?;
        if vector.is_empty() {
            return Err(fail("there is no name before the ="));
        }
        let (value, scope) = match value.split_once(':') {
            None => (value, Scope::All),
            Some((value, "all")) => (value, Scope::All),
            Some((value, "prompt")) => (value, Scope::Prompt),
            Some((value, "response")) => (value, Scope::Response),
            Some((_, other)) => {
                return Err(fail(&format!(
                    "the part after the colon is {other:?}, not prompt or response"
                )));
            }
        };
        let (operation, layers) = match value.split_once('@') {
            None => (value, None),
            Some((operation, layers)) => (
                operation,
                Some(parse_layers(layers).map_err(|reason| fail(&reason))?),
            ),
        };
        let operation = parse_operation(operation).map_err(|reason| fail(&reason))?;
        let tunes = matches!(operation, TermOperation::Tune { .. });
        if tunes && (layers.is_some() || scope != Scope::All) {
            return Err(fail("an adapter acts on all tokens, at layers of its own"));
        }
        Ok(Self {
            vector: vector.to_owned(),
            operation,
            layers,
            scope,
        })
    }
}

fn parse_operation(text: &str) -> Result<TermOperation, String> {
    if text == "ablate" {
        return Ok(TermOperation::Ablate);
    }
    let of_call = |name: &str| {
        let rest = text.strip_prefix(name)?.strip_prefix('(')?;
        rest.strip_suffix(')')
    };
    if let Some(scale) = of_call("tune") {
        let scale = parse_number(scale)?;
        return Ok(TermOperation::Tune { scale });
    }
    if let Some(range) = of_call("clamp") {
        let (low, high) = range
            .split_once(',')
            .ok_or("a clamp needs two numbers, as in clamp(-10,10)")?;
        let (low, high) = (parse_number(low)?, parse_number(high)?);
        if low > high {
            return Err(format!("the clamp's range runs from {low} up to {high}"));
        }
        return Ok(TermOperation::Clamp { low, high });
    }
    Ok(TermOperation::Add {
        coefficient: parse_number(text)?,
    })
}

fn parse_number(text: &str) -> Result<f32, String> {
    let value: f32 = text
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(format!("{text:?} is not a finite number"))
    }
}

/// `LAYER[,LAYER…|a-b]`, ascending and each once.
pub fn parse_layers(text: &str) -> Result<Vec<Layer>, String> {
    let number = |text: &str| {
        let layer: u32 = text
            .trim()
            .parse()
            .map_err(|_| format!("{text:?} is not a layer"))?;
        if layer < MAX_LAYERS {
            Ok(layer)
        } else {
            Err(format!("layer {layer} does not exist"))
        }
    };
    let mut layers = std::collections::BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => {
                layers.insert(Layer(number(part)?));
            }
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(format!("the layers {first}-{last} run backwards"));
                }
                layers.extend((first..=last).map(Layer));
            }
        }
    }
    Ok(layers.into_iter().collect())
}

/// An adapter that plans may name.
#[derive(Clone, Debug)]
pub struct NamedAdapter {
    pub name: String,
    /// Of its weights' file, in hexadecimal.
    pub sha256: String,
    pub applied: Arc<AppliedAdapter>,
}

/// Makes the engine's plan of terms by name, for a model of `layer_rows = L+1` rows. Fails with a
/// sentence for an unknown name, a missing recommendation or a layer that does not exist.
pub fn resolve(
    terms: &[NamedTerm],
    vectors: &[TraitVector],
    adapters: &[NamedAdapter],
    layer_rows: usize,
) -> Result<SteeringPlan, NamedPlanError> {
    let mut plan = SteeringPlan::default();
    for term in terms {
        let name = &term.vector;
        let operation = match term.operation {
            TermOperation::Tune { scale } => {
                plan.adapters.push(adapter(name, adapters, scale)?);
                continue;
            }
            TermOperation::Add { coefficient } => Operation::Add { coefficient },
            TermOperation::Ablate => Operation::Ablate,
            TermOperation::Clamp { low, high } => Operation::Clamp { low, high },
        };
        let vector = vectors
            .iter()
            .find(|vector| vector.name == *name)
            .ok_or_else(|| NamedPlanError::UnknownVector {
                name: name.clone(),
                known: known_names(vectors),
            })?;
        let layers = match (&term.layers, &vector.recommended) {
            (Some(layers), _) => layers.clone(),
            (None, Some(recommended)) => recommended.layers(),
            (None, None) => return Err(NamedPlanError::NoLayers { name: name.clone() }),
        };
        let last = layer_rows as u32 - 1;
        if let Some(&layer) = layers.iter().find(|layer| layer.0 > last) {
            return Err(NamedPlanError::Plan {
                name: name.clone(),
                source: PlanError::NoSuchLayer { layer, last },
            });
        }
        plan.terms.push(Term {
            vector: vector.table.clone(),
            layers,
            operation,
            scope: term.scope,
        });
    }
    Ok(plan)
}

fn adapter(
    name: &str,
    adapters: &[NamedAdapter],
    scale: f32,
) -> Result<AdapterTerm, NamedPlanError> {
    let found = adapters.iter().find(|known| known.name == name);
    let found = found.ok_or_else(|| NamedPlanError::UnknownAdapter {
        name: name.to_owned(),
        known: in_words(adapters.iter().map(|known| known.name.as_str())),
    })?;
    Ok(AdapterTerm {
        adapter: Arc::clone(&found.applied),
        scale,
    })
}

fn known_names(vectors: &[TraitVector]) -> String {
    in_words(vectors.iter().map(|vector| vector.name.as_str()))
}

fn in_words<'a>(names: impl Iterator<Item = &'a str>) -> String {
    match names.collect::<Vec<_>>() {
        names if names.is_empty() => "none".into(),
        names => names.join(", "),
    }
}

/// Relative dose of adding `coefficient` at `layers`: the sum of `α‖v_l‖ / median neutral ‖h_l‖`.
/// `None` where the vector's file has no neutral norms. The sign is the coefficient's.
pub fn relative_dose(vector: &TraitVector, coefficient: f32, layers: &[Layer]) -> Option<f32> {
    let doses = vector.dose_per_unit()?;
    layers
        .iter()
        .map(|layer| doses.get(layer.index()).map(|dose| coefficient * dose))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector_metadata::Recommended;
    use trimtab_engine::LayerTable;

    fn term(text: &str) -> NamedTerm {
        text.parse().unwrap()
    }

    #[test]
    fn a_term_is_written_as_it_is_read() {
        for text in [
            "cheerful=2",
            "poetic=-1.5@14,15,16:response",
            "a=b=ablate@3",
            "warm=clamp(-10,10)@7:prompt",
            "villain=tune(0.8)",
        ] {
            assert_eq!(term(text).to_string(), text);
        }
    }

    fn layers(numbers: &[u32]) -> Option<Vec<Layer>> {
        Some(numbers.iter().copied().map(Layer).collect())
    }

    fn vector(recommended: Option<Recommended>) -> TraitVector {
        TraitVector {
            name: "cheerful".into(),
            opposite: String::new(),
            description: String::new(),
            table: LayerTable::new(vec![3.0, 4.0, 0.0, 5.0], 2).unwrap(),
            hash: String::new(),
            recommended,
            calibration: None,
            neutral_norm: Some(vec![10.0, 20.0]),
            model_sha256: None,
        }
    }

    #[test]
    fn terms_in_every_form() {
        let add = |coefficient| TermOperation::Add { coefficient };
        let is = |text: &str, operation, layers, scope| {
            let term = term(text);
            assert_eq!(
                (term.operation, term.layers, term.scope),
                (operation, layers, scope),
                "{text}"
            );
        };
        is("cheerful=2", add(2.0), None, Scope::All);
        is("cheerful=-1.5@16", add(-1.5), layers(&[16]), Scope::All);
        is(
            "cheerful=+2@18,14,16",
            add(2.0),
            layers(&[14, 16, 18]),
            Scope::All,
        );
        is(
            "cheerful=2@14-16:response",
            add(2.0),
            layers(&[14, 15, 16]),
            Scope::Response,
        );
        is(
            "cheerful=2@3,14-15:prompt",
            add(2.0),
            layers(&[3, 14, 15]),
            Scope::Prompt,
        );
        is("cheerful=1e-1:prompt", add(0.1), None, Scope::Prompt);
        is(
            "cheerful=ablate@4",
            TermOperation::Ablate,
            layers(&[4]),
            Scope::All,
        );
        is(
            "cheerful=clamp(-1,2)@4",
            TermOperation::Clamp {
                low: -1.0,
                high: 2.0,
            },
            layers(&[4]),
            Scope::All,
        );
        assert_eq!(
            term("C:\\my=vectors@home\\a.safetensors#response_avg=2@1").vector,
            "C:\\my=vectors@home\\a.safetensors#response_avg"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |text: &str| text.parse::<NamedTerm>().unwrap_err().to_string();
        assert!(message("cheerful").contains("no ="));
        assert!(message("=2@4").contains("no name"));
        assert!(message("a=x@4").contains("\"x\" is not a number"));
        assert!(message("a=inf@4").contains("not a finite number"));
        assert!(message("a=2@").contains("not a layer"));
        assert!(message("a=2@9-7").contains("backwards"));
        assert!(message("a=2@0-99999999999").contains("not a layer"));
        assert!(message("a=2@0-4000000000").contains("does not exist"));
        assert!(message("a=2@4:answer").contains("\"answer\""));
        assert!(message("a=clamp(2,1)@4").contains("range"));
        assert!(message("a=tune(1)@4").contains("layers of its own"));
        assert!(message("a=tune(1):prompt").contains("all tokens"));
        assert!(message("a=tune(much)").contains("\"much\""));
    }

    #[test]
    fn no_layers_means_the_recommended_ones() {
        let recommended = Recommended {
            layers: vec![1],
            min: -2.0,
            max: 2.0,
            usual: None,
        };
        let plan = resolve(&[term("cheerful=2")], &[vector(Some(recommended))], &[], 2).unwrap();
        assert_eq!(plan.terms[0].layers, [Layer(1)]);
        let error = resolve(&[term("cheerful=2")], &[vector(None)], &[], 2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("cheerful=2@16"), "{error}");
    }

    #[test]
    fn unknown_names_and_layers_are_refused() {
        let error = resolve(&[term("sad=2@1")], &[vector(None)], &[], 2)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"sad\"") && error.contains("cheerful"),
            "{error}"
        );
        let error = resolve(&[term("cheerful=2@2")], &[vector(None)], &[], 2)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("layer 2") && error.contains("0 to 1"),
            "{error}"
        );
    }

    #[test]
    fn an_adapter_that_is_not_here_is_refused() {
        let error = resolve(&[term("villain=tune(1)")], &[vector(None)], &[], 2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no adapter called \"villain\""), "{error}");
    }

    #[test]
    fn a_dose_over_several_layers_is_the_sum() {
        let dose = relative_dose(&vector(None), -2.0, &[Layer(0), Layer(1)]).unwrap();
        assert!((dose + 2.0 * (0.5 + 0.25)).abs() < 1e-6, "{dose}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_term_or_an_error(text in ".{0,40}") {
            let _ = text.parse::<NamedTerm>();
        }
    }
}
