//! Training data: JSON Lines, one conversation a line, `{"messages": [{"role", "content"}, …]}`, the last message the assistant's.
//! Hugging Face's and OpenAI's tools take the same form. A row may carry a `label`.

use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read};
use trimtab_checkpoint::Message;
use trimtab_checkpoint::chat::{MAX_CONVERSATION_BYTES, MAX_MESSAGES};
use trimtab_checkpoint::text::as_utf8;
use ts_rs::TS;

/// Longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = MAX_CONVERSATION_BYTES;
/// Longest label, in bytes.
const MAX_LABEL_BYTES: usize = 128;
const ROLES: [&str; 3] = ["system", "user", "assistant"];

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("line {line}: {reason}")]
    Line { line: u64, reason: String },
    #[error("the dataset cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error(
        "the dataset holds no conversation; a line looks like {{\"messages\": [{{\"role\": \"user\", \"content\": \"…\"}}, {{\"role\": \"assistant\", \"content\": \"…\"}}]}}"
    )]
    Empty,
}

/// One row of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct Conversation {
    /// At least one, and then the assistant's answer.
    #[ts(type = "{ role: \"system\" | \"user\" | \"assistant\"; content: string }[]")]
    pub messages: Vec<Message>,
    /// What the row is known to be, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A line as it may be.
#[derive(Deserialize)]
struct Line {
    messages: Option<Vec<Message>>,
    label: Option<serde_json::Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Conversation {
    /// Parses a line.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| format!("it is not a row of JSON Lines: {error}"))?;
        let Some(messages) = line.messages else {
            let fields: Vec<&str> = line.rest.keys().take(8).map(String::as_str).collect();
            return Err(format!(
                "it has no \"messages\" (it has: {}); write each row as {{\"messages\": [{{\"role\", \"content\"}}, …]}}",
                fields.join(", ")
            ));
        };
        let label = match line.label {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(label)) => Some(label),
            Some(other) => Some(other.to_string()),
        };
        let row = Self { messages, label };
        row.check()?;
        Ok(row)
    }

    fn check(&self) -> Result<(), String> {
        let messages = &self.messages;
        if messages.len() > MAX_MESSAGES {
            return Err(format!("it has more than {MAX_MESSAGES} messages"));
        }
        if let Some(other) = messages
            .iter()
            .find(|message| !ROLES.contains(&message.role.as_str()))
        {
            let role: String = other.role.chars().take(40).collect();
            return Err(format!(
                "it has a message by {role:?}; roles are {}",
                ROLES.join(", ")
            ));
        }
        match messages.as_slice() {
            [_, .., last] if last.role == "assistant" && !last.content.trim().is_empty() => {}
            _ => {
                return Err(
                    "its last message has to be the assistant's answer to something, and not empty"
                        .into(),
                );
            }
        }
        let too_long = |label: &String| label.len() > MAX_LABEL_BYTES;
        if self.label.as_ref().is_some_and(too_long) {
            return Err(format!("its label is longer than {MAX_LABEL_BYTES} bytes"));
        }
        Ok(())
    }

    /// The messages before the answer.
    pub fn prompt(&self) -> &[Message] {
        self.messages.split_last().map_or(&[], |(_, before)| before)
    }

    /// The answer.
    pub fn answer(&self) -> &str {
        self.messages.last().map_or("", |last| &last.content)
    }
}

/// Whether a line says something about the file in place of a conversation: `{"about": …}`.
fn is_about(line: &[u8]) -> bool {
    let value = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line);
    value.is_ok_and(|fields| fields.len() == 1 && fields.contains_key("about"))
}

/// The rows of a dataset as they are read, one line in memory at a time. Blank lines are passed over.
#[derive(Debug)]
pub struct Rows<R> {
    from: R,
    /// Lines read.
    line: u64,
    /// Rows given.
    row: u64,
    buffer: Vec<u8>,
}

/// A row and its place among the rows of its file, from 0 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct NumberedRow {
    #[ts(type = "number")]
    pub row: u64,
    pub conversation: Conversation,
}

