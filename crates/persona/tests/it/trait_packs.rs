//! The trait packs of `models/traits`, and the schema beside them.

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;
use trimtab_persona::neutral;
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, TraitPack, TraitPackError};
use trimtab_testing::files::repository;

const READY_MADE: [&str; 12] = [
    "apathetic",
    "cheerful",
    "confident",
    "formal",
    "humorous",
    "impolite",
    "making-things-up",
    "optimistic",
    "poetic",
    "simple",
    "sycophantic",
    "villainous",
];

/// Their vectors were made from these very words, before the two limits on wording below; another wording needs
/// other vectors.
const WORDED_EARLIER: [&str; 3] = ["cheerful", "poetic", "villainous"];

fn worded_since() -> impl Iterator<Item = (&'static String, &'static TraitPack)> {
    PACKS
        .iter()
        .filter(|(name, _)| !WORDED_EARLIER.contains(&name.as_str()))
}

fn folder() -> PathBuf {
    repository().join("models/traits")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.json"))).unwrap()
}

static PACKS: LazyLock<BTreeMap<String, TraitPack>> = LazyLock::new(|| {
    let entries = std::fs::read_dir(folder()).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "schema")
        .map(|name| {
            let pack = TraitPack::parse(&read(&name));
            let pack = pack.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, pack)
        })
        .collect()
});

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_slice(&read("schema")).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

#[test]
fn there_are_twelve_of_the_usual_size() {
    let names: Vec<&str> = PACKS.keys().map(String::as_str).collect();
    assert_eq!(names, READY_MADE);
    for (name, pack) in &*PACKS {
        assert_eq!(&pack.name, name);
        assert_eq!(pack.licence, "CC0-1.0");
        let counts = (
            pack.instructions.len(),
            pack.questions.extraction.len(),
            pack.questions.evaluation.len(),
        );
        assert_eq!(counts, (5, 20, 40), "{name}");
    }
}

/// A longer system prompt on one side would be a difference of its own.
#[test]
fn both_sides_of_a_pair_are_about_as_long() {
    for (name, pack) in worded_since() {
        for pair in &pack.instructions {
            let (one, other) = (pair.positive.len(), pair.negative.len());
            assert!(
                one.max(other) * 5 <= one.min(other) * 6,
                "{name}: {one} against {other} characters: {}",
                pair.positive
            );
        }
    }
}

/// The words that a question is about, without those of its frame.
fn subject(question: &str) -> BTreeSet<String> {
    const FRAME: &str = "about could describe does from have into like make made people please should some \
        something tell that them there they think this what when where which will with would your";
    question
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 3 && !FRAME.split_whitespace().any(|frame| frame == *word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn questions_are_short_and_the_halves_ask_about_different_things() {
    assert_eq!(
        subject("What do you think about the weather today?"),
        subject("Describe the WEATHER today!")
    );
    for (name, pack) in worded_since() {
        let (extraction, evaluation) = (&pack.questions.extraction, &pack.questions.evaluation);
        for question in extraction.iter().chain(evaluation) {
            let words = question.split_whitespace().count();
            assert!((6..=20).contains(&words), "{name}: {question}");
            assert!(
                !neutral::QUESTIONS.contains(&question.as_str()),
                "{name}: calibration asks \"{question}\" too"
            );
        }
        for one in extraction {
            for other in evaluation {
                let (a, b) = (subject(one), subject(other));
                let (shared, all) = (a.intersection(&b).count(), a.union(&b).count());
                assert!(
                    2 * shared < all || shared == 0,
                    "{name}: \"{one}\" is nearly \"{other}\""
                );
            }
        }
    }
}

#[test]
fn the_schema_accepts_every_ready_made_pack() {
    for name in READY_MADE {
        let value: Value = serde_json::from_slice(&read(name)).unwrap();
        if let Err(error) = SCHEMA.validate(&value) {
            panic!("{name}: {} {error}", error.instance_path());
        }
    }
}

/// Whether schema and code say the same of `value`; what only the code can know is left out.
fn agree(value: &Value) -> Result<bool, String> {
    let by_schema = SCHEMA.is_valid(value);
    match (TraitPack::parse(value.to_string().as_bytes()), by_schema) {
        (Ok(_), true) => Ok(true),
        (Err(TraitPackError::Repeated { .. } | TraitPackError::TooLarge { .. }), _) => Ok(false),
        (Err(_), false) => Ok(false),
        (Ok(_), false) => Err(format!("only the schema refuses {value}")),
        (Err(error), true) => Err(format!("only the code refuses: {error}: {value}")),
    }
}

fn cheerful() -> Value {
    serde_json::from_slice(&read("cheerful")).unwrap()
}

/// Every place of a pack, as a JSON pointer; of long lists the first two entries.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                places(inner, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (i, inner) in list.iter().take(2).enumerate() {
                places(inner, &format!("{at}/{i}"), found);
            }
        }
        _ => {}
    }
}

