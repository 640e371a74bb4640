//! Tokens as a person sees them.

use crate::session::Session;
use serde::Serialize;
use trimtab_engine::TokenId;
use trimtab_persona::conversation::{Part, TokenisedConversation};
use trimtab_persona::reread::Expected;
use ts_rs::TS;

/// What else was likely in a token's place.
#[derive(Clone, Debug, Serialize, TS)]
pub struct Alternative {
    pub text: String,
    pub id: u32,
    pub logprob: f32,
}

/// One token.
#[derive(Clone, Debug, Serialize, TS)]
pub struct Token {
    pub id: u32,
    /// What it adds to the text; empty for a token that ends inside a character (the next one carries it).
    pub text: String,
    /// Tokens of the `template` are the chat template's own; they are not coloured.
    pub part: Part,
    /// Natural log-probability that the model gave it: in this run, or, for prompt tokens of a steered column, when the
    /// unsteered model read it. NaN for the first token.
    pub logprob: f32,
    /// What else was likely in its place, best first, the token itself included where it is among them.
    pub alternatives: Vec<Alternative>,
}

impl Session {
    /// One token; `text` is what it adds to the text.
    pub fn token(
        &self,
        id: TokenId,
        text: String,
        part: Part,
        expected: Option<&Expected>,
    ) -> Token {
        let alternatives = expected.map_or(&[][..], |expected| &expected.alternatives);
        Token {
            id: id.0,
            text,
            part,
            logprob: expected.map_or(f32::NAN, |expected| expected.logprob),
            alternatives: alternatives
                .iter()
                .map(|&(id, logprob)| Alternative {
                    text: self.text_alone(id),
                    id: id.0,
                    logprob,
                })
                .collect(),
        }
    }

    /// All tokens of a conversation; `expected` has one entry a token.
    pub fn tokens(
        &self,
        conversation: &TokenisedConversation,
        expected: &[Option<Expected>],
    ) -> Vec<Token> {
        let texts = self.chat.pieces(&conversation.tokens);
        let tokens = conversation.tokens.iter().zip(texts);
        tokens
            .zip(&conversation.parts)
            .zip(expected)
            .map(|(((&id, text), &part), expected)| self.token(id, text, part, expected.as_ref()))
            .collect()
    }

    /// A token's text without its neighbours; part of a character is shown as U+FFFD.
    pub fn text_alone(&self, id: TokenId) -> String {
        if self.chat.tokenizer.is_special(id.0) {
            self.chat.pieces(&[id]).concat()
        } else {
            self.chat.decode(&[id])
        }
    }
}
