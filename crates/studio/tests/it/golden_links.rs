//! Links that were made once: they open for ever, stay small, and replay on every executor. On the
//! default checkpoint; `cargo xtask links` makes missing ones.

use crate::{CPU_EXACT, CPU_FAST, GPU_EXACT, GPU_FAST, Hearing, chat, with_session};
use pollster::block_on;
use serde::Deserialize;
use serde_json::Value;
use trimtab_engine::{Layer, Precision, TokenId};
use trimtab_persona::recipe::agreement::{keep_readings, readings_of_message};
use trimtab_persona::recipe::inline_vector::InlineVector;
use trimtab_persona::recipe::link::{LinkContent, decode, encode, json_of};
use trimtab_persona::recipe::replay::{Replayed, hexadecimal, vectors_of};
use trimtab_persona::recipe::tokens::RecipeToken;
use trimtab_persona::recipe::{Recipe, RecipeTrait, VectorReference};
use trimtab_persona::vector_file::{TraitVector, VectorFile};
use trimtab_studio::jobs::replay;
use trimtab_studio::links::LinkEvent;
use trimtab_studio::session::Session;
use trimtab_studio::verbs::Event;
use trimtab_testing::files::{bytes, golden_json, repository};
use trimtab_testing::full;

/// Both of full size are too long to be replayed in a test; `tests/golden/links/README.md` has its agreement.
const LONG: &str = "two-columns-full-size";

#[derive(Deserialize)]
struct GoldenLink {
    name: String,
}

#[derive(Deserialize)]
struct Golden {
    link: String,
    messages: Vec<GoldenMessage>,
}

/// As it was when the link was made.
#[derive(Deserialize)]
struct GoldenMessage {
    role: String,
    text: String,
    ids: Vec<u32>,
    /// Of the trait and layer looked at, in full; null where there is none.
    readings: Vec<Option<f32>>,
}

fn goldens() -> Vec<(String, Golden)> {
    let wanted: Vec<GoldenLink> = golden_json("links/recipes.json");
    let golden = |wanted: GoldenLink| {
        let golden = golden_json(&format!("links/{}.json", wanted.name));
        (wanted.name, golden)
    };
    wanted.into_iter().map(golden).collect()
}

fn golden(name: &str) -> Golden {
    let found = goldens().into_iter().find(|(other, _)| other == name);
    found.unwrap().1
}

pub fn opened(link: &str) -> Recipe {
    match decode(link).unwrap() {
        LinkContent::Recipe(recipe) => *recipe,
        LinkContent::Newer(newer) => panic!("{}", newer.sentence()),
    }
}

fn ready_made() -> Vec<TraitVector> {
    let folder = repository().join("models/vectors");
    let mut vectors = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            let file = VectorFile::parse(&bytes(&path)).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            vectors.push(file.into_vector(&name, None, 31, 576).unwrap());
        }
    }
    vectors
}

/// The recipe replayed, and which of the engine's directions it looks at.
pub fn replayed(recipe: &Recipe, session: &mut Session) -> (Replayed, Option<usize>) {
    let engine = &mut session.engine;
    let (rows, width) = (engine.layer_rows(), engine.config().hidden_size);
    let vectors = vectors_of(recipe, &ready_made(), rows, width).unwrap();
    let tables: Vec<_> = vectors.iter().map(|vector| vector.table.clone()).collect();
    engine.set_directions(&tables).unwrap();
    let looked = recipe.look.trait_name.as_ref();
    let direction = looked.and_then(|name| recipe.traits.iter().position(|one| one.name == *name));
    let mut last = (0, 1);
    let mut watch = Hearing::new(|event| {
        if let Event::Link(LinkEvent::Replay { done, total }) = event {
            assert!(last.0 < *done);
            last = (*done, *total);
        }
        false
    });
    let run = replay::run(session, recipe, &vectors, &vectors, direction, &mut watch);
    let replayed = block_on(run).unwrap();
    assert!(last.0 <= last.1 && last.0 > last.1 / 2, "{last:?}");
    (replayed, direction)
}

/// Tokens, and how many of them the executor agrees on; largest distance of a reading from the golden
/// one, in deviations.
fn agreement(names: &dyn Fn(&str, &Recipe) -> bool, session: &mut Session) -> (usize, usize, f32) {
    let (mut tokens, mut agreed, mut apart) = (0, 0, 0.0_f32);
    for (name, golden) in goldens() {
        let recipe = opened(&golden.link);
        if name.ends_with("full-size") || !names(&name, &recipe) {
            continue;
        }
        let (replayed, direction) = replayed(&recipe, session);
        assert_eq!(replayed.agreement.same_prompts, Some(true), "{name}");
        let mut worst = 0.0_f32;
        let mut compared = 0;
        for (index, message) in golden.messages.iter().enumerate() {
            let here = readings_of_message(&replayed.answers, &recipe, direction, index);
            assert_eq!(here.len(), message.readings.len(), "{name}");
            for (golden, here) in message.readings.iter().zip(here) {
                assert_eq!(golden.is_none(), here.is_nan(), "{name}");
                worst = worst.max(golden.map_or(0.0, |golden| (golden - here).abs()));
                compared += usize::from(golden.is_some());
            }
        }
        assert!(compared > 0, "{name} has no readings to compare");
        let one = replayed.agreement;
        println!(
            "{name}: {} of {} tokens, readings within {worst:.5}",
            one.agreed, one.tokens
        );
        for answer in &replayed.answers {
            // An author's end is an end here, unless the very last choice differs.
            assert_ne!(answer.ends, Some(false), "{name} would go on");
        }
        (tokens, agreed) = (tokens + one.tokens, agreed + one.agreed);
        apart = apart.max(worst);
    }
    println!("in all: {agreed} of {tokens} tokens, readings within {apart:.5} deviations");
    (tokens, agreed, apart)
}

