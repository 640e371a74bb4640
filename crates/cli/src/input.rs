//! Input of a verb: token ids, messages, or a prompt.

use crate::files::read_json;
use crate::model::ModelArguments;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::Message;
use trimtab_persona::conversation::{message, numbers};

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
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
}

/// Token ids to begin with, and the messages that became them; none where ids were given.
#[derive(Debug)]
pub struct Input {
    pub ids: Vec<u32>,
    pub messages: Vec<Message>,
}

/// Token ids of a file: `{"ids": […]}` or the bare list.
pub fn read_ids(path: &Path) -> Result<Vec<u32>> {
    let ids = read_list(path, "ids")?;
    ensure!(!ids.is_empty(), "{} holds no token ids", path.display());
    let id = |(at, id): (usize, &Value)| {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        number.with_context(|| {
            format!(
                "{}: ids[{at}] is {id}; a token id is a whole number from 0 on",
                path.display()
            )
        })
    };
    ids.iter().enumerate().map(id).collect()
}

/// Messages of a chat file: `{"messages": […]}` or the bare list.
pub fn read_messages(path: &Path) -> Result<Vec<Message>> {
    let messages = read_list(path, "messages")?;
    let message = |(at, message): (usize, Value)| {
        serde_json::from_value(message)
            .with_context(|| format!("{}: messages[{at}]", path.display()))
    };
    messages.into_iter().enumerate().map(message).collect()
}

/// The list that a JSON file is, or holds under `key`.
fn read_list(path: &Path, key: &str) -> Result<Vec<Value>> {
    match read_json(path)? {
        Value::Array(list) => Ok(list),
        Value::Object(mut object) => match object.remove(key) {
            Some(Value::Array(list)) => Ok(list),
            _ => bail!("{} has no list {key:?}", path.display()),
        },
        _ => bail!("{} is neither a list nor {{{key:?}: […]}}", path.display()),
    }
}

impl InputArguments {
    /// A chat is rendered up to where the answer begins. `system` takes the place of its own system message.
    pub fn read(&self, model: &ModelArguments, system: Option<&str>) -> Result<Input> {
        let mut messages = match self {
            Self {
                ids: Some(path), ..
            } => {
                ensure!(
                    system.is_none(),
                    "--system goes with --prompt or --chat; before --ids nothing is put"
                );
                return Ok(Input {
                    ids: read_ids(path)?,
                    messages: Vec::new(),
                });
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
        Ok(Input {
            ids: numbers(&model.chat()?.prompt(&messages)?.tokens),
            messages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("trimtab-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn chats_are_read_with_a_byte_order_mark_too() {
        let json = br#"{"messages": [{"role": "user", "content": "Hi"}]}"#;
        let path = file("chat.json", &[b"\xef\xbb\xbf", &json[..]].concat());
        let messages = read_messages(&path).unwrap();
        assert_eq!(messages[0].content, "Hi");
        std::fs::write(&path, br#"[{"role": "user"}]"#).unwrap();
        let error = format!("{:#}", read_messages(&path).unwrap_err());
        assert!(
            error.contains("messages[0]") && error.contains("content"),
            "{error}"
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_token_id_is_named() {
        let path = file("ids.json", b"");
        for (json, told) in [
            ("{\"ids\": [1, -2]}", "ids[1] is -2"),
            ("[1.5]", "ids[0] is 1.5"),
            ("[4294967296]", "ids[0] is 4294967296"),
            ("[]", "holds no token ids"),
            ("{\"tokens\": [1]}", "has no list \"ids\""),
            ("7", "neither a list nor"),
        ] {
            std::fs::write(&path, json).unwrap();
            let error = read_ids(&path).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        std::fs::write(&path, "[3, 5]").unwrap();
        assert_eq!(read_ids(&path).unwrap(), [3, 5]);
        std::fs::remove_file(path).unwrap();
    }
}
