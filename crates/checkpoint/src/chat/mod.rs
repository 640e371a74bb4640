//! Conversations to token ids, by the model's own chat template.

mod jinja;
mod marks;
mod system_turn;

use crate::published_file::plain_text;
use crate::tokenizer::{Tokenizer, TokenizerError};
use marks::{Lookalikes, Marks, Rendered};
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Longest template that is read, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Most messages of one conversation.
pub const MAX_MESSAGES: usize = 4096;
/// Longest conversation, all contents together, in bytes.
pub const MAX_CONVERSATION_BYTES: usize = 2 << 20;
const NAME: &str = "chat_template";

#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error(
        "the model has no chat template: it continues a text and does not answer, and a trait is found in answers; open a model that was trained for conversations (often called “Instruct” or “Chat”)"
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

/// Who wrote a token of a rendered conversation.
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
    /// The writer of each token's last byte.
    pub parts: Vec<Part>,
}

/// A compiled chat template with the special tokens that it may name.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and the like.
    special_tokens: BTreeMap<String, String>,
    /// Whether the tokenizer's settings ask for a `bos_token` before a text.
    begins_with_bos: bool,
    /// Whether it shows a system message to the model. Where it does not, the message's text opens the first user turn.
    system_role: bool,
    /// Whether it is a model's own, and not [`CONTINUED`].
    answers: bool,
}

/// The template of a model that has none: its conversations are one text.
const CONTINUED: &str =
    "{{ opening }}{% for message in messages %}{{ message.content }}{% endfor %}";