#[test]
fn every_link_ever_made_opens_and_is_what_it_was() {
    let goldens = goldens();
    assert!(goldens.len() >= 20);
    for (name, golden) in goldens {
        let recipe = opened(&golden.link);
        assert_eq!(recipe.messages.len(), golden.messages.len(), "{name}");
        for (message, golden) in recipe.messages.iter().zip(&golden.messages) {
            assert_eq!(message.role.name(), golden.role, "{name}");
            assert_eq!(message.text, golden.text, "{name}");
            let ids = message.tokens.iter().flatten().map(|token| token.id.0);
            assert_eq!(ids.collect::<Vec<_>>(), golden.ids, "{name}");
        }
        let link = encode(&recipe).unwrap();
        assert_eq!(opened(&link), recipe, "{name} as it is written today");
        // Version 1 is only read.
        let json: Value = serde_json::from_slice(&json_of(&golden.link).unwrap()).unwrap();
        if json["version"] == 2 {
            assert_eq!(link, golden.link, "{name} has one spelling");
        }
    }
}

/// A vector that a link refers to is never taken away: a remade one gets a file of its own.
#[test]
fn every_ready_made_vector_that_a_link_names_is_still_here() {
    let here: Vec<String> = ready_made().into_iter().map(|vector| vector.hash).collect();
    for (name, golden) in goldens() {
        for one in opened(&golden.link).traits {
            if let VectorReference::ReadyMade(hash) = one.vector {
                let hash = hexadecimal(&hash);
                assert!(here.contains(&hash), "{name} needs {} ({hash})", one.name);
            }
        }
    }
}

/// Two exchanges of 15 + 150 tokens in each column with two ready-made traits, and then with a vector inside.
#[test]
fn links_are_short_enough_to_be_sent() {
    let golden = golden(LONG);
    let mut recipe = opened(&golden.link);
    for message in &recipe.messages {
        let beside = message.beside.as_deref();
        let beside = beside.map(|beside| beside.tokens.iter().flatten());
        let tokens = beside.map(|tokens| tokens.filter(|token| token.reading.is_some()).count());
        let answer = message.run.is_some();
        assert_eq!(tokens, answer.then_some(150));
    }
    let other = recipe.other_column().unwrap();
    assert_ne!(other.messages[1].text, recipe.messages[1].text);
    let lengths: Vec<usize> = golden
        .messages
        .iter()
        .map(|message| message.ids.len())
        .collect();
    assert!(lengths[0] >= 15 && lengths[2] >= 15, "{lengths:?}");
    assert_eq!((lengths[1], lengths[3]), (150, 150));
    assert_eq!(recipe.traits.len(), 2);
    let with_readings = |token: &&RecipeToken| token.reading.is_some();
    let readings: usize = recipe
        .messages
        .iter()
        .map(|message| {
            message
                .tokens
                .iter()
                .flatten()
                .filter(with_readings)
                .count()
        })
        .sum();
    assert_eq!(readings, lengths.iter().sum::<usize>());
    let ready = encode(&recipe).unwrap().len();
    println!("two ready-made traits: {ready} characters");
    assert!(ready <= 4_400, "{ready}");

    let villainous = bytes("models/vectors/villainous.safetensors");
    let file = VectorFile::parse(&villainous).unwrap();
    let made = file.metadata.made.clone().unwrap_or_default();
    let vector = file.into_vector("villainous", None, 31, 576).unwrap();
    let mut size_with = |layers: &[u32]| {
        let layers: Vec<Layer> = layers.iter().copied().map(Layer).collect();
        let inline = InlineVector::of(&vector, &layers, &made).unwrap();
        recipe.traits.truncate(2);
        recipe.traits.push(RecipeTrait {
            name: "villainous".into(),
            range: None,
            vector: VectorReference::Inline(Box::new(inline)),
        });
        encode(&recipe).unwrap().len()
    };
    let sizes = [&[16][..], &[16, 17], &[15, 16, 17], &[15, 16, 17, 18]].map(&mut size_with);
    println!("with a third one inside, one to four layers: {sizes:?}");
    assert!(sizes[0] <= 5_600, "{sizes:?}");
    assert!(
        sizes.windows(2).all(|pair| pair[1] - pair[0] <= 850),
        "{sizes:?}"
    );
}

