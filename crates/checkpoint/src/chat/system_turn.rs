//! Templates without a place for a system message: its text opens the first user turn instead.

use super::{ChatTemplate, Message};
use std::ops::Range;

/// Between the two texts, as published templates that fold a system message themselves have it (Gemma 3's).
const BETWEEN: &str = "\n\n";

impl ChatTemplate {
    /// Whether a system message is seen in what the template makes of a conversation.
    pub(super) fn shows_system_messages(&self) -> bool {
        let message = |role: &str, content: &str| Message {
            role: role.into(),
            content: content.into(),
        };
        let asked = message("user", "Hello.");
        let system = "Be kind to everyone.";
        let both = [message("system", system), asked.clone()];
        match self.render_unchecked(&both, true) {
            Ok(text) => text.contains(system),
            // A template that refuses every conversation says why when it is asked.
            Err(_) => self.render_unchecked(&[asked], true).is_err(),
        }
    }

    /// The messages with a leading system message put into the first user turn, where the template has no place for it.
    pub(super) fn folded(&self, messages: &[Message]) -> Option<Vec<Message>> {
        let (system, rest) = messages.split_first()?;
        if self.system_role || system.role != "system" {
            return None;
        }
        let (asked, rest) = match rest.split_first() {
            Some((first, rest)) if first.role == "user" => (first.content.as_str(), rest),
            _ => ("", rest),
        };
        let told = system.content.trim();
        let content = match (told, asked) {
            ("", asked) => asked.to_owned(),
            (told, "") => told.to_owned(),
            (told, asked) => format!("{told}{BETWEEN}{asked}"),
        };
        let first = Message {
            role: "user".into(),
            content,
        };
        Some(std::iter::once(first).chain(rest.iter().cloned()).collect())
    }
}

/// The ranges of `messages` in `rendered`, from those of [`ChatTemplate::folded`] messages. What stands between the system
/// message and the user's is nobody's.
pub(super) fn unfolded(
    ranges: Vec<(Range<usize>, usize)>,
    messages: &[Message],
    rendered: &str,
) -> Vec<(Range<usize>, usize)> {
    let joined = usize::from(messages.get(1).is_some_and(|second| second.role == "user"));
    let told = messages.first().map_or("", |system| system.content.trim());
    let mut unfolded = Vec::with_capacity(ranges.len() + 1);
    for (range, message) in ranges {
        if message > 0 {
            unfolded.push((range, message + joined));
            continue;
        }
        let asked = match rendered[range.clone()].strip_prefix(told) {
            Some(_) if !told.is_empty() => {
                let end = range.start + told.len();
                unfolded.push((range.start..end, 0));
                (end + BETWEEN.len()).min(range.end)..range.end
            }
            _ => range,
        };
        if joined == 1 && !asked.is_empty() {
            unfolded.push((asked, 1));
        }
    }
    unfolded
}