impl ChatTemplate {
    /// The template of a model: its own, or for one that has none, one that puts texts behind one another.
    ///
    /// # Errors
    /// A template that cannot be used.
    pub fn of_model(
        chat_template: Option<&[u8]>,
        tokenizer_config: Option<&[u8]>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, ChatError> {
        match Self::from_files(chat_template, tokenizer_config) {
            Err(ChatError::NoTemplate) => {}
            found => return found,
        }
        let continued = Some(CONTINUED.as_bytes());
        let mut template = Self::from_files(continued, tokenizer_config)?;
        let opening = match tokenizer.opening() {
            opening if opening.is_empty() && template.begins_with_bos => {
                template.special_tokens["bos_token"].clone()
            }
            opening => opening,
        };
        template.special_tokens.insert("opening".into(), opening);
        template.answers = false;
        Ok(template)
    }

    /// Fails unless the model answers conversations, which a trait needs.
    pub fn check_answers(&self) -> Result<(), ChatError> {
        match self.answers {
            true => Ok(()),
            false => Err(ChatError::NoTemplate),
        }
    }

    /// What a person should know of how the model reads conversations.
    pub fn notice(&self) -> Option<&'static str> {
        match (self.answers, self.system_role) {
            (false, _) => Some(
                "This model has no chat template: it continues what you write and does not answer it, and no trait can be made for it.",
            ),
            (true, false) => Some(
                "This model's chat template has no place for a system prompt: its text is put before your first message.",
            ),
            (true, true) => None,
        }
    }

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
        let mut config: BTreeMap<String, serde_json::Value> = match tokenizer_config {
            Some(json) if json.len() > MAX_TEMPLATE_BYTES * 16 => {
                return Err(broken(format!(
                    "tokenizer_config.json is {} bytes long",
                    json.len()
                )));
            }
            Some(json) => plain_text(json)
                .map_err(|pointer| pointer.to_string())
                .and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string()))
                .map_err(|reason| broken(format!("tokenizer_config.json: {reason}")))?,
            None => BTreeMap::new(),
        };
        let source = match chat_template {
            Some(bytes) => {
                let bytes = plain_text(bytes).map_err(|pointer| broken(pointer.to_string()))?;
                std::str::from_utf8(&bytes)
                    .map_err(|error| broken(error.to_string()))?
                    .to_owned()
            }
            None => {
                default_template(config.remove("chat_template")).ok_or(ChatError::NoTemplate)?
            }
        };
        // A model without them has them empty here, so that a template may put them together with other text.
        let mut special_tokens: BTreeMap<String, String> = ["bos_token", "eos_token"]
            .map(|name| (name.to_owned(), String::new()))
            .into();
        let named = config.iter().filter(|(name, _)| name.ends_with("_token"));
        special_tokens.extend(named.filter_map(|(name, value)| {
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((name.clone(), text.to_owned()))
        }));
        let begins_with_bos = config.get("add_bos_token") == Some(&true.into());
        let mut template = Self {
            environment: jinja::environment(NAME, source)?,
            special_tokens,
            begins_with_bos,
            system_role: true,
            answers: true,
        };
        template.system_role = template.shows_system_messages();
        Ok(template)
    }

    /// The conversation as text. With `add_generation_prompt` it ends where an answer begins.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        check(messages)?;
        let folded = self.folded(messages);
        self.render_unchecked(folded.as_deref().unwrap_or(messages), add_generation_prompt)
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
        let folded = self.folded(messages);
        let shown = folded.as_deref().unwrap_or(messages);
        let marks = Marks::unused_in(shown)?;
        let rendered = self.render_apart(tokenizer, shown, add_generation_prompt, marks)?;
        let mut ranges =
            self.content_ranges(shown, add_generation_prompt, &rendered.text, marks)?;
        if folded.is_some() {
            ranges = system_turn::unfolded(ranges, messages, &rendered.text);
        }
        let part_at = |byte: usize| {
            let following = ranges.partition_point(|(range, _)| range.end <= byte);
            match ranges.get(following) {
                Some((range, message)) if range.contains(&byte) => Part::Message(*message),
                _ => Part::Template,
            }
        };

        let Rendered { text, lookalikes } = rendered;
        let mut ids = Vec::new();
        let mut parts = Vec::new();
        let mut start = 0;
        let mut specials: Vec<(Range<usize>, Option<u32>)> = tokenizer
            .split_specials(&text)?
            .into_iter()
            .filter(|split| split.id.is_some())
            .map(|split| (split.start..split.end, split.id))
            .filter(|(range, _)| !overlaps(&lookalikes, range))
            .collect();
        specials.push((text.len()..text.len(), None));
        for (range, special) in specials {
            for (id, end) in tokenizer.encode_with_offsets(&text[start..range.start])? {
                ids.push(id);
                parts.push(part_at(start + end.saturating_sub(1)));
            }
            if let Some(id) = special {
                ids.push(id);
                parts.push(part_at(range.end - 1));
            }
            start = range.end;
        }
        Ok(ChatTokens { text, ids, parts })
    }

    /// The tokens that end an answer to this template's prompts, whatever the model's configuration says: the one that the
    /// template puts behind an assistant's turn, and the tokenizer's own `eos_token`.
    pub fn end_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let end_of_text = self.special_tokens.get("eos_token");
        let end_of_text = end_of_text.and_then(|token| tokenizer.token_id(token));
        let turn_end = self.turn_end(tokenizer);
        turn_end.into_iter().chain(end_of_text).collect()
    }

    fn turn_end(&self, tokenizer: &Tokenizer) -> Option<u32> {
        const ANSWER: &str = "Certainly.";
        let message = |role: &str, content: &str| Message {
            role: role.into(),
            content: content.into(),
        };
        let messages = [message("user", "Hello"), message("assistant", ANSWER)];
        let rendered = self.render(&messages, false).ok()?;
        let behind = &rendered[rendered.rfind(ANSWER)? + ANSWER.len()..];
        tokenizer.leading_added_token(behind.trim_start())
    }

    /// The conversation as text, and where messages spell special tokens in it.
    ///
    /// Templates look into contents (for `</think>`, say), so that what is rendered is the contents as they are. A second
    /// rendering, of marked contents, says which special tokens came from them; it counts where it is the same text
    /// without its marks. Where no way of marking leaves the text alone, the text is that of the contents in which every
    /// special token is broken by marks: nothing that a message spells ever becomes a special token.
    fn render_apart(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        marks: Marks,
    ) -> Result<Rendered, ChatError> {
        let text = self.render_unchecked(messages, add_generation_prompt)?;
        let found = Lookalikes::find(tokenizer, messages)?;
        if found.is_empty() {
            return Ok(Rendered {
                text,
                lookalikes: Vec::new(),
            });
        }
        let broken = found.broken(messages, marks);
        let broken = self
            .render_unchecked(&broken, add_generation_prompt)
            .map(|rendered| marks::broken_tokens(&rendered, marks));
        if broken.as_ref().is_ok_and(|broken| broken.text == text) {
            return broken;
        }
        let doubled = found.doubled(messages, marks);
        let doubled = self
            .render_unchecked(&doubled, add_generation_prompt)
            .ok()
            .and_then(|rendered| found.doubled_tokens(&rendered, marks));
        match doubled {
            Some(doubled) if doubled.text == text => Ok(doubled),
            _ => broken,
        }
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
        // Templates ask whether there are tools and documents with `is not none`.
        let none = || Value::from(());
        let context = [
            ("messages", Value::from(Serde(messages))),
            ("add_generation_prompt", add_generation_prompt.into()),
            // The switch of models that otherwise think before they answer (Qwen 3, SmolLM3).
            ("enable_thinking", false.into()),
            ("tools", none()),
            ("documents", none()),
        ];
        let tokens = self.special_tokens.iter();
        let tokens = tokens.map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
        let all = context.into_iter().chain(tokens);
        let all: BTreeMap<String, Value> = all.map(|(name, value)| (name.into(), value)).collect();
        template.render(Value::from(all)).map_err(refused)
    }

    /// The ranges of the contents in `rendered`, in order, by a second rendering in which each content is
    /// enclosed in marks. Where a template does something else with a marked content (it may test how
    /// one begins), the contents are searched for instead.
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
        let mut plain = String::with_capacity(rendered.len());
        let mut found: Vec<(usize, usize)> = Vec::new();
        let marked = self.render_unchecked(&marked, add_generation_prompt);
        for character in marked.unwrap_or_default().chars() {
            let index = marks.index_of(character);
            match index.filter(|index| *index < messages.len()) {
                None => plain.push(character),
                Some(message) => found.push((message, plain.len())),
            }
        }
        let mut ranges = if plain == rendered {
            between_marks(messages, &found, rendered)
        } else {
            search(messages, rendered)
        };
        for (range, message) in &mut ranges {
            include_blanks(range, &messages[*message].content, rendered);
        }
        Ok(ranges)
    }
}

