//! The questions that are asked: the same token ids for every runtime.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::process;

/// Its greedy answer is longer than any that is timed.
const STORY: &str = "Tell me a long story about an old sailor who finds a small boat on the beach, \
                     mends it with his own two hands, and sails away one early morning.";

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prompt {
    pub messages: Vec<Message>,
    /// The rendered conversation.
    pub text: String,
    /// Of the text.
    #[serde(rename = "prompt")]
    pub ids: Vec<u32>,
    pub end_tokens: Vec<u32>,
    pub max_tokens: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Message {
    pub role: &'static str,
    pub content: &'static str,
}

#[derive(Deserialize)]
struct Rendered {
    text: String,
    ids: Vec<u32>,
    end_tokens: Vec<u32>,
}

impl Prompt {
    /// 64 tokens.
    pub fn long(vocabulary: &Vocabulary) -> Result<Self> {
        Self::new(vocabulary, &[("user", STORY)], 64)
    }

    /// 30 tokens, which is what the default system prompt alone would take.
    pub fn short(vocabulary: &Vocabulary) -> Result<Self> {
        let question = "What is a good way to spend a Sunday at home?";
        Self::new(
            vocabulary,
            &[("system", "You are kind."), ("user", question)],
            30,
        )
    }

    fn new(
        vocabulary: &Vocabulary,
        messages: &[(&'static str, &'static str)],
        expected: usize,
    ) -> Result<Self> {
        let messages: Vec<Message> = messages
            .iter()
            .map(|&(role, content)| Message { role, content })
            .collect();
        let Rendered {
            text,
            ids,
            end_tokens,
        } = vocabulary.ask("messages", &json!(messages))?;
        ensure!(
            ids.len() == expected,
            "the prompt has {} tokens with this model's tokenizer, not {expected}; change its text in {}",
            ids.len(),
            file!()
        );
        Ok(Self {
            messages,
            text,
            ids,
            end_tokens,
            max_tokens: super::ANSWER_TOKENS,
        })
    }
}

/// The model's tokens, by `crates/checkpoint/examples/tokens.rs`.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary<'a> {
    pub root: &'a Path,
    pub model: &'a Path,
}

impl Vocabulary<'_> {
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let answer: Value = self.ask("ids", &json!(ids))?;
        let text = answer["text"]
            .as_str()
            .context("the example printed no text")?;
        Ok(text.to_owned())
    }

    fn ask<T: DeserializeOwned>(&self, key: &str, value: &Value) -> Result<T> {
        let request = json!({ "model": self.model, key: value });
        process::ask(&mut process::example(self.root, "tokens"), &request)
    }
}
