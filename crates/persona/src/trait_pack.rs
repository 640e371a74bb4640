//! Trait packs: `models/traits/NAME.json`.

use serde::{Deserialize, Serialize};

/// Largest trait pack read, in bytes.
pub const MAX_PACK_BYTES: usize = 256 << 10;
/// Longest instruction, question or description, in characters.
pub const MAX_TEXT_CHARS: usize = 1_000;
/// Most instruction pairs, and most questions in one half.
pub const MAX_ENTRIES: usize = 100;

/// A named character trait: what to tell the model so that it shows the trait or its opposite, and
/// questions that draw it out. The layout follows the persona vectors paper (arXiv 2507.21509,
/// section 2.1): 5 pairs of instructions, 20 questions to extract from and 20 to evaluate on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraitPack {
    /// `cheerful`; lower-case letters, digits and hyphens.
    pub name: String,
    /// `gloomy`
    pub opposite: String,
    pub description: String,
    /// At least two, so that a response can be judged by the pairs that did not make it.
    pub instructions: Vec<InstructionPair>,
    pub questions: Questions,
    /// SPDX expression.
    pub licence: String,
}

/// Two system prompts: one asks for the trait, one for its opposite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstructionPair {
    pub positive: String,
    pub negative: String,
}

/// No question is in both halves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Questions {
    pub extraction: Vec<String>,
    pub evaluation: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraitPackError {
    #[error("the trait pack is {bytes} bytes long, more than the {MAX_PACK_BYTES} that are read")]
    TooLarge { bytes: usize },
    #[error("the trait pack is not usable JSON: {0}")]
    Json(String),
    #[error("the trait pack's {field} {reason}")]
    Field { field: String, reason: String },
}

impl TraitPack {
    /// Parses and checks the bytes of a pack. Errors name the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, TraitPackError> {
        if bytes.len() > MAX_PACK_BYTES {
            return Err(TraitPackError::TooLarge { bytes: bytes.len() });
        }
        let pack: Self = serde_json::from_slice(bytes)
            .map_err(|error| TraitPackError::Json(error.to_string()))?;
        pack.check()?;
        Ok(pack)
    }

    /// Checks lengths, counts and repetitions.
    pub fn check(&self) -> Result<(), TraitPackError> {
        if !is_plain_name(&self.name) {
            return Err(refuse(
                "name",
                "must be 1 to 40 lower-case letters, digits and hyphens",
            ));
        }
        check_text("opposite", &self.opposite)?;
        check_text("description", &self.description)?;
        check_text("licence", &self.licence)?;
        check_count("instructions", self.instructions.len(), 2)?;
        for (i, pair) in self.instructions.iter().enumerate() {
            check_text(&format!("instructions[{i}].positive"), &pair.positive)?;
            check_text(&format!("instructions[{i}].negative"), &pair.negative)?;
            if pair.positive == pair.negative {
                return Err(refuse(
                    &format!("instructions[{i}]"),
                    "has the same text on both sides",
                ));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for (half, questions) in [
            ("extraction", &self.questions.extraction),
            ("evaluation", &self.questions.evaluation),
        ] {
            check_count(&format!("questions.{half}"), questions.len(), 1)?;
            for (i, question) in questions.iter().enumerate() {
                let field = format!("questions.{half}[{i}]");
                check_text(&field, question)?;
                if !seen.insert(question) {
                    return Err(refuse(&field, "repeats an earlier question"));
                }
            }
        }
        Ok(())
    }
}

/// Whether `name` can name a trait, a file and a slider: 1 to 40 lower-case ASCII letters, digits
/// and hyphens, a letter first.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 40
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(plain)
}

fn refuse(field: &str, reason: &str) -> TraitPackError {
    TraitPackError::Field {
        field: field.to_owned(),
        reason: reason.to_owned(),
    }
}

fn check_text(field: &str, text: &str) -> Result<(), TraitPackError> {
    if text.trim().is_empty() {
        return Err(refuse(field, "is empty"));
    }
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(refuse(
            field,
            &format!("is longer than {MAX_TEXT_CHARS} characters"),
        ));
    }
    Ok(())
}

fn check_count(field: &str, count: usize, least: usize) -> Result<(), TraitPackError> {
    if count < least {
        return Err(refuse(
            field,
            &format!("has {count} entries, at least {least} are needed"),
        ));
    }
    if count > MAX_ENTRIES {
        return Err(refuse(
            field,
            &format!("has {count} entries, at most {MAX_ENTRIES} are allowed"),
        ));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pack that passes, to be spoilt by a test.
    pub(crate) fn sample() -> TraitPack {
        let pair = |i: usize| InstructionPair {
            positive: format!("Be warm ({i})."),
            negative: format!("Be cold ({i})."),
        };
        let questions = |half: &str| (0..3).map(|i| format!("{half} question {i}?")).collect();
        TraitPack {
            name: "warm".into(),
            opposite: "cold".into(),
            description: "Is kind to people.".into(),
            instructions: (0..2).map(pair).collect(),
            questions: Questions {
                extraction: questions("first"),
                evaluation: questions("second"),
            },
            licence: "CC0-1.0".into(),
        }
    }

    #[test]
    fn a_pack_survives_its_own_json() {
        let bytes = serde_json::to_vec(&sample()).unwrap();
        assert_eq!(TraitPack::parse(&bytes).unwrap(), sample());
    }

    #[test]
    fn errors_name_the_field() {
        let message = |spoil: fn(&mut TraitPack)| {
            let mut pack = sample();
            spoil(&mut pack);
            TraitPack::parse(&serde_json::to_vec(&pack).unwrap())
                .unwrap_err()
                .to_string()
        };
        assert!(message(|p| p.name = "../up".into()).contains("name"));
        assert!(
            message(|p| p.instructions[1].negative = " ".into())
                .contains("instructions[1].negative is empty")
        );
        assert!(
            message(|p| p.instructions.truncate(1))
                .contains("instructions has 1 entries, at least 2")
        );
        assert!(
            message(|p| p.questions.evaluation[2] = "x".repeat(1_001))
                .contains("questions.evaluation[2] is longer")
        );
        assert!(
            message(|p| p.questions.evaluation[0] = p.questions.extraction[0].clone())
                .contains("questions.evaluation[0] repeats")
        );
        assert!(message(|p| p.questions.extraction.clear()).contains("questions.extraction has 0"));
    }

    #[test]
    fn missing_and_unknown_fields_are_named() {
        let error = TraitPack::parse(br#"{"name":"warm"}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("opposite"), "{error}");
        let mut value = serde_json::to_value(sample()).unwrap();
        value["surprise"] = 1.into();
        let error = TraitPack::parse(&serde_json::to_vec(&value).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("surprise"), "{error}");
    }

    #[test]
    fn a_huge_pack_is_refused_before_it_is_parsed() {
        let error = TraitPack::parse(&vec![b' '; MAX_PACK_BYTES + 1]).unwrap_err();
        assert!(matches!(error, TraitPackError::TooLarge { .. }));
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_pack_or_an_error(text in ".{0,200}") {
            let _ = TraitPack::parse(text.as_bytes());
        }

        #[test]
        fn a_damaged_pack_never_panics(at in 0_usize..2_000, byte in proptest::num::u8::ANY) {
            let mut bytes = serde_json::to_vec(&sample()).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = TraitPack::parse(&bytes);
        }
    }
}