/// The ranges between two marks of a message. Where the template left one mark out with a part of the content (thoughts,
/// say), the range is what the text and the content have in common on the content's side of the other mark.
fn between_marks(
    messages: &[Message],
    marks: &[(usize, usize)],
    rendered: &str,
) -> Vec<(Range<usize>, usize)> {
    let mut ranges: Vec<(Range<usize>, usize)> = Vec::new();
    let mut marks = marks.iter().copied().peekable();
    while let Some((message, at)) = marks.next() {
        let range = match marks.next_if(|(next, _)| *next == message) {
            Some((_, end)) => at..end,
            None => {
                let core = messages[message].content.trim();
                let before = common(rendered[..at].chars().rev(), core.chars().rev());
                let behind = common(rendered[at..].chars(), core.chars());
                if before > behind {
                    let from = ranges.last().map_or(0, |(range, _)| range.end);
                    (at - before).max(from)..at
                } else {
                    at..at + behind
                }
            }
        };
        ranges.push((range, message));
    }
    ranges
}

/// Length in bytes of what two texts have in common from here on.
fn common(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    let equal = one.zip(other).take_while(|(one, other)| one == other);
    equal.map(|(character, _)| character.len_utf8()).sum()
}

/// Whether one of `sorted`, which do not overlap, overlaps `range`.
fn overlaps(sorted: &[Range<usize>], range: &Range<usize>) -> bool {
    let following = sorted.partition_point(|other| other.end <= range.start);
    sorted
        .get(following)
        .is_some_and(|other| other.start < range.end)
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
