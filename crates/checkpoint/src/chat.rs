//! Conversations to token ids, by the model's own chat template.

use crate::tokenizer::{Tokenizer, TokenizerError};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Longest template that is read, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Most messages of one conversation.
pub const MAX_MESSAGES: usize = 4096;
/// Longest conversation, all contents together, in bytes.
pub const MAX_CONVERSATION_BYTES: usize = 2 << 20;
/// Instructions that a template may run: a loop without an end stops here.
const FUEL: u64 = 10_000_000;
const NAME: &str = "chat_template";

#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error(
        "the model has no chat template; it can continue a text, but not answer a conversation"
    )]
    NoTemplate,
    #[error("the chat template cannot be used: {reason}")]
    Template { reason: String },
    #[error("the chat template refused the conversation: {reason}")]
    Refused { reason: String },
    #[error("{0}")]
    Conversation(String),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or another word that the template knows.
    pub role: String,
    pub content: String,
}

/// To whom a token of a rendered conversation belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The template's own: markers, role names, the default system prompt.
    Template,
    /// The content of the message of that index.
    Message(usize),
}

/// A conversation as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTokens {
    /// As rendered. Special tokens look the same whether the template or a message wrote them.
    pub text: String,
    pub ids: Vec<u32>,
    /// Of each token, by its last byte.
    pub parts: Vec<Part>,
}

/// A compiled chat template with the texts that it may refer to.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    begin_token: String,
    end_token: String,
}

/// What is read of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<serde_json::Value>,
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Described { content: String },
}

impl TokenText {
    fn text(self) -> String {
        match self {
            Self::Plain(text) | Self::Described { content: text } => text,
        }
    }
}

impl ChatTemplate {
    /// Compiles a model's template: `chat_template.jinja` where the model has one, else the one in
    /// `tokenizer_config.json` (of several, the one called `default`).
    ///
    /// # Errors
    /// [`ChatError::NoTemplate`] when neither has one.
    pub fn from_files(
        chat_template: Option<&[u8]>,
        tokenizer_config: Option<&[u8]>,
    ) -> Result<Self, ChatError> {
        let broken = |reason: String| ChatError::Template { reason };
        let config: TokenizerConfig = match tokenizer_config {
            Some(json) if json.len() > MAX_TEMPLATE_BYTES * 16 => {
                return Err(broken(format!(
                    "tokenizer_config.json is {} bytes long",
                    json.len()
                )));
            }
            Some(json) => serde_json::from_slice(json)
                .map_err(|error| broken(format!("tokenizer_config.json: {error}")))?,
            None => TokenizerConfig::default(),
        };
        let source = match chat_template {
            Some(bytes) => std::str::from_utf8(bytes)
                .map_err(|error| broken(error.to_string()))?
                .to_owned(),
            None => default_template(config.chat_template).ok_or(ChatError::NoTemplate)?,
        };
        let text = |token: Option<TokenText>| token.map(TokenText::text).unwrap_or_default();
        Self::new(source, text(config.bos_token), text(config.eos_token))
    }

