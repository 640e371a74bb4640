//! `tokenizer.json` from the vocabulary of a GGUF file.

use super::ConvertError;
use super::gguf::GgufFile;
use super::gguf_header::Value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::json;

/// GGUF token types (llama.cpp's `llama_token_type`): 1 normal, 2 unknown, 3 control, 4 user-defined,
/// 5 unused, 6 byte.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

#[derive(Serialize)]
struct TokenizerJson<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: Option<serde_json::Value>,
    pre_tokenizer: serde_json::Value,
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
    unk_token: (),
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    #[serde(serialize_with = "in_id_order")]
    vocab: Vec<&'a str>,
    merges: Vec<(&'a str, &'a str)>,
}

fn in_id_order<S: Serializer>(tokens: &[&str], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(tokens.len()))?;
    for (id, token) in tokens.iter().enumerate() {
        map.serialize_entry(token, &id)?;
    }
    map.end()
}

/// Byte-level BPE as Hugging Face's `tokenizers` reads it: the file's vocabulary and merges, the
/// pre-tokenizer that its `tokenizer.ggml.pre` names, control tokens special. Where it names none, `notes` say which was
/// taken.
///
/// # Errors
/// Other kinds of tokenizer, pre-tokenizers that are not known here, inconsistent lists.
pub fn tokenizer_json(gguf: &GgufFile, notes: &mut Vec<String>) -> Result<Vec<u8>, ConvertError> {
    let unsupported = |what: String| ConvertError::Unsupported {
        path: gguf.path().into(),
        reason: format!(
            "{what}; put the model's own tokenizer.json beside the GGUF file, and it will be used"
        ),
    };
    let broken = |reason: &str| ConvertError::Read {
        path: gguf.path().into(),
        reason: reason.into(),
    };
    match gguf.text("tokenizer.ggml.model")? {
        Some("gpt2") => {}
        other => {
            return Err(unsupported(format!(
                "its tokenizer is of kind {other:?}, not byte-level BPE (`gpt2`)"
            )));
        }
    }
    let texts = |key: &str| -> Result<Vec<&str>, ConvertError> {
        gguf.array(key)?
            .ok_or_else(|| broken(&format!("lacks {key}")))?
            .iter()
            .map(|value| match value {
                Value::String(text) => Ok(text.as_str()),
                _ => Err(broken(&format!("{key} holds something else than texts"))),
            })
            .collect()
    };
    let tokens = texts("tokenizer.ggml.tokens")?;
    let pre = match gguf.text("tokenizer.ggml.pre")? {
        // Converters wrote no name before llama.cpp knew them, and write `default` for pre-tokenizers that it does not know.
        None | Some("default") => {
            let pre = guessed_pre_tokenizer(gguf, &tokens)?;
            notes.push(format!(
                "the GGUF file does not name its pre-tokenizer; that of {pre} was taken. If answers are poor, put the model's \
                 own tokenizer.json beside the GGUF file and convert it again"
            ));
            pre
        }
        Some(pre) => pre,
    };
    let (pre_tokenizer, ignore_merges) = match pre {
        "smollm" => (
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]}),
            false,
        ),
        "gpt-2" => (
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
            false,
        ),
        "llama-bpe" | "llama3" | "llama-v3" => (split_then_bytes(LLAMA_3), true),
        "qwen2" => (split_then_bytes(QWEN_2), false),
        other => {
            return Err(unsupported(format!(
                "its pre-tokenizer `{other}` is not known here"
            )));
        }
    };

    let merges = texts("tokenizer.ggml.merges")?
        .into_iter()
        .map(|merge| {
            merge
                .split_once(' ')
                .ok_or_else(|| broken("a merge is not a pair"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let types: Vec<i64> = gguf
        .array("tokenizer.ggml.token_type")?
        .unwrap_or_default()
        .iter()
        .map(|value| match *value {
            Value::Signed(kind) => Ok(kind),
            Value::Unsigned(kind) => kind
                .try_into()
                .map_err(|_| broken("has a token type that is none")),
            _ => Err(broken("has token types that are no numbers")),
        })
        .collect::<Result<_, _>>()?;
    if !types.is_empty() && types.len() != tokens.len() {
        return Err(broken("has another number of token types than of tokens"));
    }
    let added_tokens = types
        .iter()
        .enumerate()
        .filter(|(_, kind)| matches!(**kind, CONTROL | USER_DEFINED))
        .map(|(id, &kind)| AddedToken {
            id,
            content: tokens[id],
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: kind == CONTROL,
        })
        .collect();

    let tokenizer = TokenizerJson {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens,
        normalizer: (pre == "qwen2").then(|| json!({"type": "NFC"})),
        pre_tokenizer,
        post_processor: (),
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: Bpe {
            r#type: "BPE",
            dropout: (),
            unk_token: (),
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges,
            vocab: tokens,
            merges,
        },
    };
    serde_json::to_vec(&tokenizer).map_err(|error| ConvertError::Output(error.to_string()))
}

/// Llama 3's, from the tokenizer.json that Meta published.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen 2's, from the tokenizer.json that Alibaba published; it normalises to NFC before.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The pre-tokenizer of a file that does not name it, by its architecture and its special tokens.
fn guessed_pre_tokenizer(gguf: &GgufFile, tokens: &[&str]) -> Result<&'static str, ConvertError> {
    Ok(
        if tokens.contains(&"<|begin_of_text|>") && tokens.contains(&"<|eot_id|>") {
            "llama-bpe"
        } else if gguf.text("general.architecture")? == Some("qwen2") {
            "qwen2"
        } else {
            "gpt-2"
        },
    )
}

fn split_then_bytes(pattern: &str) -> serde_json::Value {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
}