/// At the very bounds, in every place: one more is refused by both, one fewer accepted by both.
#[test]
fn schema_and_code_have_the_same_bounds() {
    let mut found = Vec::new();
    places(&cheerful(), "", &mut found);
    assert!(found.contains(&"/questions/evaluation/1".to_owned()));
    let mut accepted = BTreeSet::new();
    for place in &found {
        let text = |length: usize| json!("x".repeat(length));
        let texts = |count: usize| json!((0..count).map(|i| format!("{i}?")).collect::<Vec<_>>());
        let pairs = |count: usize| {
            let pair = |i| json!({"positive": format!("p{i}"), "negative": format!("n{i}")});
            Value::Array((0..count).map(pair).collect())
        };
        let lengths = [0, 1, 40, 41, 100, 101, 500, 501, 1_000, 1_001].map(text);
        let counts = [0, 1, 2, 100, 101];
        let other = [json!(null), json!(1), json!({}), json!([]), json!([[], []])];
        let values = lengths
            .into_iter()
            .chain(counts.map(texts))
            .chain(counts.map(pairs))
            .chain(other);
        for put in values {
            let mut value = cheerful();
            *value.pointer_mut(place).unwrap() = put.clone();
            if agree(&value).unwrap_or_else(|reason| panic!("{place}: {reason}")) {
                let size = put.as_str().map(str::len).or(put.as_array().map(Vec::len));
                accepted.insert((place.as_str(), size));
            }
        }
    }
    for (place, most) in [
        ("/name", 40),
        ("/opposite", 100),
        ("/description", 500),
        ("/licence", 100),
        ("/instructions", 100),
        ("/instructions/0/negative", 1_000),
        ("/questions/evaluation", 100),
        ("/questions/extraction/1", 1_000),
    ] {
        let largest = accepted.iter().filter(|(at, _)| *at == place).max();
        assert_eq!(largest, Some(&(place, Some(most))));
    }
}

#[test]
fn schema_and_code_agree_on_every_character() {
    let all = (0..=0x3100_u32).chain([0xfeff, 0xfffd, 0x1_f408, 0x10_ffff]);
    for c in all.filter_map(char::from_u32) {
        for text in [format!("{c}"), format!("a{c}b")] {
            let places = ["/questions/evaluation/0", "/name"];
            for place in places.iter().take(if c.is_ascii() { 2 } else { 1 }) {
                let mut value = cheerful();
                *value.pointer_mut(place).unwrap() = json!(text);
                agree(&value).unwrap();
            }
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-z0-9-]{0,45}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            "[a-z]{1,10}",
            "name|positive|negative|extraction|evaluation"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// A pack with something else in one place, or with one entry more or fewer.
    #[test]
    fn schema_and_code_accept_the_same(
        place in any::<prop::sample::Index>(),
        put in any_json(),
        key in "[a-z]{1,10}|name|positive|extraction",
        how in 0..3,
    ) {
        let mut value = cheerful();
        let mut found = Vec::new();
        places(&value, "", &mut found);
        let at = value.pointer_mut(place.get(&found).as_str()).unwrap();
        match (how, at) {
            (1, Value::Object(map)) => {
                map.insert(key, put);
            }
            (1, Value::Array(list)) => list.push(put),
            (2, Value::Object(map)) => {
                let name = map.keys().next().cloned().unwrap();
                map.remove(&name);
            }
            (2, Value::Array(list)) => {
                list.pop();
            }
            (_, at) => *at = put,
        }
        prop_assert!(agree(&value).is_ok(), "{:?}", agree(&value));
    }
}

#[test]
fn the_schema_says_how_long_a_file_may_be() {
    let text = String::from_utf8(read("schema")).unwrap();
    assert!(text.contains(&format!("at most {MAX_PACK_BYTES} bytes")));
}
