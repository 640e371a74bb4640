//! Contrast sets that somebody else wrote: a file of conversations, each on one side.

use crate::conversation::ChatText;
use crate::extract::{Example, Side};
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::text::as_utf8;
use trimtab_checkpoint::{ChatError, Message};
use trimtab_engine::TokenId;
use ts_rs::TS;

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
    #[error("pairs[{index}] {reason}")]
    Pair { index: usize, reason: String },
    #[error("there are {count} conversations, more than the {MAX_PAIRS} that are read")]
    TooMany { count: usize },
    #[error(transparent)]
    Chat(#[from] ChatError),
}

/// The file of a contrast set.
#[derive(Debug, Deserialize)]
struct PairsFile {
    pairs: Vec<ContrastPair>,
}

/// A conversation on one side of a contrast: `prompt_ids` and `full_ids`, or `messages`, the last of which is the response.
#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
#[ts(optional_fields)]
pub struct ContrastPair {
    #[ts(type = "1 | -1")]
    pub side: i8,
    pub prompt_ids: Option<Vec<u32>>,
    pub full_ids: Option<Vec<u32>>,
    #[ts(
        optional,
        type = "{ role: \"system\" | \"user\" | \"assistant\"; content: string }[]"
    )]
    pub messages: Option<Vec<Message>>,
    /// The response, in place of a last message by the assistant.
    pub response: Option<String>,
}

/// Reads a pairs file, `{"pairs": […]}`.
pub fn parse_pairs(bytes: &[u8]) -> Result<Vec<ContrastPair>, ContrastError> {
    let file: PairsFile = serde_json::from_slice(&as_utf8(bytes))
        .map_err(|error| ContrastError::Json(error.to_string()))?;
    Ok(file.pairs)
}

/// The conversations as tokens.
pub fn examples(pairs: Vec<ContrastPair>, chat: &ChatText) -> Result<Vec<Example>, ContrastError> {
    if pairs.len() > MAX_PAIRS {
        return Err(ContrastError::TooMany { count: pairs.len() });
    }
    let numbered = pairs.into_iter().enumerate();
    numbered
        .map(|(index, pair)| pair.into_example(index, chat))
        .collect()
}

impl ContrastPair {
    /// Tokens that the conversation has at most; text has at most one a byte, and the template adds some.
    pub fn longest(&self) -> usize {
        let ids = self.full_ids.as_ref().map_or(0, Vec::len);
        let messages = self.messages.iter().flatten();
        let text: usize = messages.map(|message| message.content.len() + 64).sum();
        ids.max(text + self.response.as_ref().map_or(0, String::len) + 256)
    }

    fn into_example(self, index: usize, chat: &ChatText) -> Result<Example, ContrastError> {
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
    fn read(json: &str) -> Result<Vec<Example>, ContrastError> {
        let chat = ChatText::refusing(None, "there is no chat template").unwrap();
        examples(parse_pairs(json.as_bytes())?, &chat)
    }

    #[test]
    fn pairs_of_ids_are_read_and_bad_ones_named() {
        let good = r#"{"pairs":[{"side":1,"prompt_ids":[1,2],"full_ids":[1,2,3]},{"side":-1,"prompt_ids":[1],"full_ids":[1,4]}]}"#;
        let examples = read(good).unwrap();
        assert_eq!(
            (examples[1].side, examples[1].prompt_length),
            (Side::Negative, 1)
        );
        for (pair, told) in [
            (
                r#"{"side":0,"prompt_ids":[1],"full_ids":[1,2]}"#,
                "pairs[0] has a side",
            ),
            (
                r#"{"side":1,"prompt_ids":[2],"full_ids":[1,2]}"#,
                "do not begin",
            ),
            (r#"{"side":1,"prompt_ids":[2]}"#, "needs either"),
            (r#"{"side":1,"prompt_ids":[-2],"full_ids":[]}"#, "JSON"),
            (
                r#"{"side":1,"messages":[{"role":"user","content":"x"}]}"#,
                "no response",
            ),
            (
                r#"{"side":1,"messages":[{"role":"user","content":"x"}],"response":"y"}"#,
                "there is no chat template",
            ),
        ] {
            let error = read(&format!(r#"{{"pairs":[{pair}]}}"#)).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_pairs_give_examples_or_an_error(
            side in proptest::num::i8::ANY,
            prompt in proptest::collection::vec(0_u32..9, 0..4),
            full in proptest::collection::vec(0_u32..9, 0..6),
        ) {
            let pairs = serde_json::json!({"pairs": [{"side": side, "prompt_ids": prompt, "full_ids": full}]});
            if let Ok(examples) = read(&pairs.to_string()) {
                let example = &examples[0];
                proptest::prop_assert!(example.prompt_length <= example.tokens.len());
            }
        }
    }
}
