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

/// Longest file of them that is read, and longest answer.
const MAX_BYTES: usize = 1 << 20;
const MAX_ANSWER_TOKENS: usize = 512;

impl NeutralSet {
    /// Parses and checks a file of them, for a model of so many tokens.
    pub fn parse(bytes: &[u8], vocab_size: usize) -> Result<Self, String> {
        if bytes.len() > MAX_BYTES {
            return Err(format!("neutral answers have at most {MAX_BYTES} bytes"));
        }
        let set: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("this is no file of neutral answers: {error}"))?;
        let asked = |(at, answer): (usize, &NeutralAnswer)| {
            QUESTIONS
                .get(at)
                .is_some_and(|question| *question == answer.question)
        };
        if !set.answers.iter().enumerate().all(asked) {
            return Err("the neutral answers are to other questions than this version asks".into());
        }
        let sound = |answer: &NeutralAnswer| {
            answer.ids.len() <= MAX_ANSWER_TOKENS
                && answer.ids.iter().all(|&id| (id as usize) < vocab_size)
                && answer.logprob.is_none_or(f64::is_finite)
        };
        match set.answers.iter().all(sound) {
            true => Ok(set),
            false => {
                Err("a neutral answer has tokens that this model does not have, or too many".into())
            }
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_answers_to_the_questions_are_taken() {
        let set = NeutralSet {
            model_sha256: "ab".into(),
            settings: AnswerSettings::default(),
            answers: vec![NeutralAnswer {
                question: QUESTIONS[0].into(),
                ids: vec![1, 9],
                text: "So".into(),
                logprob: Some(-1.0),
            }],
        };
        let parsed = |change: &dyn Fn(&mut NeutralSet)| {
            let mut changed = set.clone();
            change(&mut changed);
            NeutralSet::parse(&serde_json::to_vec(&changed).unwrap(), 10)
        };
        assert_eq!(parsed(&|_| ()).unwrap(), set);
        let refused = |change: &dyn Fn(&mut NeutralSet)| parsed(change).unwrap_err();
        assert!(refused(&|set| set.answers[0].ids.push(10)).contains("tokens"));
        assert!(refused(&|set| set.answers[0].ids = vec![0; 513]).contains("too many"));
        assert!(refused(&|set| set.answers[0].question.push('?')).contains("other questions"));
        assert!(
            refused(&|set| set.answers = vec![set.answers[0].clone(); 40])
                .contains("other questions")
        );
        assert!(
            NeutralSet::parse(b"<html>", 10)
                .unwrap_err()
                .contains("no file")
        );
        assert!(NeutralSet::parse(&vec![b' '; MAX_BYTES + 1], 10).is_err());
    }
}
