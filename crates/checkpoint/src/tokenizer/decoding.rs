//! How tokens become a text again: `decoder` of a `tokenizer.json`.

use super::byte_level;
use super::component::Component;
use super::pattern::Pattern;
use super::splitting::metaspace;
use serde_json::Value;
use tokenizers::Decoder;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::pattern::Pattern as _;
use tokenizers::pre_tokenizers::metaspace::Metaspace;

pub(super) struct Decoding {
    /// Without a decoder tokens stand apart.
    steps: Option<Vec<Step>>,
    pub byte_level: bool,
}

enum Step {
    ByteLevel,
    ByteFallback(ByteFallback),
    Metaspace(Metaspace),
    Fuse,
    Replace {
        pattern: Pattern,
        content: String,
    },
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
}

impl Decoding {
    /// # Errors
    /// Names what only the program knows.
    pub fn new(decoder: &Value) -> Result<Self, String> {
        let steps = Component::list("decoder", decoder, "decoders")?
            .into_iter()
            .map(|component| {
                Ok(match component.kind {
                    "ByteLevel" => Step::ByteLevel,
                    "ByteFallback" => Step::ByteFallback(ByteFallback::new()),
                    "Metaspace" => Step::Metaspace(metaspace(component)?),
                    "Fuse" => Step::Fuse,
                    "Replace" => Step::Replace {
                        pattern: Pattern::of(component)?,
                        content: component.text("content")?.to_owned(),
                    },
                    "Strip" => Step::Strip {
                        content: component.character("content")?,
                        start: component.count("start")?,
                        stop: component.count("stop")?,
                    },
                    _ => return Err(component.unknown()),
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self {
            byte_level: matches!(steps[..], [Step::ByteLevel]),
            steps: (!decoder.is_null()).then_some(steps),
        })
    }

    /// # Errors
    /// None that are known; the library's decoders may have some.
    pub fn text(&self, mut tokens: Vec<String>) -> Result<String, tokenizers::Error> {
        let Some(steps) = &self.steps else {
            return Ok(tokens.join(" "));
        };
        for step in steps {
            tokens = step.decode(tokens)?;
        }
        Ok(tokens.concat())
    }
}

impl Step {
    fn decode(&self, tokens: Vec<String>) -> Result<Vec<String>, tokenizers::Error> {
        match self {
            Self::ByteLevel => {
                let bytes: Vec<u8> = tokens
                    .iter()
                    .flat_map(|token| byte_level::token_bytes(token))
                    .collect();
                Ok(vec![String::from_utf8_lossy(&bytes).into_owned()])
            }
            Self::ByteFallback(decoder) => decoder.decode_chain(tokens),
            Self::Metaspace(decoder) => decoder.decode_chain(tokens),
            Self::Fuse => Ok(vec![tokens.concat()]),
            Self::Replace { pattern, content } => tokens
                .iter()
                .map(|token| {
                    let parts = pattern.find_matches(token)?.into_iter();
                    let parts = parts.map(|((start, end), found)| match found {
                        true => content.as_str(),
                        false => &token[start..end],
                    });
                    Ok(parts.collect())
                })
                .collect(),
            Self::Strip {
                content,
                start,
                stop,
            } => Ok(tokens
                .iter()
                .map(|token| strip(token, *content, *start, *stop).to_owned())
                .collect()),
        }
    }
}

/// Without up to `start` times `content` in front and up to `stop` times behind.
fn strip(token: &str, content: char, start: usize, stop: usize) -> &str {
    let mut rest = token;
    for _ in 0..start {
        match rest.strip_prefix(content) {
            Some(shorter) => rest = shorter,
            None => break,
        }
    }
    for _ in 0..stop {
        match rest.strip_suffix(content) {
            Some(shorter) => rest = shorter,
            None => break,
        }
    }
    rest
}
