//! Links of a later version than this program knows, or with a term that it does not know: whatever in them still reads
//! like this version's words is shown, and nothing else is done with it.

use crate::recipe::link::LinkError;
use crate::recipe::{MAX_LINE, MAX_MESSAGES, MAX_NAME, MAX_NOTE, Role};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    pub version: u32,
    /// The beginning of the first term of a plan that is not known here, where the version is.
    pub term: Option<String>,
    pub model: String,
    pub title: String,
    pub note: String,
    pub messages: Vec<(Role, String)>,
}

impl Newer {
    pub(crate) fn read(version: u32, term: Option<&str>, json: &[u8]) -> Result<Self, LinkError> {
        let value: Value = serde_json::from_slice(json)?;
        let cut = |text: &str, most: usize| {
            let end = (0..=most.min(text.len()))
                .rev()
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or(0);
            text[..end].to_owned()
        };
        let text = |value: &Value, most: usize| cut(value.as_str().unwrap_or_default(), most);
        let message = |value: &Value| {
            let roles = [Role::System, Role::User, Role::Assistant];
            let role = roles
                .into_iter()
                .find(|role| value["role"].as_str() == Some(role.name()))?;
            Some((role, value["text"].as_str()?.to_owned()))
        };
        let messages = value["messages"].as_array().map(Vec::as_slice);
        Ok(Self {
            version,
            term: term.map(|term| cut(term, MAX_NAME)),
            model: text(&value["model"]["name"], MAX_NAME),
            title: text(&value["look"]["title"], MAX_LINE),
            note: text(&value["look"]["note"], MAX_NOTE),
            messages: messages
                .unwrap_or_default()
                .iter()
                .filter_map(message)
                .take(MAX_MESSAGES)
                .collect(),
        })
    }

    /// A sentence for the person who opened the link.
    pub fn sentence(&self) -> String {
        let shown = if self.messages.is_empty() {
            "nothing of it can be shown here"
        } else {
            "its text is shown, but it cannot be replayed here"
        };
        let unknown = match &self.term {
            Some(term) => format!("it pushes by {term:?}, which is not known here"),
            None => format!("version {} of the format", self.version),
        };
        format!(
            "this link was made by a newer Trimtab ({unknown}): {shown}; get the newest Trimtab to open it"
        )
    }
}
