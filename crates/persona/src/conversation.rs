//! Conversations as tokens, and what each token is part of.

use trimtab_checkpoint::{ChatError, ChatTemplate, Message, Tokenizer, chat};
use trimtab_engine::TokenId;

/// What a token of a conversation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The chat template's own: role markers, line breaks, a default system prompt.
    Template,
    /// What the user or a given system prompt says.
    Prompt,
    /// What the assistant says.
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
    /// The same conversation with `answer` written at its end.
    pub fn answered(mut self, answer: &[TokenId]) -> Self {
        self.tokens.extend(answer);
        self.parts.resize(self.tokens.len(), Part::Response);
        self
    }
}

/// A model's tokenizer and chat template.
#[derive(Debug)]
pub struct ChatText {
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
}

impl ChatText {
    /// Renders `messages` up to where the assistant's answer begins.
    pub fn prompt(&self, messages: &[Message]) -> Result<TokenisedConversation, ChatError> {
        let rendered = self.template.encode(&self.tokenizer, messages, true)?;
        let part = |part: &chat::Part| match part {
            chat::Part::Template => Part::Template,
            chat::Part::Message(index) => match messages.get(*index) {
                Some(message) if message.role == "assistant" => Part::Response,
                _ => Part::Prompt,
            },
        };
        Ok(TokenisedConversation {
            prompt_length: rendered.ids.len(),
            parts: rendered.parts.iter().map(part).collect(),
            tokens: rendered.ids.into_iter().map(TokenId).collect(),
        })
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

    /// What each token adds to the text: empty for one that ends inside a character.
    pub fn pieces(&self, tokens: &[TokenId]) -> Vec<String> {
        self.tokenizer.pieces(&numbers(tokens))
    }
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
