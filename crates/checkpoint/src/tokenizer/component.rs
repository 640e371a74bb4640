//! Parts of a `tokenizer.json` that say what they are: normalizers, pre-tokenizers, decoders.

use serde_json::Value;

/// One of them, or a sequence's member.
#[derive(Clone, Copy)]
pub(super) struct Component<'a> {
    /// Under which name it stands in the file.
    place: &'static str,
    pub kind: &'a str,
    value: &'a Value,
}

impl<'a> Component<'a> {
    /// What stands in `place`, sequences (whose members are called `members`) laid out; nothing for `null`.
    ///
    /// # Errors
    /// Something that does not say its type.
    pub fn list(place: &'static str, value: &'a Value, members: &str) -> Result<Vec<Self>, String> {
        let mut list = Vec::new();
        // Those still to come, the next one last. A file cannot nest deeper than its parser allows.
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if value.is_null() {
                continue;
            }
            let kind = value.get("type").and_then(Value::as_str);
            let kind = kind.ok_or_else(|| format!("its {place} does not say its type"))?;
            let component = Self { place, kind, value };
            if kind == "Sequence" {
                let members = value.get(members).and_then(Value::as_array);
                let members = members.ok_or_else(|| component.wrong("has no members"))?;
                open.extend(members.iter().rev());
            } else {
                list.push(component);
            }
        }
        Ok(list)
    }

    pub fn unknown(self) -> String {
        unknown(&format!("{} `{}`", self.place, self.kind))
    }

    pub fn wrong(self, what: &str) -> String {
        format!("its {} `{}` {what}", self.place, self.kind)
    }

    /// # Errors
    /// A name that is missing or stands for something else than yes or no.
    pub fn flag(self, name: &str) -> Result<bool, String> {
        let flag = self.value.get(name).and_then(Value::as_bool);
        flag.ok_or_else(|| self.wrong(&format!("says neither yes nor no to {name}")))
    }

    /// # Errors
    /// A name that is missing or stands for something else than a text.
    pub fn text(self, name: &str) -> Result<&'a str, String> {
        let text = self.value.get(name).and_then(Value::as_str);
        text.ok_or_else(|| self.wrong(&format!("has no text for {name}")))
    }

    /// # Errors
    /// A name that is missing or stands for something else than one character.
    pub fn character(self, name: &str) -> Result<char, String> {
        let mut characters = self.text(name)?.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(character),
            _ => Err(self.wrong(&format!("has more or less than one character for {name}"))),
        }
    }

    /// # Errors
    /// A name that is missing or stands for something else than a number of things.
    pub fn count(self, name: &str) -> Result<usize, String> {
        let count = self.value.get(name).and_then(Value::as_u64);
        count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| self.wrong(&format!("has no number for {name}")))
    }

    /// What `name` stands for, where it is there.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }
}

/// For what the program reads and the browser does not.
pub(super) fn unknown(what: &str) -> String {
    format!(
        "its {what} is not known in the browser; the program `trimtab` reads it, on the command line"
    )
}
