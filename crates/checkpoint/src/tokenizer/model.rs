//! The library's BPE from `model` of a `tokenizer.json`.

use super::component::unknown;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokenizers::models::bpe::{BPE, Vocab};

/// Words of a text whose tokens are kept, so that a word is put together once.
const CACHED_WORDS: usize = 10_000;

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    name: Option<String>,
}

#[derive(Deserialize)]
struct File {
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    vocab: Vocab,
    merges: Vec<Merge>,
}

/// Two tokens, in a list or in a text with a blank between them.
struct Merge(Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("two tokens to be merged")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Merge, E> {
        // The first line of the files that these lists once were.
        if text.starts_with("#version") {
            return Ok(Merge(None));
        }
        match text.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => {
                Ok(Merge(Some((left.to_owned(), right.to_owned()))))
            }
            _ => Err(E::custom(format_args!("{text:?} is not two tokens"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Merge, A::Error> {
        let two = (tokens.next_element()?, tokens.next_element()?);
        let (Some(left), Some(right)) = two else {
            return Err(A::Error::custom("a merge is not two tokens"));
        };
        if tokens.next_element::<String>()?.is_some() {
            return Err(A::Error::custom("a merge is more than two tokens"));
        }
        Ok(Merge(Some((left, right))))
    }
}

/// # Errors
/// Names what only the program knows; a vocabulary and merges that do not belong together.
pub(super) fn bpe(json: &RawValue) -> Result<BPE, String> {
    let broken = |error: serde_json::Error| format!("its model: {error}");
    let kind: Kind = serde_json::from_slice(json.get().as_bytes()).map_err(broken)?;
    if let Some(name) = kind.name.filter(|name| name != "BPE") {
        return Err(unknown(&format!("model `{name}`")));
    }
    let file: File = serde_json::from_slice(json.get().as_bytes()).map_err(broken)?;
    let affixes = [
        (&file.continuing_subword_prefix, "continuing_subword_prefix"),
        (&file.end_of_word_suffix, "end_of_word_suffix"),
    ];
    for (affix, name) in affixes {
        if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
            return Err(unknown(&format!("model's {name}")));
        }
    }
    if file.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(unknown("model's dropout"));
    }
    let merges: Vec<(String, String)> = file
        .merges
        .into_iter()
        .filter_map(|merge| merge.0)
        .collect();
    // The library takes for granted that a merged token is no longer than the longest.
    let longest = file.vocab.keys().map(String::len).max().unwrap_or(0);
    if let Some((left, right)) = merges
        .iter()
        .find(|(left, right)| left.len() + right.len() > longest)
    {
        return Err(format!(
            "its model merges {left:?} and {right:?} to a token that is not in the vocabulary"
        ));
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(file.vocab, merges)
        .cache_capacity(CACHED_WORDS)
        .fuse_unk(file.fuse_unk.unwrap_or(false))
        .byte_fallback(file.byte_fallback.unwrap_or(false))
        .ignore_merges(file.ignore_merges.unwrap_or(false));
    if let Some(token) = file.unk_token {
        builder = builder.unk_token(token);
    }
    builder
        .build()
        .map_err(|error| format!("its model: {error}"))
}
