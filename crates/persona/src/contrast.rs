//! Contrast sets that somebody else wrote: a file of conversations, each on one side.

use crate::conversation::ChatText;
use crate::extract::{Example, Side};
use serde::Deserialize;
use trimtab_checkpoint::text::as_utf8;
use trimtab_checkpoint::{ChatError, Message};
use trimtab_engine::{EngineError, TokenId};

/// Maximum number of conversations in one set.
pub const MAX_PAIRS: usize = 20_000;
/// Longest conversation in a pairs file, in tokens.
pub const MAX_TOKENS: usize = 131_072;
/// Responses of fewer tokens are no evidence of anything and are left out.
pub const MIN_RESPONSE_TOKENS: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ContrastError {
    #[error("the pairs file is not usable JSON: {0}")]
    Json(String),
    #[error("the pairs file's pairs[{index}] {reason}")]
    Pair { index: usize, reason: String },
    #[error("the pairs file holds {count} conversations, more than the {MAX_PAIRS} that are read")]
    TooMany { count: usize },
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// `{"pairs": […]}`, each with a `side` and either `prompt_ids` and `full_ids`, or `messages` (the last one the assistant's).
#[derive(Debug, Deserialize)]
struct PairsFile {
    pairs: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    side: i8,
    prompt_ids: Option<Vec<u32>>,
    full_ids: Option<Vec<u32>>,
    messages: Option<Vec<Message>>,
    /// The response, in place of a last message by the assistant.
    response: Option<String>,
}

/// Reads a pairs file. `chat` is needed for pairs given as messages only.
pub fn parse_pairs(bytes: &[u8], chat: Option<&ChatText>) -> Result<Vec<Example>, ContrastError> {
    let file: PairsFile = serde_json::from_slice(&as_utf8(bytes))
        .map_err(|error| ContrastError::Json(error.to_string()))?;
    if file.pairs.len() > MAX_PAIRS {
        return Err(ContrastError::TooMany {
            count: file.pairs.len(),
        });
    }
    file.pairs
        .into_iter()
        .enumerate()
        .map(|(index, pair)| pair.into_example(index, chat))
        .collect()
}

impl Pair {
    fn into_example(self, index: usize, chat: Option<&ChatText>) -> Result<Example, ContrastError> {
        let fail = |reason: &str| ContrastError::Pair {
            index,
            reason: reason.to_owned(),
        };
        let side = match self.side {
            1 => Side::Positive,
            -1 => Side::Negative,
            _ => return Err(fail("has a side other than 1 and -1")),
        };
        let (tokens, prompt_length) = match (self.prompt_ids, self.full_ids, self.messages) {
            (Some(prompt), Some(full), None) => {
                if !full.starts_with(&prompt) {
                    return Err(fail("has full_ids that do not begin with its prompt_ids"));
                }
                (full.into_iter().map(TokenId).collect(), prompt.len())
            }
            (None, None, Some(mut messages)) => {
                let response = match (self.response, messages.last()) {
                    (Some(response), _) => response,
                    (None, Some(last)) if last.role == "assistant" => {
                        messages.pop().map_or(String::new(), |last| last.content)
                    }
                    (None, _) => {
                        return Err(fail(
                            "has messages that do not end with the assistant's, and no response",
                        ));
                    }
                };
                let chat = chat.ok_or_else(|| {
                    fail("has messages, and this model directory has no chat template")
                })?;
                let prompt = chat.prompt(&messages)?;
                let length = prompt.tokens.len();
                (prompt.answered(&chat.encode(&response)?).tokens, length)
            }
            _ => return Err(fail("needs either prompt_ids and full_ids, or messages")),
        };
        if tokens.len() > MAX_TOKENS {
            return Err(fail(&format!("is longer than {MAX_TOKENS} tokens")));
        }
        Ok(Example {
            side,
            tokens,
            prompt_length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn pairs_of_ids_are_read_and_bad_ones_named() {
        let good = br#"{"pairs":[{"side":1,"prompt_ids":[1,2],"full_ids":[1,2,3]},{"side":-1,"prompt_ids":[1],"full_ids":[1,4]}]}"#;
        let examples = parse_pairs(good, None).unwrap();
        assert_eq!(
            (examples[1].side, examples[1].prompt_length),
            (Side::Negative, 1)
        );
        let message = |json: &str| parse_pairs(json.as_bytes(), None).unwrap_err().to_string();
        assert!(
            message(r#"{"pairs":[{"side":0,"prompt_ids":[1],"full_ids":[1,2]}]}"#)
                .contains("pairs[0] has a side")
        );
        assert!(
            message(r#"{"pairs":[{"side":1,"prompt_ids":[2],"full_ids":[1,2]}]}"#)
                .contains("do not begin")
        );
        assert!(message(r#"{"pairs":[{"side":1,"prompt_ids":[2]}]}"#).contains("needs either"));
        assert!(
            message(r#"{"pairs":[{"side":1,"prompt_ids":[-2],"full_ids":[]}]}"#).contains("JSON")
        );
        assert!(
            message(r#"{"pairs":[{"side":1,"messages":[{"role":"user","content":"x"}]}]}"#)
                .contains("no response")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_pairs_give_examples_or_an_error(
            side in proptest::num::i8::ANY,
            prompt in proptest::collection::vec(0_u32..9, 0..4),
            full in proptest::collection::vec(0_u32..9, 0..6),
        ) {
            let pairs = serde_json::json!({"pairs": [{"side": side, "prompt_ids": prompt, "full_ids": full}]});
            if let Ok(examples) = parse_pairs(pairs.to_string().as_bytes(), None) {
                let example = &examples[0];
                proptest::prop_assert!(example.prompt_length <= example.tokens.len());
            }
        }
    }
}
