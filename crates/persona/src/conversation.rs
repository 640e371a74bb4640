//! Conversations as tokens, and what each token is part of.

use trimtab_engine::TokenId;

/// What a token of a conversation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The chat template's own: role markers, line breaks, a default system prompt.
    Template,
    /// What the user or the given system prompt says, and earlier answers' place in it.
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
