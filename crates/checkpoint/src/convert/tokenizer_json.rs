//! `tokenizer.json` from the vocabulary of a GGUF file.

use super::ConvertError;
use super::pre_tokenizers::PreTokenizer;
use super::vocabulary::{CONTROL, UNKNOWN, USER_DEFINED, Vocabulary};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::json;

#[derive(Serialize)]
struct TokenizerJson<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: Option<serde_json::Value>,
    pre_tokenizer: Option<serde_json::Value>,
    post_processor: (),
    decoder: serde_json::Value,
    model: Bpe<'a>,
}

#[derive(Serialize)]
struct AddedToken<'a> {
    id: usize,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
struct Bpe<'a> {
    r#type: &'static str,
    dropout: (),
    unk_token: Option<&'a str>,
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    #[serde(serialize_with = "in_id_order")]
    vocab: &'a [String],
    merges: Vec<(&'a str, &'a str)>,
}

fn in_id_order<S: Serializer>(tokens: &&[String], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(tokens.len()))?;
    for (id, token) in tokens.iter().enumerate() {
        map.serialize_entry(token, &id)?;
    }
    map.end()
}

/// Why a vocabulary makes no tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    #[error("{0}; put the model's own tokenizer.json beside the GGUF file, and it will be used")]
    Unsupported(String),
    #[error("its vocabulary has neither merges nor scores")]
    NoMerges,
}

/// A tokenizer as Hugging Face's `tokenizers` reads it: the file's vocabulary and merges; control tokens special.
/// `notes` say what the file did not, and `architecture` is what is guessed by then.
///
/// # Errors
/// Other kinds of tokenizer, pre-tokenizers that are not known here.
pub fn tokenizer_json(
    vocabulary: &Vocabulary,
    architecture: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, ConvertError> {
    let made = match vocabulary.model.as_str() {
        "gpt2" => byte_level(vocabulary, architecture, notes),
        "llama" => sentencepiece(vocabulary),
        other => Err(VocabularyError::Unsupported(format!(
            "its tokenizer is of kind {other:?}, neither byte-level BPE (`gpt2`) nor SentencePiece (`llama`)"
        ))),
    }
    .map_err(ConvertError::Vocabulary)?;
    serde_json::to_vec(&made).map_err(|error| ConvertError::Output(error.to_string()))
}

fn byte_level<'a>(
    vocabulary: &'a Vocabulary,
    architecture: &str,
    notes: &mut Vec<String>,
) -> Result<TokenizerJson<'a>, VocabularyError> {
    let pre = match vocabulary.pre.as_deref() {
        // Converters wrote no name before llama.cpp knew them, and write `default` for pre-tokenizers that it does not know.
        None | Some("default") => {
            let pre = guessed_pre_tokenizer(vocabulary, architecture);
            notes.push(format!(
                "the GGUF file does not name its pre-tokenizer; that of {pre} was taken. If answers are poor, put the model's \
                 own tokenizer.json beside the GGUF file and convert it again"
            ));
            pre
        }
        Some(pre) => pre,
    };
    let pre = PreTokenizer::named(pre).ok_or_else(|| {
        VocabularyError::Unsupported(format!("its pre-tokenizer `{pre}` is not known here"))
    })?;
    let merges = vocabulary.merges.iter();
    let merges: Vec<_> = merges
        .map(|(left, right)| (left.as_str(), right.as_str()))
        .collect();
    if merges.is_empty() {
        return Err(VocabularyError::NoMerges);
    }
    Ok(TokenizerJson {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: added_tokens(vocabulary),
        normalizer: pre.normalizer(),
        pre_tokenizer: Some(pre.pre_tokenizer()),
        post_processor: (),
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: Bpe {
            r#type: "BPE",
            dropout: (),
            unk_token: None,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: pre.ignore_merges,
            vocab: &vocabulary.tokens,
            merges,
        },
    })
}

