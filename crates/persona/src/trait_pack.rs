//! Trait packs: `models/traits/NAME.json`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use trimtab_checkpoint::text::as_utf8;
use ts_rs::TS;

/// Largest trait pack read, in bytes.
pub const MAX_PACK_BYTES: usize = 256 << 10;
/// Longest instruction or question, in characters.
pub const MAX_TEXT_CHARS: usize = 1_000;
/// Longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 500;
/// Longest opposite and longest licence, in characters.
pub const MAX_LABEL_CHARS: usize = 100;
/// Maximum number of instruction pairs, and of questions in one half.
pub const MAX_ENTRIES: usize = 100;
/// Fewest instruction pairs: a response is judged by the pairs that did not make it.
pub const MIN_PAIRS: usize = 2;

/// A named character trait: what to tell the model so that it shows the trait or its opposite, and
/// questions that draw it out. The layout follows the persona vectors paper (arXiv 2507.21509,
/// section 2.1): 5 pairs of instructions, 20 questions to extract from and 20 to evaluate on.
/// `models/traits/schema.json` says the same to editors and other programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct TraitPack {
    /// `cheerful`; lower-case letters, digits and hyphens.
    pub name: String,
    /// `gloomy`
    pub opposite: String,
    pub description: String,
    /// At least [`MIN_PAIRS`].
    pub instructions: Vec<InstructionPair>,
    pub questions: Questions,
    /// SPDX expression, or its `NOASSERTION` where nobody has said.
    pub licence: String,
}

/// Two system prompts: one asks for the trait, one for its opposite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct InstructionPair {
    pub positive: String,
    pub negative: String,
}

/// No question is in both halves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct Questions {
    pub extraction: Vec<String>,
    pub evaluation: Vec<String>,
}

/// Fields are named as in `questions.evaluation[3]`, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraitPackError {
    #[error("the trait pack is {bytes} bytes long, more than the {MAX_PACK_BYTES} that are read")]
    TooLarge { bytes: usize },
    #[error("the trait pack is not JSON: {0}")]
    Json(String),
    #[error("{field}: {reason}")]
    Field { field: String, reason: String },
    #[error("{field}: says the same as {earlier}; write something else, or remove one of the two")]
    Repeated { field: String, earlier: String },
}

impl TraitPack {
    /// Parses and checks the bytes of a pack. Errors name the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, TraitPackError> {
        if bytes.len() > MAX_PACK_BYTES {
            return Err(TraitPackError::TooLarge { bytes: bytes.len() });
        }
        let bytes = &*as_utf8(bytes);
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let pack: Self = serde_path_to_error::deserialize(&mut json).map_err(wrong_field)?;
        json.end().map_err(not_json)?;
        refuse_lists_for_objects(&serde_json::from_slice(bytes).map_err(not_json)?)?;
        pack.check()?;
        Ok(pack)
    }

    /// Checks lengths, counts, characters and repetitions.
    pub fn check(&self) -> Result<(), TraitPackError> {
        if !is_plain_name(&self.name) {
            return Err(refuse(
                "name",
                "must be 1 to 40 lower-case letters, digits and hyphens, a letter first",
            ));
        }
        check_text("opposite", &self.opposite, MAX_LABEL_CHARS)?;
        check_text("description", &self.description, MAX_DESCRIPTION_CHARS)?;
        check_text("licence", &self.licence, MAX_LABEL_CHARS)?;
        check_count("instructions", self.instructions.len(), MIN_PAIRS)?;
        check_count("questions.extraction", self.questions.extraction.len(), 1)?;
        check_count("questions.evaluation", self.questions.evaluation.len(), 1)?;

        let mut names = DistinctTexts::default();
        names.add("name", &self.name)?;
        names.add("opposite", &self.opposite)?;
        let mut instructions = DistinctTexts::default();
        for (i, pair) in self.instructions.iter().enumerate() {
            for (side, text) in [("positive", &pair.positive), ("negative", &pair.negative)] {
                let field = format!("instructions[{i}].{side}");
                check_text(&field, text, MAX_TEXT_CHARS)?;
                instructions.add(&field, text)?;
            }
        }
        let mut questions = DistinctTexts::default();
        for (half, texts) in [
            ("extraction", &self.questions.extraction),
            ("evaluation", &self.questions.evaluation),
        ] {
            for (i, text) in texts.iter().enumerate() {
                let field = format!("questions.{half}[{i}]");
                check_text(&field, text, MAX_TEXT_CHARS)?;
                questions.add(&field, text)?;
            }
        }
        Ok(())
    }
}

/// True if `name` can name a trait, a file and a slider: 1 to 40 lower-case ASCII letters, digits
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

