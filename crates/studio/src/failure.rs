//! Errors as a person meets them: what happened, in a sentence, and what kind of thing it is.

use serde::{Deserialize, Serialize};
use trimtab_checkpoint::adapter::AdapterError;
use trimtab_checkpoint::convert::ConvertError;
use trimtab_checkpoint::manifest::ManifestError;
use trimtab_checkpoint::{ChatError, ConfigError, SourceError, TokenizerError, WeightError};
use trimtab_engine::EngineError;
use trimtab_engine::memory::Shortage;
use trimtab_engine::sampling::SamplerError;
use trimtab_engine::steering::PlanError;
use trimtab_engine::train::TrainError;
use trimtab_persona::calibration::CalibrationError;
use trimtab_persona::contrast::ContrastError;
use trimtab_persona::contrast_record::RecordError;
use trimtab_persona::control_vector::ControlVectorError;
use trimtab_persona::controls::ControlError;
use trimtab_persona::dataset::DatasetError;
use trimtab_persona::extract::ExtractError;
use trimtab_persona::outcome::BaselineError;
use trimtab_persona::plan::NamedPlanError;
use trimtab_persona::push::PushError;
use trimtab_persona::recipe::RecipeError;
use trimtab_persona::recipe::link::LinkError;
use trimtab_persona::recipe::replay::ReplayError;
use trimtab_persona::trait_pack::TraitPackError;
use trimtab_persona::vector_file::VectorFileError;
use trimtab_persona::vector_making::VectorMakingError;
use ts_rs::TS;

/// What kind of thing happened. The last two are the page's own: files that it could not fetch, or not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    #[serde(rename = "no-webgpu")]
    NoWebGpu,
    DeviceLost,
    OutOfMemory,
    WrongNumbers,
    CorruptModel,
    ContextFull,
    Internal,
    Usage,
    Download,
    Quota,
}

/// An error in words for the person who meets it: what happened, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[error("{message}")]
// Messages begin in lower case, because others may be put before them; see [`sentence`].
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::Family(_)
            | EngineError::UnsupportedModel { .. }
            | EngineError::Weights(_)
            | EngineError::Source(_) => FailureKind::CorruptModel,
            // Another executor has room for what one graphics device cannot bind.
            EngineError::NoAdapter { .. } | EngineError::NoRoom(Shortage::Matrix { .. }) => {
                FailureKind::NoWebGpu
            }
            EngineError::DeviceLost { .. } => FailureKind::DeviceLost,
            EngineError::OutOfMemory { .. } => FailureKind::OutOfMemory,
            EngineError::WrongNumbers { .. } => FailureKind::WrongNumbers,
            EngineError::ContextFull { .. } => FailureKind::ContextFull,
            EngineError::Plan(_)
            | EngineError::Sampler(_)
            | EngineError::NoSuchToken { .. }
            | EngineError::TooManyDirections { .. }
            | EngineError::NoRoom(Shortage::Total { .. })
            | EngineError::Usage(_) => FailureKind::Usage,
            _ => FailureKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Engine(error) => error.into(),
            other => Self::usage(other.to_string()),
        }
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

failures!(FailureKind::CorruptModel => ConfigError, SourceError, WeightError, TokenizerError, ManifestError, ConvertError);
failures!(FailureKind::Usage => ChatError, NamedPlanError, VectorFileError, PlanError, LinkError, RecipeError, TraitPackError, RecordError, ControlVectorError, ControlError, BaselineError, PushError, SamplerError, ExtractError, VectorMakingError, CalibrationError, ContrastError, ReplayError, DatasetError, AdapterError);

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
        let spelt = |kind: FailureKind| serde_json::to_value(kind).unwrap();
        assert_eq!(spelt(FailureKind::NoWebGpu), "no-webgpu");
        assert_eq!(spelt(FailureKind::OutOfMemory), "out-of-memory");
        let lost = EngineError::DeviceLost {
            reason: "gone".into(),
        };
        assert_eq!(Failure::from(lost).kind, FailureKind::DeviceLost);
        // The page offers the processor for the one, and no remedy that would not help for the other.
        let matrix = Shortage::Matrix {
            name: "head".into(),
            needed: 2,
            most: 1,
        };
        let total = Shortage::Total {
            needed: 2,
            there: 1,
        };
        let kind = |shortage| Failure::from(EngineError::from(shortage)).kind;
        assert_eq!(kind(matrix), FailureKind::NoWebGpu);
        assert_eq!(kind(total), FailureKind::Usage);
    }
}
