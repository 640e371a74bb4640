//! Jinja as transformers sets it up for chat templates (`_compile_jinja_template` in its `chat_template_utils.py`).

use super::{ChatError, MAX_TEMPLATE_BYTES};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::Formatter;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Instructions that a template may run: a loop without an end stops here.
const FUEL: u64 = 10_000_000;

/// An environment that holds `source` as its template `name`.
///
/// # Errors
/// A template that is too long or that cannot be compiled.
pub(super) fn environment(
    name: &'static str,
    source: String,
) -> Result<Environment<'static>, ChatError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(ChatError::Template {
            reason: format!("it is {} bytes long", source.len()),
        });
    }
    let unusable = |error: Error| ChatError::Template {
        reason: error.to_string(),
    };
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(unusable)?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| {
        Err::<String, _>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", to_json);
    // A template that can do without today's date takes a fixed one, so that a conversation is the same tokens on every day.
    if !source.contains("strftime_now is defined") {
        environment.add_function("strftime_now", strftime_now);
    }
    environment
        .add_template_owned(name, with_generation_as_scope(&source))
        .map_err(unusable)?;
    Ok(environment)
}

/// `datetime.now().strftime(format)`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    write!(text, "{}", chrono::Local::now().format(format)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now does not know the format {format:?}"),
        )
    })?;
    Ok(text)
}

/// Replaces the tags `generation` and `endgeneration`, which mark what a model is trained on, by those of a scope: they
/// change nothing in the text.
fn with_generation_as_scope(source: &str) -> String {
    let mut replaced = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        replaced.push_str(before);
        let word = tag.trim_start_matches(['-', '+']).trim_start();
        let length = word
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(word.len());
        let scope = match &word[..length] {
            "generation" => Some("with"),
            "endgeneration" => Some("endwith"),
            _ => None,
        };
        rest = match scope {
            Some(scope) => {
                replaced.push_str(&tag[..tag.len() - word.len()]);
                replaced.push_str(scope);
                &word[length..]
            }
            None => tag,
        };
    }
    replaced + rest
}

/// transformers' filter `tojson`, which is Python's `json.dumps` and not Jinja's own.
fn to_json(
    value: Value,
    ensure_ascii: Option<bool>,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let unusable =
        |reason: String| Error::new(ErrorKind::InvalidOperation, format!("tojson: {reason}"));
    let ensure_ascii = ensure_ascii.or(options.get("ensure_ascii")?);
    let indent = indent.or(options.get("indent")?).filter(|v| !v.is_none());
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(count) => Some(" ".repeat(usize::try_from(count)?.min(64))),
    };
    let item = if indent.is_some() { "," } else { ", " };
    let separators = separators.unwrap_or_else(|| vec![item.into(), ": ".into()]);
    let [item_separator, key_separator] = separators
        .try_into()
        .map_err(|_| unusable("separators are two texts".into()))?;
    let mut json = Vec::new();
    let format = PythonFormat {
        ensure_ascii: ensure_ascii.unwrap_or(false),
        indent,
        item_separator,
        key_separator,
        depth: 0,
        empty: true,
    };
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, format);
    let written = if sort_keys == Some(true) {
        sorted(&value).and_then(|value| value.serialize(&mut serializer))
    } else {
        value.serialize(&mut serializer)
    };
    written.map_err(|error| unusable(error.to_string()))?;
    String::from_utf8(json).map_err(|error| unusable(error.to_string()))
}

fn sorted(value: &Value) -> Result<serde_json::Value, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    Ok(value)
}

/// The layout of Python's `json.dumps`.
struct PythonFormat {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    depth: usize,
    /// Whether nothing has been written into the innermost array or object.
    empty: bool,
}

impl PythonFormat {
    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        match &self.indent {
            Some(indent) => write!(writer, "\n{}", indent.repeat(self.depth)),
            None => Ok(()),
        }
    }

    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item_separator.as_bytes())?;
        }
        self.new_line(writer)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }
}

impl Formatter for PythonFormat {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key_separator.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template's text without a conversation. The expected texts are those of transformers 5.23.
    fn rendered(source: &str) -> String {
        let environment = environment("test", source.into()).unwrap();
        let template = environment.get_template("test").unwrap();
        template.render(()).unwrap()
    }

    #[test]
    fn tojson_is_pythons() {
        for (expression, json) in [
            (
                r#"{'b': [1, 2.0, true, none], 'a': {}} | tojson"#,
                r#"{"b": [1, 2.0, true, null], "a": {}}"#,
            ),
            (
                r#"[[], {'a': []}] | tojson(indent=1)"#,
                "[\n [],\n {\n  \"a\": []\n }\n]",
            ),
            (
                r#"[1, {'a': 2}] | tojson(separators=(',', ':'))"#,
                r#"[1,{"a":2}]"#,
            ),
            (
                r#"{'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true)"#,
                r#"{"a": {"c": 2, "d": 1}, "b": 1}"#,
            ),
            (
                r#""<é🦙 & 'x' \"\\\n>" | tojson"#,
                r#""<é🦙 & 'x' \"\\\n>""#,
            ),
            (
                r#""é🦙" | tojson(ensure_ascii=true)"#,
                r#""\u00e9\ud83e\udd99""#,
            ),
        ] {
            assert_eq!(
                rendered(&format!("{{{{ {expression} }}}}")),
                json,
                "{expression}"
            );
        }
    }

    #[test]
    fn generation_tags_leave_their_text_and_their_blanks() {
        assert_eq!(
            rendered(
                "{% if true %}a {% generation %}b\n{% endgeneration %} c{%- generation -%} d {%- endgeneration -%} e{% endif %}"
            ),
            "a b\n cde"
        );
        assert_eq!(
            rendered("generation {{ '%} endgeneration' }}"),
            "generation %} endgeneration"
        );
    }

    #[test]
    fn the_date_is_todays_for_templates_that_need_one() {
        let today = chrono::Local::now().format("%d %b %Y").to_string();
        assert_eq!(rendered("{{ strftime_now('%d %b %Y') }}"), today);
        let either =
            "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}2024{% endif %}";
        assert_eq!(rendered(either), "2024");
        let environment = environment("test", "{{ strftime_now('%!') }}".into()).unwrap();
        let error = environment
            .get_template("test")
            .unwrap()
            .render(())
            .unwrap_err();
        assert!(error.to_string().contains("%!"), "{error}");
    }
}