/// Texts by their words, each with its field. Two that differ only in letter case, spaces and
/// punctuation are the same: a question in both halves would judge a trait on what made it, and so
/// would an instruction in two pairs.
#[derive(Default)]
struct DistinctTexts(BTreeMap<String, String>);

impl DistinctTexts {
    fn add(&mut self, field: &str, text: &str) -> Result<(), TraitPackError> {
        let words: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        // Signs and pictures without a word are compared as they are.
        let key = if words.is_empty() {
            text.trim().to_owned()
        } else {
            words.join(" ")
        };
        if let Some(earlier) = self.0.get(&key) {
            return Err(TraitPackError::Repeated {
                field: field.to_owned(),
                earlier: earlier.clone(),
            });
        }
        self.0.insert(key, field.to_owned());
        Ok(())
    }
}

/// Serde also reads a struct from a list, by position; a pack is written with names.
fn refuse_lists_for_objects(pack: &Value) -> Result<(), TraitPackError> {
    let object = |field: &str, value: &Value| {
        if value.is_object() {
            Ok(())
        } else {
            Err(refuse(field, "must be an object with named entries"))
        }
    };
    object(WHOLE, pack)?;
    object("questions", &pack["questions"])?;
    let pairs = pack["instructions"].as_array().into_iter().flatten();
    for (i, pair) in pairs.enumerate() {
        object(&format!("instructions[{i}]"), pair)?;
    }
    Ok(())
}

/// Name by which an error calls the pack itself.
const WHOLE: &str = "the trait pack";

fn wrong_field(error: serde_path_to_error::Error<serde_json::Error>) -> TraitPackError {
    let path = error.path().to_string();
    let cause = error.into_inner();
    if cause.is_data() {
        let field = if path == "." { WHOLE } else { &path };
        refuse(field, &cause.to_string())
    } else {
        not_json(cause)
    }
}

fn not_json(error: serde_json::Error) -> TraitPackError {
    TraitPackError::Json(error.to_string())
}

