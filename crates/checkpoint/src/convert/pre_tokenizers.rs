//! Pre-tokenizers by the names that GGUF files have for them (`tokenizer.ggml.pre`; `llama-vocab.cpp`). What a name stands for is
//! taken from the `tokenizer.json` of the model that it was made for.

use serde_json::{Value, json};

/// How text becomes the pieces that merges stay within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreTokenizer {
    split: Split,
    /// Whether a piece that is a token is one, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether a letter and its accents become one character first.
    composed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Split {
    /// GPT-2's own.
    Words,
    /// The same with every digit by itself.
    DigitsAndWords,
    Pattern(&'static str),
}

/// Llama 3's, which is OpenAI's cl100k with the numbers of at most three digits.
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// OpenAI's o200k, which Phi-4-mini has.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral NeMo's.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl PreTokenizer {
    /// `None` for a name that is not known here.
    pub fn named(name: &str) -> Option<Self> {
        use Split::{DigitsAndWords, Pattern, Words};
        let (split, ignore_merges, composed) = match name {
            "gpt-2" | "phi-2" | "mpt" => (Words, false, false),
            "olmo" => (Words, false, true),
            // Granite's is called after the first model that had it.
            "smollm" | "refact" | "starcoder" => (DigitsAndWords, false, false),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => (Pattern(CL100K), true, false),
            // OLMo 2, Phi-4; SmolLM3.
            "dbrx" | "smaug-bpe" => (Pattern(CL100K), false, false),
            "qwen2" | "deepseek-r1-qwen" => (Pattern(QWEN_2), false, true),
            "gpt-4o" => (Pattern(O200K), false, false),
            "tekken" => (Pattern(TEKKEN), true, false),
            _ => return None,
        };
        Some(Self {
            split,
            ignore_merges,
            composed,
        })
    }

    pub fn normalizer(self) -> Option<Value> {
        self.composed.then(|| json!({"type": "NFC"}))
    }

    pub fn pre_tokenizer(self) -> Value {
        let bytes = |words: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words});
        let before = match self.split {
            Split::Words => return bytes(true),
            Split::DigitsAndWords => json!({"type": "Digits", "individual_digits": true}),
            Split::Pattern(pattern) => {
                json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
            }
        };
        let words = self.split == Split::DigitsAndWords;
        json!({"type": "Sequence", "pretokenizers": [before, bytes(words)]})
    }
}
