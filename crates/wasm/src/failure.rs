//! Errors as the page's `Failure`s.

use serde::Serialize;
use trimtab_checkpoint::manifest::ManifestError;
use trimtab_checkpoint::{ChatError, ConfigError, SourceError, TokenizerError, WeightError};
use trimtab_engine::EngineError;
use trimtab_engine::steering::PlanError;
use trimtab_persona::calibration::CalibrationError;
use trimtab_persona::contrast_record::RecordError;
use trimtab_persona::control_vector::ControlVectorError;
use trimtab_persona::controls::ControlError;
use trimtab_persona::extract::ExtractError;
use trimtab_persona::making::MakingError;
use trimtab_persona::outcome::BaselineError;
use trimtab_persona::plan::NamedPlanError;
use trimtab_persona::push::PushError;
use trimtab_persona::recipe::RecipeError;
use trimtab_persona::recipe::link::LinkError;
use trimtab_persona::recipe::replay::ReplayError;
use trimtab_persona::trait_pack::TraitPackError;
use trimtab_persona::trials::TrialError;
use trimtab_persona::vector_file::VectorFileError;
use trimtab_persona::vector_making::VectorMakingError;
use wasm_bindgen::{JsCast, JsValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[serde(rename = "no-webgpu")]
    NoWebGpu,
    DeviceLost,
    OutOfMemory,
    WrongNumbers,
    CorruptModel,
    ContextFull,
    Internal,
    Usage,
}

#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: sentence(message.into()),
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        serde_wasm_bindgen::to_value(&failure)
            .unwrap_or_else(|_| JsValue::from_str(&failure.message))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::UnsupportedArchitecture { .. }
            | EngineError::UnsupportedModel { .. }
            | EngineError::Weights(_)
            | EngineError::Source(_) => Kind::CorruptModel,
            EngineError::NoAdapter { .. } => Kind::NoWebGpu,
            EngineError::DeviceLost { .. } => Kind::DeviceLost,
            EngineError::OutOfMemory { .. } => Kind::OutOfMemory,
            EngineError::WrongNumbers { .. } => Kind::WrongNumbers,
            EngineError::ContextFull { .. } => Kind::ContextFull,
            EngineError::Plan(_)
            | EngineError::Sampler(_)
            | EngineError::NoSuchToken { .. }
            | EngineError::TooManyDirections { .. }
            | EngineError::Usage(_) => Kind::Usage,
            _ => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

/// Errors of one kind.
macro_rules! failures {
    ($kind:expr => $($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new($kind, error.to_string())
            }
        })+
    };
}

failures!(Kind::CorruptModel => ConfigError, SourceError, WeightError, TokenizerError, ManifestError);
failures!(Kind::Usage => ChatError, NamedPlanError, VectorFileError, PlanError, LinkError, RecipeError, TraitPackError, RecordError, ControlVectorError, ControlError, BaselineError, PushError);

impl From<ExtractError> for Failure {
    fn from(error: ExtractError) -> Self {
        match error {
            ExtractError::Engine(error) => error.into(),
            other => Self::usage(other.to_string()),
        }
    }
}

impl From<MakingError> for Failure {
    fn from(error: MakingError) -> Self {
        match error {
            MakingError::Engine(error) => error.into(),
            other => Self::usage(other.to_string()),
        }
    }
}

impl From<TrialError> for Failure {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Engine(error) => error.into(),
            other => Self::usage(other.to_string()),
        }
    }
}

impl From<VectorMakingError> for Failure {
    fn from(error: VectorMakingError) -> Self {
        match error {
            VectorMakingError::Making(error) => error.into(),
            VectorMakingError::Calibration(CalibrationError::Engine(error)) => error.into(),
            other => Self::usage(other.to_string()),
        }
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Engine(error) => error.into(),
            other => Self::usage(other.to_string()),
        }
    }
}

impl From<serde_wasm_bindgen::Error> for Failure {
    fn from(error: serde_wasm_bindgen::Error) -> Self {
        Self::usage(format!("what was asked has not the expected form: {error}"))
    }
}

/// Errors begin in lower case, because others may be put before them; a visitor reads a sentence.
pub fn sentence(error: String) -> String {
    let first_word = error.split(' ').next().unwrap_or_default();
    let mut sentence = error.clone();
    if first_word.chars().all(char::is_alphabetic)
        && let Some(first) = error.chars().next()
    {
        sentence.replace_range(..first.len_utf8(), &first.to_uppercase().to_string());
    }
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

/// What JavaScript threw, in words.
pub fn text_of(thrown: &JsValue) -> String {
    thrown
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()))
        .or_else(|| thrown.as_string())
        .unwrap_or_else(|| format!("{thrown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences_and_names_stay_names() {
        let say = |text: &str| sentence(text.to_owned());
        assert_eq!(say("the device was lost"), "The device was lost.");
        assert_eq!(say("config.json is broken."), "config.json is broken.");
        assert_eq!(say(""), ".");
    }

    #[test]
    fn kinds_are_spelt_as_the_page_spells_them() {
        let spelt = |kind: Kind| serde_json::to_value(kind).unwrap();
        assert_eq!(spelt(Kind::NoWebGpu), "no-webgpu");
        assert_eq!(spelt(Kind::OutOfMemory), "out-of-memory");
        let lost = EngineError::DeviceLost {
            reason: "gone".into(),
        };
        assert_eq!(Failure::from(lost).kind, Kind::DeviceLost);
    }
}