fn refuse(field: &str, reason: &str) -> TraitPackError {
    TraitPackError::Field {
        field: field.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Control characters, line breaks among them, and those that reorder the text around them: with
/// them, what a person sees is not what the model reads.
fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(crate) fn check_text(field: &str, text: &str, most: usize) -> Result<(), TraitPackError> {
    if text.trim().is_empty() {
        return Err(refuse(field, "is empty; write something"));
    }
    let length = text.chars().count();
    if length > most {
        return Err(refuse(
            field,
            &format!("is {length} characters long, at most {most} are allowed"),
        ));
    }
    if let Some(unseen) = text.chars().find(|&c| is_unseen(c)) {
        return Err(refuse(
            field,
            &format!(
                "contains the invisible character U+{:04X}; keep it to one line of plain text",
                u32::from(unseen)
            ),
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
    use serde_json::json;

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

    /// What is said of the sample once it is spoilt.
    fn message(spoil: fn(&mut TraitPack)) -> String {
        let mut pack = sample();
        spoil(&mut pack);
        let bytes = serde_json::to_vec(&pack).unwrap();
        TraitPack::parse(&bytes).unwrap_err().to_string()
    }

    /// What is said of the sample's JSON once it is spoilt.
    fn message_of_json(spoil: fn(&mut Value)) -> String {
        let mut value = serde_json::to_value(sample()).unwrap();
        spoil(&mut value);
        TraitPack::parse(value.to_string().as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_pack_survives_its_own_json() {
        let bytes = serde_json::to_vec(&sample()).unwrap();
        assert_eq!(TraitPack::parse(&bytes).unwrap(), sample());
        let marked = [b"\xef\xbb\xbf", bytes.as_slice()].concat();
        assert_eq!(TraitPack::parse(&marked).unwrap(), sample());
    }

    #[test]
    fn errors_name_the_field() {
        for (message, start) in [
            (message(|p| p.name = "../up".into()), "name: must be"),
            (message(|p| p.name = "n".repeat(41)), "name: must be"),
            (
                message(|p| p.opposite = "o".repeat(101)),
                "opposite: is 101",
            ),
            (
                message(|p| p.description = "d".repeat(501)),
                "description: is 501",
            ),
            (message(|p| p.licence = "\t".into()), "licence: is empty"),
            (
                message(|p| p.instructions[1].negative = " ".into()),
                "instructions[1].negative: is empty",
            ),
            (
                message(|p| p.instructions.truncate(1)),
                "instructions: has 1 entries, at least 2",
            ),
            (
                message(|p| p.questions.evaluation[2] = "x".repeat(1_001)),
                "questions.evaluation[2]: is 1001 characters",
            ),
            (
                message(|p| p.questions.extraction.clear()),
                "questions.extraction: has 0 entries, at least 1",
            ),
            (
                message(|p| p.questions.evaluation = (0..101).map(|i| format!("{i}?")).collect()),
                "questions.evaluation: has 101 entries, at most 100",
            ),
        ] {
            assert!(message.starts_with(start), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_refused_and_other_scripts_are_not() {
        for unseen in [
            "\n", "\0", "\u{7f}", "\u{9b}", "\u{2028}", "\u{202e}", "\u{2066}",
        ] {
            let mut pack = sample();
            pack.questions.extraction[1] = format!("Who is{unseen} there?");
            let error = pack.check().unwrap_err().to_string();
            assert!(
                error.starts_with("questions.extraction[1]: contains"),
                "{error}"
            );
        }
        let mut pack = sample();
        pack.questions.extraction[1] = "Was heißt 猫, und was قطة? 🐈\u{200d}⬛".into();
        pack.check().unwrap();
    }

    #[test]
    fn repetitions_name_both_places() {
        assert_eq!(
            message(|p| p.questions.evaluation[0] = "  FIRST question... 2 ".into()),
            "questions.evaluation[0]: says the same as questions.extraction[2]; write something else, or remove one of the two"
        );
        for (message, start) in [
            (
                message(|p| p.instructions[0].negative = p.instructions[0].positive.clone()),
                "instructions[0].negative: says the same as instructions[0].positive",
            ),
            (
                message(|p| p.instructions[1].positive = p.instructions[0].positive.clone()),
                "instructions[1].positive: says the same as instructions[0].positive",
            ),
            (
                message(|p| p.opposite = "Warm!".into()),
                "opposite: says the same as name",
            ),
        ] {
            assert!(message.starts_with(start), "{message}");
        }
        let mut pack = sample();
        pack.questions.extraction[0] = "?!".into();
        pack.questions.evaluation[0] = "?".into();
        pack.check().unwrap();
    }

    #[test]
    fn missing_unknown_and_mistyped_fields_are_named() {
        for (message, start, part) in [
            (
                message_of_json(|v| *v = json!({"name": "warm"})),
                "the trait pack: ",
                "missing field `opposite`",
            ),
            (
                message_of_json(|v| v["surprise"] = json!(1)),
                "surprise: ",
                "unknown field `surprise`",
            ),
            (
                message_of_json(|v| v["questions"]["more"] = json!(1)),
                "questions.more: ",
                "unknown field `more`",
            ),
            (
                message_of_json(|v| v["questions"]["evaluation"][2] = json!(7)),
                "questions.evaluation[2]: ",
                "expected a string",
            ),
            (
                message_of_json(|v| v["instructions"][1]["negative"] = Value::Null),
                "instructions[1].negative: ",
                "expected a string",
            ),
            (
                message_of_json(|v| v["instructions"][1] = json!(["Be.", "Do not be."])),
                "instructions[1]: ",
                "must be an object",
            ),
            (
                message_of_json(|v| v["questions"] = json!([["A?"], ["B?"]])),
                "questions: ",
                "must be an object",
            ),
        ] {
            assert!(
                message.starts_with(start) && message.contains(part),
                "{message}"
            );
        }
    }

    #[test]
    fn broken_json_is_called_that() {
        let whole = sample_text();
        let cut = TraitPack::parse(&whole.as_bytes()[..whole.len() / 2]).unwrap_err();
        assert!(matches!(cut, TraitPackError::Json(_)), "{cut}");
        let more = TraitPack::parse(format!("{whole}{{}}").as_bytes()).unwrap_err();
        assert!(matches!(more, TraitPackError::Json(_)), "{more}");
        let twice = whole.replacen('{', r#"{"name":"warm","#, 1);
        let twice = TraitPack::parse(twice.as_bytes()).unwrap_err().to_string();
        assert!(twice.contains("duplicate field `name`"), "{twice}");
    }

    #[test]
    fn a_huge_pack_is_refused_before_it_is_parsed() {
        let error = TraitPack::parse(&vec![b' '; MAX_PACK_BYTES + 1]).unwrap_err();
        assert!(matches!(error, TraitPackError::TooLarge { .. }));
    }

    fn sample_text() -> String {
        serde_json::to_string(&sample()).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_pack_or_an_error(text in ".{0,200}") {
            let _ = TraitPack::parse(text.as_bytes());
        }

        #[test]
        fn a_damaged_pack_gives_a_pack_that_passes_or_an_error(
            at in 0_usize..2_000,
            cut in 0_usize..40,
            put in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ) {
            let mut bytes = sample_text().into_bytes();
            let at = at % bytes.len();
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
            if let Ok(pack) = TraitPack::parse(&bytes) {
                proptest::prop_assert_eq!(pack.check(), Ok(()));
            }
        }
    }
}
