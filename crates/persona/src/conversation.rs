//! Conversations as tokens, and what each token is part of.

use serde::Serialize;
use std::ops::Range;
use trimtab_checkpoint::{ChatError, ChatTemplate, Message, Tokenizer, chat};
use trimtab_engine::TokenId;
use ts_rs::TS;

/// The part of a conversation that a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The chat template's own: role markers, line breaks, a default system prompt.
    Template,
    /// Text of the user or of a given system prompt.
    Prompt,
    /// Text of the assistant.
    Response,
}

/// A conversation ready for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenisedConversation {
    pub tokens: Vec<TokenId>,
    /// One a token.
    pub parts: Vec<Part>,
    /// Tokens up to and with the last one that opens the (last) answer.
    pub prompt_length: usize,
}

impl TokenisedConversation {
    /// Token ids alone, all of them prompt.
    pub fn of_ids(ids: &[u32]) -> Self {
        Self {
            tokens: token_ids(ids),
            parts: vec![Part::Prompt; ids.len()],
            prompt_length: ids.len(),
        }
    }

    fn take(&mut self, ids: &[u32]) {
        self.tokens.extend(ids.iter().copied().map(TokenId));
    }

    /// The same conversation with `answer` written at its end.
    pub fn answered(mut self, answer: &[TokenId]) -> Self {
        self.tokens.extend(answer);
        self.parts.resize(self.tokens.len(), Part::Response);
        self
    }
}

fn whose(part: &chat::Part, messages: &[Message]) -> Part {
    match part {
        chat::Part::Template => Part::Template,
        chat::Part::Message(index) => match messages.get(*index) {
            Some(message) if message.role == "assistant" => Part::Response,
            _ => Part::Prompt,
        },
    }
}

/// Range of each message's tokens in the conversation; `None` for a message that the template leaves out.
pub type Places = Vec<Option<Range<usize>>>;

/// A model's tokenizer and chat template.
#[derive(Debug)]
pub struct ChatText {
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
}

/// A tokenizer that knows no token.
const NO_TOKENIZER: &str = r#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}"#;

impl ChatText {
    /// The text side of a model directory whose own is missing or broken, for token ids alone: every message is refused with
    /// `reason`, and without a `tokenizer` no token has a text.
    pub fn refusing(tokenizer: Option<Tokenizer>, reason: &str) -> Result<Self, ChatError> {
        let template = format!("{{{{ raise_exception({}) }}}}", serde_json::json!(reason));
        Ok(Self {
            tokenizer: match tokenizer {
                Some(tokenizer) => tokenizer,
                None => Tokenizer::from_json(NO_TOKENIZER.as_bytes())?,
            },
            template: ChatTemplate::from_files(Some(template.as_bytes()), None)?,
        })
    }

    /// Renders `messages` up to where the assistant's answer begins.
    pub fn prompt(&self, messages: &[Message]) -> Result<TokenisedConversation, ChatError> {
        let rendered = self.template.encode(&self.tokenizer, messages, true)?;
        Ok(TokenisedConversation {
            prompt_length: rendered.ids.len(),
            parts: rendered
                .parts
                .iter()
                .map(|part| whose(part, messages))
                .collect(),
            tokens: rendered.ids.into_iter().map(TokenId).collect(),
        })
    }

    /// [`Self::prompt`] for what a trait is found or measured in: answers.
    ///
    /// # Errors
    /// [`ChatError::NoTemplate`] for models that continue a text and do not answer.
    pub fn question(&self, messages: &[Message]) -> Result<TokenisedConversation, ChatError> {
        self.template.check_answers()?;
        self.prompt(messages)
    }

    /// [`Self::prompt`] where the tokens of some messages are given: they stand in place of those that the
    /// tokenizer would make of the text. A content that the template uses twice, or not in one piece,
    /// is tokenised. Also gives where each message's tokens lie.
    pub fn prompt_of_tokens(
        &self,
        messages: &[Message],
        given: &[Option<Vec<TokenId>>],
    ) -> Result<(TokenisedConversation, Places), ChatError> {
        let rendered = self.template.encode(&self.tokenizer, messages, true)?;
        let mut stretches: Vec<(chat::Part, Range<usize>)> = Vec::new();
        for (index, part) in rendered.parts.iter().enumerate() {
            match stretches.last_mut() {
                Some((last, range)) if last == part => range.end = index + 1,
                _ => stretches.push((*part, index..index + 1)),
            }
        }
        let mut conversation = TokenisedConversation {
            tokens: Vec::with_capacity(rendered.ids.len()),
            parts: Vec::with_capacity(rendered.ids.len()),
            prompt_length: 0,
        };
        let mut places: Places = vec![None; messages.len()];
        for (part, range) in &stretches {
            let start = conversation.tokens.len();
            let once = stretches.iter().filter(|(other, _)| other == part).count() == 1;
            match part {
                chat::Part::Message(index) if once => {
                    match given.get(*index) {
                        Some(Some(tokens)) => conversation.tokens.extend(tokens),
                        _ => conversation.take(&rendered.ids[range.clone()]),
                    }
                    if let Some(place) = places.get_mut(*index) {
                        *place = Some(start..conversation.tokens.len());
                    }
                }
                _ => conversation.take(&rendered.ids[range.clone()]),
            }
            let end = conversation.tokens.len();
            conversation.parts.resize(end, whose(part, messages));
        }
        conversation.prompt_length = conversation.tokens.len();
        Ok((conversation, places))
    }

    /// Ordinary text as tokens; nothing is put around it.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, ChatError> {
        Ok(self
            .tokenizer
            .encode(text)?
            .into_iter()
            .map(TokenId)
            .collect())
    }

    /// The text of `tokens`, special ones left out.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        self.tokenizer.decode(&numbers(tokens))
    }

    /// The text that each token adds; empty for a token that ends inside a character.
    pub fn pieces(&self, tokens: &[TokenId]) -> Vec<String> {
        self.tokenizer.pieces(&numbers(tokens))
    }
}

/// Plain numbers as ids.
pub fn token_ids(numbers: &[u32]) -> Vec<TokenId> {
    numbers.iter().copied().map(TokenId).collect()
}

/// Ids as plain numbers.
pub fn numbers(tokens: &[TokenId]) -> Vec<u32> {
    tokens.iter().map(|token| token.0).collect()
}

/// A message by somebody.
pub fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}
