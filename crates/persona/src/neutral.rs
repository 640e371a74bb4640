//! Neutral conversations: ordinary questions under the chat template's own system prompt, answered
//! by the unsteered model. All traits of a model are calibrated on the same ones.

use crate::answers::AnswerSettings;
use crate::contrast::MIN_RESPONSE_TOKENS;
use crate::conversation::{ChatText, TokenisedConversation, message, token_ids};
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::ChatError;

/// About people, things, plans and facts, without a mood of their own.
pub const QUESTIONS: [&str; 32] = [
    "What is a good way to learn a new language?",
    "How do I boil an egg?",
    "What is the difference between a lake and a pond?",
    "Can you recommend a sport for beginners?",
    "Why is the sky blue?",
    "How should I prepare for a job interview?",
    "What does a librarian do?",
    "Tell me about the city of Lisbon.",
    "How can I sleep better?",
    "What are the parts of a plant?",
    "Write a short message to my landlord about a broken tap.",
    "What is a healthy lunch?",
    "How does a bicycle brake work?",
    "Explain what a budget is.",
    "What should I pack for a weekend away?",
    "Who invented the telephone?",
    "How do I change a light bulb?",
    "What is the capital of Canada?",
    "Give me three ideas for a birthday present.",
    "What is photosynthesis?",
    "How do I write a good summary?",
    "What can I do on a Sunday afternoon?",
    "Describe how a bridge is built.",
    "What makes a good neighbour?",
    "How many legs does a spider have?",
    "Tell me about the history of tea.",
    "What is the best time to visit Japan?",
    "How do I keep a houseplant alive?",
    "What is a prime number?",
    "How do I introduce myself to new colleagues?",
    "What are common kinds of clouds?",
    "Tell me a story about a fisherman.",
];

/// The answers that a model's traits are all calibrated on; kept in a file next to the vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeutralSet {
    pub model_sha256: String,
    pub settings: AnswerSettings,
    pub answers: Vec<NeutralAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeutralAnswer {
    pub question: String,
    /// The answer's tokens, the end token left out.
    pub ids: Vec<u32>,
    pub text: String,
    /// Mean log-likelihood under the model that wrote it, nats a token, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f64>,
}

impl NeutralSet {
    /// True if the answers were written by that model.
    pub fn is_of(&self, model_sha256: &str) -> bool {
        self.model_sha256 == model_sha256
    }

    /// True if `other` is of the same model and has fewer answers, or fewer whose likelihood is known.
    pub fn has_more_than(&self, other: &Self) -> bool {
        let measured = |set: &Self| {
            set.answers
                .iter()
                .filter(|answer| answer.logprob.is_some())
                .count()
        };
        other.is_of(&self.model_sha256)
            && (self.answers.len() > other.answers.len() || measured(self) > measured(other))
    }

    /// The conversations as tokens; answers too short to say anything are left out.
    pub fn conversations(&self, chat: &ChatText) -> Result<Vec<TokenisedConversation>, ChatError> {
        let long = self
            .answers
            .iter()
            .filter(|answer| answer.ids.len() >= MIN_RESPONSE_TOKENS);
        long.map(|answer| {
            Ok(chat
                .prompt(&[message("user", &answer.question)])?
                .answered(&token_ids(&answer.ids)))
        })
        .collect()
    }
}