    fn new(source: String, begin_token: String, end_token: String) -> Result<Self, ChatError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(ChatError::Template {
                reason: format!("it is {} bytes long", source.len()),
            });
        }
        let mut environment = Environment::new();
        // As transformers sets Jinja up. It also offers `strftime_now`; without it templates take a
        // fixed date, and a conversation is the same tokens on every day.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| ChatError::Template {
                reason: error.to_string(),
            })?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| ChatError::Template {
                reason: error.to_string(),
            })?;
        Ok(Self {
            environment,
            begin_token,
            end_token,
        })
    }

    /// The conversation as text. With `add_generation_prompt` it ends where an answer begins.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        check(messages)?;
        self.render_unchecked(messages, add_generation_prompt)
    }

    /// The conversation as token ids. Special tokens of the template are special; the same strings
    /// in a message are ordinary text. For other text the ids are those of the rendered whole.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<ChatTokens, ChatError> {
        check(messages)?;
        let marks = Marks::unused_in(messages)?;
        // A mark inside whatever looks like a special token keeps the template's apart from it.
        let escaped = messages
            .iter()
            .map(|message| {
                Ok(Message {
                    role: message.role.clone(),
                    content: escape(tokenizer, &message.content, marks)?,
                })
            })
            .collect::<Result<Vec<_>, ChatError>>()?;
        let rendered = self.render_unchecked(&escaped, add_generation_prompt)?;
        let ranges = self.content_ranges(&escaped, add_generation_prompt, &rendered, marks)?;
        let part_at = |byte: usize| {
            let following = ranges.partition_point(|(range, _)| range.end <= byte);
            match ranges.get(following) {
                Some((range, message)) if range.contains(&byte) => Part::Message(*message),
                _ => Part::Template,
            }
        };

        let escape_mark = marks.escape();
        let mut tokens = ChatTokens {
            text: String::new(),
            ids: Vec::new(),
            parts: Vec::new(),
        };
        for split in tokenizer.split_specials(&rendered)? {
            let piece = &rendered[split.start..split.end];
            if let Some(id) = split.id {
                tokens.text.push_str(piece);
                tokens.parts.push(part_at(split.end - 1));
                tokens.ids.push(id);
                continue;
            }
            let clean = piece.replace(escape_mark, "");
            // Where the bytes of `clean` lie in `rendered`.
            let mut removed = piece
                .match_indices(escape_mark)
                .map(|(at, mark)| (at, mark.len()))
                .peekable();
            let mut shift = 0;
            for (id, end) in tokenizer.encode_with_offsets(&clean)? {
                let last = end.saturating_sub(1);
                while let Some((_, length)) = removed.next_if(|(at, _)| *at <= last + shift) {
                    shift += length;
                }
                tokens.ids.push(id);
                tokens.parts.push(part_at(split.start + last + shift));
            }
            tokens.text.push_str(&clean);
        }
        Ok(tokens)
    }

    fn render_unchecked(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        let refused = |error: Error| ChatError::Refused {
            reason: error
                .detail()
                .map_or_else(|| error.to_string(), str::to_owned),
        };
        let template = self.environment.get_template(NAME).map_err(refused)?;
        template
            .render(context! {
                messages => Serde(messages),
                add_generation_prompt => add_generation_prompt,
                bos_token => self.begin_token.as_str(),
                eos_token => self.end_token.as_str(),
            })
            .map_err(refused)
    }

    /// Where the contents stand in `rendered`, in order: from a second rendering in which each is
    /// enclosed in marks. A template that does something else with a marked content (a test for how
    /// it begins) gets its contents searched for instead.
    fn content_ranges(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        rendered: &str,
        marks: Marks,
    ) -> Result<Vec<(Range<usize>, usize)>, ChatError> {
        let marked: Vec<Message> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| {
                let core = message.content.trim();
                let lead =
                    &message.content[..message.content.len() - message.content.trim_start().len()];
                let trail = &message.content[lead.len() + core.len()..];
                let mark = marks.message(index);
                let content = if core.is_empty() {
                    message.content.clone()
                } else {
                    format!("{lead}{mark}{core}{mark}{trail}")
                };
                Message {
                    role: message.role.clone(),
                    content,
                }
            })
            .collect();
        let mut ranges = Vec::new();
        let mut plain = String::with_capacity(rendered.len());
        let mut open: Option<(usize, usize)> = None;
        for character in self
            .render_unchecked(&marked, add_generation_prompt)
            .unwrap_or_default()
            .chars()
        {
            match (
                marks
                    .index_of(character)
                    .filter(|index| *index < messages.len()),
                open,
            ) {
                (None, _) => plain.push(character),
                (Some(message), Some((opened, start))) if message == opened => {
                    ranges.push((start..plain.len(), message));
                    open = None;
                }
                (Some(message), _) => open = Some((message, plain.len())),
            }
        }
        if plain != rendered || open.is_some() {
            ranges = search(messages, rendered);
        }
        for (range, message) in &mut ranges {
            include_blanks(range, &messages[*message].content, rendered);
        }
        Ok(ranges)
    }
}