/// As transformers makes it of such files (`GGUFLlamaConverter`): spaces are `▁`, and what no token spells falls apart into bytes.
fn sentencepiece(vocabulary: &Vocabulary) -> Result<TokenizerJson<'_>, VocabularyError> {
    let merges = match (&vocabulary.merges[..], &vocabulary.scores[..]) {
        ([], []) => return Err(VocabularyError::NoMerges),
        ([], _) => vocabulary.merges_by_score(),
        (merges, _) => merges
            .iter()
            .map(|(left, right)| (left.as_str(), right.as_str()))
            .collect(),
    };
    let unknown = (0..vocabulary.tokens.len()).find(|id| vocabulary.is_of(*id, UNKNOWN));
    let mut normalizers =
        vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if vocabulary.space_before != Some(false) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(TokenizerJson {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: added_tokens(vocabulary),
        normalizer: Some(json!({"type": "Sequence", "normalizers": normalizers})),
        pre_tokenizer: None,
        post_processor: (),
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: Bpe {
            r#type: "BPE",
            dropout: (),
            unk_token: unknown.map(|id| vocabulary.tokens[id].as_str()),
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: true,
            byte_fallback: true,
            ignore_merges: false,
            vocab: &vocabulary.tokens,
            merges,
        },
    })
}

fn added_tokens(vocabulary: &Vocabulary) -> Vec<AddedToken<'_>> {
    let tokens = vocabulary.tokens.iter().enumerate();
    let added = tokens.filter_map(|(id, content)| {
        let special = vocabulary.is_of(id, CONTROL);
        (special || vocabulary.is_of(id, USER_DEFINED)).then_some(AddedToken {
            id,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special,
        })
    });
    added.collect()
}

/// The pre-tokenizer of a file that does not name it, by its architecture and its special tokens.
fn guessed_pre_tokenizer(vocabulary: &Vocabulary, architecture: &str) -> &'static str {
    let has = |token: &str| vocabulary.tokens.iter().any(|known| known == token);
    if has("<|begin_of_text|>") && has("<|eot_id|>") {
        "llama-bpe"
    } else if architecture == "qwen2" {
        "qwen2"
    } else {
        "gpt-2"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        vocabulary: Vocabulary,
        texts: Vec<(String, Vec<u32>)>,
    }

    /// Small vocabularies as GGUF files hold them, and what the libraries that made them say (`tests/tokenizers/make_gguf.py`).
    #[test]
    fn vocabularies_of_gguf_files_have_the_ids_of_the_tokenizers_that_they_were_made_of() {
        let cases = include_str!("../../tests/tokenizers/gguf_vocabularies.json");
        let cases: std::collections::BTreeMap<String, Case> = serde_json::from_str(cases).unwrap();
        assert_eq!(cases.len(), 9);
        for (name, Case { vocabulary, texts }) in &cases {
            let mut notes = Vec::new();
            let json = tokenizer_json(vocabulary, "llama", &mut notes).unwrap();
            assert!(notes.is_empty(), "{name}: {notes:?}");
            let tokenizer = Tokenizer::from_json(&json).unwrap();
            assert!(texts.len() > 25);
            for (text, ids) in texts {
                assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let refused = |vocabulary: Vocabulary| {
            let made = tokenizer_json(&vocabulary, "llama", &mut Vec::new());
            made.unwrap_err().to_string()
        };
        let named = |pre: &str| Vocabulary {
            model: "gpt2".into(),
            pre: Some(pre.into()),
            ..Vocabulary::default()
        };
        let said = refused(named("kimi-k2"));
        assert!(
            said.contains("`kimi-k2`") && said.contains("tokenizer.json"),
            "{said}"
        );
        let said = refused(Vocabulary {
            model: "t5".into(),
            ..Vocabulary::default()
        });
        assert!(said.contains("\"t5\""), "{said}");
        assert!(refused(named("gpt-2")).contains("neither merges nor scores"));
    }
}
