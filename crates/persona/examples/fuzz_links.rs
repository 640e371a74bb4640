//! Opens mutated and random links for as long as asked, and says what it found: panics, recipes that do
//! not come back as they were, and what the worst input cost. `cargo xtask fuzz` runs it.
//!
//! Usage: `fuzz_links SECONDS SEED FOLDER-FOR-FINDINGS LINK-FILE…`; the files are golden links.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::deflate::compress_to_vec;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use trimtab_persona::recipe::link::{LinkContent, LinkError, decode, encode, json_of};
use trimtab_testing::fuzzing::{Arguments, Bounds, Counting, Fuzzing, Outcome, Random, damage};

const BOUNDS: Bounds = Bounds {
    bytes: 64 << 20,
    time: Duration::from_millis(500),
};
/// Of this many recipes that open, one is encoded again, which is slow.
const ENCODE_ONE_OF: usize = 256;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A golden link at each of its layers.
struct Seed {
    code: String,
    deflated: Vec<u8>,
    json: Vec<u8>,
    value: Value,
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read() else {
        eprintln!("usage: fuzz_links SECONDS SEED FOLDER LINK-FILE…");
        return ExitCode::FAILURE;
    };
    let files = arguments.files.iter();
    let seeds: Vec<Seed> = files.filter_map(|path| read_seed(path)).collect();
    if seeds.is_empty() {
        eprintln!("no golden link was found to start from");
        return ExitCode::FAILURE;
    }
    let mut random = Random(arguments.seed);
    let mut fuzzing = Fuzzing::start(arguments.folder, BOUNDS);
    let mut sound = 0;
    while fuzzing.seconds() < f64::from(arguments.seconds) {
        let link = mutate(&seeds, &mut random);
        fuzzing.open(link.as_bytes(), || open(&link, &mut sound));
    }
    fuzzing.finish("links", seeds.len())
}

/// The field `link` of a golden file.
fn read_seed(path: &Path) -> Option<Seed> {
    let file: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let code = file.get("link")?.as_str()?.to_owned();
    let json = json_of(&code).ok()?;
    Some(Seed {
        deflated: URL_SAFE_NO_PAD.decode(&code).ok()?,
        value: serde_json::from_slice(&json).ok()?,
        code,
        json,
    })
}

fn mutate(seeds: &[Seed], random: &mut Random) -> String {
    let seed = &seeds[random.below(seeds.len())];
    let other = &seeds[random.below(seeds.len())];
    let packed = |json: &[u8]| URL_SAFE_NO_PAD.encode(compress_to_vec(json, 1));
    match random.below(16) {
        0 => {
            let bytes: Vec<u8> = (0..random.below(300))
                .map(|_| random.number() as u8)
                .collect();
            match random.below(3) {
                0 => String::from_utf8_lossy(&bytes).into_owned(),
                1 => URL_SAFE_NO_PAD.encode(bytes),
                _ => packed(&bytes),
            }
        }
        1 => {
            let mut text = seed.code.clone().into_bytes();
            damage(&mut text, other.code.as_bytes(), random);
            String::from_utf8_lossy(&text).into_owned()
        }
        2 | 3 => {
            let mut bytes = seed.deflated.clone();
            damage(&mut bytes, &other.deflated, random);
            URL_SAFE_NO_PAD.encode(bytes)
        }
        4..=7 => {
            let mut bytes = seed.json.clone();
            damage(&mut bytes, &other.json, random);
            packed(&bytes)
        }
        _ => {
            let mut value = seed.value.clone();
            for _ in 0..=random.below(3) {
                change(&mut value, &other.value, random);
            }
            packed(&serde_json::to_vec(&value).unwrap_or_default())
        }
    }
}

/// Puts something else in one random place of a JSON value.
fn change(value: &mut Value, other: &Value, random: &mut Random) {
    let descend = random.below(8) > 0;
    match value {
        Value::Object(map) if descend && !map.is_empty() => {
            let key = map
                .keys()
                .nth(random.below(map.len()))
                .cloned()
                .unwrap_or_default();
            match random.below(12) {
                0 => drop(map.remove(&key)),
                1 => {
                    let names = [
                        "__proto__",
                        "constructor",
                        "version",
                        "run",
                        "ids",
                        "layers",
                        "",
                    ];
                    map.insert(random.one_of(&names).to_owned(), odd(random));
                }
                _ => {
                    let there = other.get(&key).unwrap_or(&Value::Null).clone();
                    match map.get_mut(&key) {
                        Some(place) if random.below(8) == 0 => *place = there,
                        Some(place) => change(place, &there, random),
                        None => {}
                    }
                }
            }
        }
        Value::Array(list) if descend && !list.is_empty() => {
            let at = random.below(list.len());
            match random.below(6) {
                0 => drop(list.remove(at)),
                1 => {
                    let copies = random.one_of(&[1, 2, 30, 300]);
                    let copy = list[at].clone();
                    list.extend(std::iter::repeat_n(copy, copies));
                }
                _ => change(&mut list[at], other.get(at).unwrap_or(&Value::Null), random),
            }
        }
        Value::String(text) if descend && !text.is_empty() => {
            let mut bytes = std::mem::take(text).into_bytes();
            damage(
                &mut bytes,
                other.as_str().unwrap_or_default().as_bytes(),
                random,
            );
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => *value = odd(random),
    }
}

fn odd(random: &mut Random) -> Value {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        255.0,
        256.0,
        65_536.0,
        4_294_967_295.0,
        1e9,
        -1e9,
        1e38,
        1e300,
        5e-324,
    ];
    let texts = [
        "",
        "A",
        "_",
        "\u{0}",
        "\u{1f30a}",
        "user",
        "assistant",
        "__proto__",
        "9999",
        "____________",
    ];
    match random.below(8) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::from(random.number()),
        3 => Value::from(-i64::from(random.number())),
        4 => Value::from(random.one_of(&numbers)),
        5 => Value::from(random.one_of(&texts)),
        6 => Value::from("_".repeat(random.one_of(&[1, 100, 10_000]))),
        _ => Value::Array(vec![
            Value::from(random.number() % 300);
            random.one_of(&[0, 1, 2, 7, 3_000])
        ]),
    }
}

fn open(link: &str, sound: &mut usize) -> Outcome {
    let recipe = match decode(link) {
        Err(error) => return Outcome::Refused(kind(&error).into()),
        Ok(LinkContent::Newer(_)) => return Outcome::Refused("of a newer version".into()),
        Ok(LinkContent::Recipe(recipe)) => recipe,
    };
    *sound += 1;
    if !sound.is_multiple_of(ENCODE_ONE_OF) {
        return Outcome::Opened;
    }
    match encode(&recipe).and_then(|again| decode(&again)) {
        Ok(LinkContent::Recipe(again)) if again == recipe => Outcome::Opened,
        _ => Outcome::Wrong("round-trip"),
    }
}

fn kind(error: &LinkError) -> &'static str {
    match error {
        LinkError::Nothing => "nothing there",
        LinkError::TooLong => "too long",
        LinkError::Alphabet { .. } => "not base64url",
        LinkError::Damaged => "cut short or damaged",
        LinkError::Bomb => "inflates too far",
        LinkError::Json(_) => "not the JSON of a recipe",
        LinkError::Version(_) => "no version",
        LinkError::Recipe(_) => "a recipe that is not sound",
        LinkError::TooLarge { .. } => "too large to share",
    }
}