impl<R: BufRead> Rows<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            line: 0,
            row: 0,
            buffer: Vec::new(),
        }
    }

    /// The line of the row that was given last, as it stands in the file.
    pub fn line_of_last(&self) -> &[u8] {
        self.buffer.trim_ascii()
    }

    /// The next line that is not blank, without what ends it.
    fn line(&mut self) -> Result<Option<&[u8]>, DatasetError> {
        loop {
            self.buffer.clear();
            let mut bounded = (&mut self.from).take(MAX_LINE_BYTES as u64 + 1);
            if bounded.read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(DatasetError::Line {
                    line: self.line,
                    reason: format!(
                        "it is longer than the {MAX_LINE_BYTES} bytes that are read; is this a file of JSON Lines?"
                    ),
                });
            }
            // Only the file's first line can begin with a byte order mark.
            if self.line == 1 {
                self.buffer = as_utf8(&self.buffer).into_owned();
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Some(self.buffer.trim_ascii()))
    }

    fn read(&mut self) -> Result<Option<NumberedRow>, DatasetError> {
        loop {
            let Some(line) = self.line()? else {
                return Ok(None);
            };
            let parsed = match is_about(line) {
                true => continue,
                false => Conversation::parse(line),
            };
            let conversation = parsed.map_err(|reason| DatasetError::Line {
                line: self.line,
                reason,
            })?;
            let row = self.row;
            self.row += 1;
            return Ok(Some(NumberedRow { row, conversation }));
        }
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<NumberedRow, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// All rows of a file that lies in memory.
///
/// # Errors
/// The first line that is no row, by its number; a file without rows.
pub fn parse(bytes: &[u8]) -> Result<Vec<Conversation>, DatasetError> {
    let rows = Rows::new(bytes).map(|row| Ok(row?.conversation));
    let rows: Vec<Conversation> = rows.collect::<Result<_, DatasetError>>()?;
    match rows.is_empty() {
        true => Err(DatasetError::Empty),
        false => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"messages":[{"role":"user","content":"Hi?"},{"role":"assistant","content":"Hello."}],"label":"kind"}"#;

    fn said(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn rows_come_with_their_labels_and_numbers() {
        let text =
            format!("\u{feff}{{\"about\":{{\"licence\":\"CC0-1.0\"}}}}\n\n{ROW}\r\n  \n{ROW}");
        let rows: Vec<NumberedRow> = Rows::new(text.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [0, 1]);
        let mut again = Rows::new(text.as_bytes());
        again.next().unwrap().unwrap();
        assert_eq!(again.line_of_last(), ROW.as_bytes());
        let first = &rows[0].conversation;
        assert_eq!(first.label.as_deref(), Some("kind"));
        assert_eq!((first.prompt().len(), first.answer()), (1, "Hello."));
        let written = serde_json::to_string(first).unwrap();
        assert_eq!(written, ROW);
    }

    #[test]
    fn what_is_wrong_names_its_line() {
        let second = |line: &str| said(&format!("{ROW}\n\n{line}\n"));
        assert!(second("{").starts_with("line 3: it is not a row"));
        let other = second(r#"{"prompt":"a","completion":"b"}"#);
        assert!(other.contains("it has: completion, prompt"), "{other}");
        let open = second(r#"{"messages":[{"role":"user","content":"a"}]}"#);
        assert!(open.contains("assistant's answer"), "{open}");
        let empty =
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" "}]}"#;
        assert!(second(empty).contains("not empty"));
        let alone = r#"{"messages":[{"role":"assistant","content":"a"}]}"#;
        assert!(second(alone).contains("answer to something"));
        let role =
            r#"{"messages":[{"role":"tool","content":"a"},{"role":"assistant","content":"b"}]}"#;
        assert!(second(role).contains("\"tool\""));
        assert!(said("\n \n").contains("holds no conversation"));
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        let error = Rows::new(endless).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("line 1: it is longer"));
    }
}
