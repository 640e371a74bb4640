//! What the ready-made lessons quote: each quote against its recipe, and the recipe against the model. On the default
//! checkpoint; `cargo xtask lessons` has the reference executor write all of them again.

use crate::golden_links::{opened, replayed};
use crate::{CPU_EXACT, chat, with_session};
use trimtab_engine::Precision;
use trimtab_persona::recipe::{Recipe, Role};
use trimtab_testing::files::{bytes, repository};

struct Quote {
    lesson: String,
    text: String,
    of: Role,
    recipe: Recipe,
}

/// Quotes are two or three lines of a lesson's file: `- quote:`, perhaps `of:`, and `link:`.
fn quotes() -> Vec<Quote> {
    let mut quotes = Vec::new();
    for entry in std::fs::read_dir(repository().join("web/lessons")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let lesson = path.file_name().unwrap().to_string_lossy().into_owned();
        let file = String::from_utf8(bytes(&path)).unwrap();
        let mut lines = file.lines().map(str::trim);
        while let Some(line) = lines.next() {
            let Some(quote) = line.strip_prefix("- quote: ") else {
                continue;
            };
            let (mut of, mut next) = (Role::Assistant, lines.next().unwrap());
            if let Some(role) = next.strip_prefix("of: ") {
                assert_eq!(role, "question", "{lesson}");
                (of, next) = (Role::User, lines.next().unwrap());
            }
            let link = next.strip_prefix("link: ");
            let link = link.unwrap_or_else(|| panic!("{lesson}: {quote:?} has no link"));
            quotes.push(Quote {
                text: unquoted(quote),
                of,
                recipe: opened(link),
                lesson: lesson.clone(),
            });
        }
    }
    quotes
}

/// A YAML scalar of one line without its quotation marks.
fn unquoted(scalar: &str) -> String {
    match scalar
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        Some(inner) => inner.replace("''", "'"),
        None => scalar.to_owned(),
    }
}

#[test]
fn lessons_quote_what_their_recipes_hold() {
    let tokenizer = chat().tokenizer;
    let quotes = quotes();
    assert!(quotes.len() >= 12, "{}", quotes.len());
    for Quote {
        lesson,
        text,
        of,
        recipe,
    } in &quotes
    {
        let mut messages = recipe.messages.iter();
        let message = messages.find(|message| message.role == *of).unwrap();
        let tokens = message.tokens.iter().flatten();
        let ids: Vec<u32> = tokens.map(|token| token.id.0).collect();
        // An answer that ends inside a character does so without it.
        let spelt = tokenizer.decode(&ids);
        assert_eq!(spelt.trim_end_matches('\u{fffd}'), message.text, "{lesson}");
        assert!(
            message.text.contains(text),
            "{lesson}: {text:?} is not in {:?}",
            message.text
        );
        assert_eq!(recipe.precision, Precision::Exact, "{lesson}");
    }
}

#[test]
fn the_model_writes_what_lessons_quote() {
    with_session(&CPU_EXACT, |session| {
        for Quote {
            lesson,
            text,
            recipe,
            ..
        } in quotes()
        {
            let agreement = replayed(&recipe, session).0.agreement;
            assert_eq!(agreement.same_prompts, Some(true), "{lesson}: {text:?}");
            assert_eq!(agreement.agreed, agreement.tokens, "{lesson}: {text:?}");
        }
    });
}
