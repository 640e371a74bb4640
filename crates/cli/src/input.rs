//! What a verb reads: token ids, messages, or a prompt.

use crate::model::{ModelArguments, read_json};
use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::Message;
use trimtab_engine::TokenId;
use trimtab_persona::conversation::message;

#[derive(Clone, Debug, Args)]
#[group(id = "input", required = true, multiple = false)]
pub struct InputArguments {
    /// Token ids, {"ids": […]}; nothing is put before them
    #[arg(long, value_name = "FILE.json")]
    pub ids: Option<PathBuf>,
    /// Messages, [{"role": "user", "content": "…"}, …] or {"messages": […]}
    #[arg(long, value_name = "FILE.json")]
    pub chat: Option<PathBuf>,
    /// The user's message
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IdsFile {
    Object { ids: Vec<u32> },
    List(Vec<u32>),
}

/// Token ids of a file: `{"ids": […]}` or the bare list.
pub fn read_ids(path: &Path) -> Result<Vec<TokenId>> {
    let (IdsFile::Object { ids } | IdsFile::List(ids)) = read_json(path)?;
    if ids.is_empty() {
        bail!("{} holds no token ids", path.display());
    }
    Ok(ids.into_iter().map(TokenId).collect())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ChatFile {
    Object { messages: Vec<Message> },
    List(Vec<Message>),
}

/// Messages of a chat file.
pub fn read_messages(path: &Path) -> Result<Vec<Message>> {
    let (ChatFile::Object { messages } | ChatFile::List(messages)) = read_json(path)?;
    Ok(messages)
}

impl InputArguments {
    /// The tokens to start from; a chat is rendered up to where the answer begins. `system` takes
    /// the place of the chat's own system message.
    pub fn tokens(&self, model: &ModelArguments, system: Option<&str>) -> Result<Vec<TokenId>> {
        let mut messages = match self {
            Self {
                ids: Some(path), ..
            } => {
                ensure!(
                    system.is_none(),
                    "--system goes with --prompt or --chat; before --ids nothing is put"
                );
                return read_ids(path);
            }
            Self {
                chat: Some(path), ..
            } => read_messages(path)?,
            Self {
                prompt: Some(prompt),
                ..
            } => vec![message("user", prompt)],
            _ => bail!("give --ids, --chat or --prompt"),
        };
        if let Some(system) = system {
            messages.retain(|message| message.role != "system");
            messages.insert(0, message("system", system));
        }
        Ok(model.chat()?.prompt(&messages)?.tokens)
    }
}
