//! What a verb reads: token ids, messages, or a prompt.

use crate::model::{ModelArguments, read_json};
use anyhow::{Result, bail};
use clap::Args;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use trimtab_engine::TokenId;

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

impl InputArguments {
    /// The tokens to start from; a chat is rendered up to where the answer begins.
    pub fn tokens(&self, _model: &ModelArguments, _system: Option<&str>) -> Result<Vec<TokenId>> {
        match self {
            Self {
                ids: Some(path), ..
            } => read_ids(path),
            _ => bail!("give --ids FILE.json"),
        }
    }
}

/// Ids as plain numbers, for JSON.
pub fn numbers(ids: &[TokenId]) -> Vec<u32> {
    ids.iter().map(|id| id.0).collect()
}