/// The tokens are the author's, also where the tokenizer would make others of the same text.
#[test]
fn the_authors_tokens_are_forced_where_the_tokenizer_would_make_others() {
    let chat = chat();
    let mut recipe = opened(&golden("two-turns").link);
    let first = recipe.messages[1].tokens.as_mut().unwrap();
    // A word cut into single letters.
    let at = first.iter().position(|token| token.text.len() > 4).unwrap();
    let word = first.remove(at).text;
    let letters: Vec<RecipeToken> = word
        .chars()
        .map(|letter| RecipeToken {
            id: chat.encode(&letter.to_string()).unwrap()[0],
            text: letter.to_string(),
            reading: None,
        })
        .collect();
    let spelt: Vec<TokenId> = letters.iter().map(|token| token.id).collect();
    first.splice(at..at, letters);
    recipe.look.token = None;
    assert_ne!(chat.encode(&word).unwrap(), spelt);
    let recipe = opened(&encode(&recipe).unwrap());
    let (replayed, _) = with_session(&CPU_EXACT, |session| replayed(&recipe, session));
    let [one, two] = &replayed.answers[..] else {
        panic!("two answers were replayed as {}", replayed.answers.len());
    };
    assert_eq!(one.answer()[at..at + spelt.len()], spelt);
    // They are also what the second answer went on from.
    let place = two.places[1].clone().unwrap();
    assert_eq!(two.conversation.tokens[place][at..at + spelt.len()], spelt);
    // A model does not write so, and the prompts are no longer those of the link's making.
    assert!(replayed.agreement.agreed < replayed.agreement.tokens);
    assert_eq!(replayed.agreement.same_prompts, Some(false));
    assert!(replayed.agreement.sentence().contains(" of "));
}

#[test]
fn readings_in_a_link_are_those_of_the_replay() {
    let golden = golden("gloomy");
    let recipe = opened(&golden.link);
    let (replayed, direction) = with_session(&CPU_EXACT, |session| replayed(&recipe, session));
    let mut again = recipe.clone();
    keep_readings(&mut again, &replayed.answers, direction);
    assert_eq!(again, recipe);
    assert!(replayed.agreement.readings_apart.unwrap() <= 0.26);
    // In the other column a second question is read after another answer.
    let recipe = opened(&self::golden("two-columns").link);
    let two = with_session(&CPU_EXACT, |session| self::replayed(&recipe, session).0);
    assert!(two.agreement.readings_apart.unwrap() <= 0.26);
}

#[test]
fn exact_recipes_replay_on_the_cpu() {
    let exact = |_: &str, recipe: &Recipe| recipe.precision == Precision::Exact;
    let (tokens, agreed, apart) = with_session(&CPU_EXACT, |session| agreement(&exact, session));
    assert!(tokens > 400, "{tokens}");
    assert!(
        agreed as f64 >= 0.995 * tokens as f64,
        "{agreed} of {tokens}"
    );
    assert!(apart <= 0.01, "{apart}");
}

/// A software adapter is slow: it is asked for one of each precision, for all with `TRIMTAB_FULL` set, as `cargo xtask test --full` does.
fn wanted_of_the_gpu(precision: Precision) -> impl Fn(&str, &Recipe) -> bool {
    let all = full();
    move |name, recipe| {
        recipe.precision == precision && (all || ["segments", "fast-steered"].contains(&name))
    }
}

#[test]
fn exact_recipes_replay_on_the_gpu() {
    let (tokens, agreed, apart) = with_session(&GPU_EXACT, |session| {
        agreement(&wanted_of_the_gpu(Precision::Exact), session)
    });
    assert!(tokens > 15, "{tokens}");
    assert!(
        agreed as f64 >= 0.995 * tokens as f64,
        "{agreed} of {tokens}"
    );
    assert!(apart <= 0.01, "{apart}");
}

#[test]
fn fast_recipes_replay_on_the_cpu() {
    let fast = |_: &str, recipe: &Recipe| recipe.precision == Precision::Fast;
    let (tokens, agreed, _) = with_session(&CPU_FAST, |session| agreement(&fast, session));
    assert!(tokens >= 200, "{tokens}");
    assert!(
        agreed as f64 >= 0.98 * tokens as f64,
        "{agreed} of {tokens}"
    );
}

/// Most were made on the CPU, whose cache and output head round otherwise; `tests/golden/links/README.md` has what is reached.
#[test]
fn fast_recipes_replay_on_the_gpu() {
    let (tokens, agreed, _) = with_session(&GPU_FAST, |session| {
        agreement(&wanted_of_the_gpu(Precision::Fast), session)
    });
    assert!(tokens > 15, "{tokens}");
    assert!(
        agreed as f64 >= 0.95 * tokens as f64,
        "{agreed} of {tokens}"
    );
}
