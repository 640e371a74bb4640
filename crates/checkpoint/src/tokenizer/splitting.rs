//! Where a text is cut before the model sees it: `pre_tokenizer` of a `tokenizer.json`.

use super::byte_level;
use super::component::Component;
use super::pattern::{GPT_2, Pattern};
use serde_json::Value;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

pub(super) struct Splitting(Vec<Step>);

enum Step {
    Digits(Digits),
    Metaspace(Metaspace),
    Split {
        pattern: Pattern,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    ByteLevel {
        add_prefix_space: bool,
        pattern: Option<Pattern>,
    },
}

impl Splitting {
    /// # Errors
    /// Names what only the program knows.
    pub fn new(pre_tokenizer: &Value) -> Result<Self, String> {
        Component::list("pre_tokenizer", pre_tokenizer, "pretokenizers")?
            .into_iter()
            .map(|component| {
                Ok(match component.kind {
                    "Digits" => Step::Digits(Digits::new(component.flag("individual_digits")?)),
                    "Metaspace" => Step::Metaspace(metaspace(component)?),
                    "Split" => Step::Split {
                        pattern: Pattern::of(component)?,
                        behavior: behavior(component)?,
                        invert: component.flag("invert")?,
                    },
                    "ByteLevel" => Step::ByteLevel {
                        add_prefix_space: component.flag("add_prefix_space")?,
                        pattern: match component.get("use_regex") {
                            Some(Value::Bool(false)) => None,
                            _ => Some(Pattern::expression(GPT_2)?),
                        },
                    },
                    _ => return Err(component.unknown()),
                })
            })
            .collect::<Result<_, String>>()
            .map(Self)
    }

    /// # Errors
    /// None that are known; the library's patterns may have some.
    pub fn cut(&self, text: &mut PreTokenizedString) -> Result<(), tokenizers::Error> {
        for step in &self.0 {
            match step {
                Step::Digits(digits) => digits.pre_tokenize(text)?,
                Step::Metaspace(metaspace) => metaspace.pre_tokenize(text)?,
                Step::Split {
                    pattern,
                    behavior,
                    invert: true,
                } => text.split(|_, part| part.split(Invert(pattern), *behavior))?,
                Step::Split {
                    pattern, behavior, ..
                } => text.split(|_, part| part.split(pattern, *behavior))?,
                Step::ByteLevel {
                    add_prefix_space,
                    pattern,
                } => {
                    text.split(|_, mut part| {
                        if *add_prefix_space && !part.get().starts_with(' ') {
                            part.prepend(" ");
                        }
                        match pattern {
                            Some(pattern) => part.split(pattern, SplitDelimiterBehavior::Isolated),
                            None => Ok(vec![part]),
                        }
                    })?;
                    text.normalize(|part| {
                        byte_level::spell(part);
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn behavior(component: Component) -> Result<SplitDelimiterBehavior, String> {
    use SplitDelimiterBehavior as Behavior;
    Ok(match component.text("behavior")? {
        "Removed" => Behavior::Removed,
        "Isolated" => Behavior::Isolated,
        "MergedWithPrevious" => Behavior::MergedWithPrevious,
        "MergedWithNext" => Behavior::MergedWithNext,
        "Contiguous" => Behavior::Contiguous,
        _ => return Err(component.wrong("has a behavior that there is not")),
    })
}

/// Also the decoder of that name.
pub(super) fn metaspace(component: Component) -> Result<Metaspace, String> {
    let scheme = match component.get("prepend_scheme").and_then(Value::as_str) {
        Some("always") | None => PrependScheme::Always,
        Some("first") => PrependScheme::First,
        Some("never") => PrependScheme::Never,
        Some(_) => return Err(component.wrong("has a prepend_scheme that there is not")),
    };
    let without = component.get("add_prefix_space") == Some(&Value::Bool(false));
    if without && scheme != PrependScheme::Never {
        return Err(component.wrong("has an add_prefix_space that contradicts its prepend_scheme"));
    }
    let split = component.get("split").and_then(Value::as_bool);
    let replacement = component.character("replacement")?;
    Ok(Metaspace::new(replacement, scheme, split.unwrap_or(true)))
}
