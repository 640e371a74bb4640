//! The questions that are asked: the same token ids for every runtime.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use trimtab_checkpoint::{ChatTemplate, Message, ModelConfig, Tokenizer, manifest};

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
    #[serde(skip)]
    pub tokenizer: Tokenizer,
}

impl Prompt {
    /// 64 tokens.
    pub fn long(model: &Path) -> Result<Self> {
        Self::new(model, &[("user", STORY)], 64)
    }

    /// 30 tokens, which is what the default system prompt alone would take.
    pub fn short(model: &Path) -> Result<Self> {
        let question = "What is a good way to spend a Sunday at home?";
        Self::new(
            model,
            &[("system", "You are kind."), ("user", question)],
            30,
        )
    }

    fn new(model: &Path, messages: &[(&str, &str)], expected: usize) -> Result<Self> {
        let file = |name: &str| {
            let path = model.join(name);
            fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let tokenizer = Tokenizer::from_json(&file(manifest::TOKENIZER)?)?;
        let template = ChatTemplate::from_files(Some(&file(manifest::CHAT_TEMPLATE)?), None)?;
        let messages: Vec<Message> = messages
            .iter()
            .map(|&(role, content)| Message {
                role: role.to_owned(),
                content: content.to_owned(),
            })
            .collect();
        let rendered = template.encode(&tokenizer, &messages, true)?;
        let ids = rendered.ids;
        ensure!(
            ids.len() == expected,
            "the prompt has {} tokens with this model's tokenizer, not {expected}; change its text in {}",
            ids.len(),
            file!()
        );
        Ok(Self {
            messages,
            text: rendered.text,
            ids,
            end_tokens: ModelConfig::from_json(&file(manifest::CONFIG)?)?.end_tokens,
            max_tokens: super::ANSWER_TOKENS,
            tokenizer,
        })
    }
}