/// Contents in the order of the messages, each behind the one before it.
fn search(messages: &[Message], rendered: &str) -> Vec<(Range<usize>, usize)> {
    let mut from = 0;
    let mut ranges = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let core = message.content.trim();
        if let Some(at) = rendered[from..].find(core).filter(|_| !core.is_empty()) {
            ranges.push((from + at..from + at + core.len(), index));
            from += at + core.len();
        }
    }
    ranges
}

/// Widens the range by the blanks around the content, where the template kept them.
fn include_blanks(range: &mut Range<usize>, content: &str, rendered: &str) {
    let lead = content.len() - content.trim_start().len();
    let trail = content.trim_end().len();
    if rendered[..range.start].ends_with(&content[..lead]) {
        range.start -= lead;
    }
    if rendered[range.end..].starts_with(&content[trail..]) {
        range.end += content.len() - trail;
    }
}

fn check(messages: &[Message]) -> Result<(), ChatError> {
    let fail = |reason: String| Err(ChatError::Conversation(reason));
    if messages.len() > MAX_MESSAGES {
        return fail(format!(
            "the conversation has {} messages, more than {MAX_MESSAGES}; shorten it",
            messages.len()
        ));
    }
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    if bytes > MAX_CONVERSATION_BYTES {
        return fail(format!(
            "the conversation is {bytes} bytes long, more than {MAX_CONVERSATION_BYTES}; shorten it"
        ));
    }
    // Templates write the role next to special tokens, so a role must not be able to spell one.
    let word = |role: &str| {
        (1..=32).contains(&role.len())
            && role
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    if let Some(message) = messages.iter().find(|message| !word(&message.role)) {
        let role: String = message.role.chars().take(40).collect();
        return fail(format!(
            "{role:?} is no role; use `system`, `user` or `assistant`"
        ));
    }
    Ok(())
}

fn escape(tokenizer: &Tokenizer, content: &str, marks: Marks) -> Result<String, ChatError> {
    let mut escaped = String::with_capacity(content.len());
    for split in tokenizer.split_specials(content)? {
        let piece = &content[split.start..split.end];
        if split.id.is_none() {
            escaped.push_str(piece);
            continue;
        }
        // Behind every character, so that no shorter special token is left inside.
        for character in piece.chars() {
            escaped.push(character);
            escaped.push(marks.escape());
        }
    }
    Ok(escaped)
}

/// Private-use characters that stand in no message.
#[derive(Clone, Copy)]
struct Marks {
    first: u32,
}

impl Marks {
    fn unused_in(messages: &[Message]) -> Result<Self, ChatError> {
        // The two private-use planes and the beginning of the basic one.
        [0xf_0000_u32, 0x10_0000, 0xe000]
            .into_iter()
            .map(|first| Self { first })
            .find(|marks| {
                messages.iter().all(|message| {
                    message
                        .content
                        .chars()
                        .all(|character| marks.index_of(character).is_none())
                })
            })
            .ok_or_else(|| {
                ChatError::Conversation(
                    "the messages use private characters of all three Unicode ranges; remove some"
                        .into(),
                )
            })
    }

    fn escape(self) -> char {
        self.message(MAX_MESSAGES)
    }

    fn message(self, index: usize) -> char {
        u32::try_from(index)
            .ok()
            .and_then(|index| char::from_u32(self.first + index))
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn index_of(self, character: char) -> Option<usize> {
        let index = u32::from(character).checked_sub(self.first)? as usize;
        (index <= MAX_MESSAGES).then_some(index)
    }
}

/// `tokenizer_config.json` has one template, or a list of named ones.
fn default_template(field: Option<serde_json::Value>) -> Option<String> {
    match field? {
        serde_json::Value::String(template) => Some(template),
        serde_json::Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .or(named.first())
            .and_then(|entry| Some(entry["template"].as_str()?.to_owned())),
        _ => None,
    }
}
