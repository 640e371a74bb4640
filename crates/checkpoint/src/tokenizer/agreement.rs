//! What the browser reads and writes, against the library: the same ids, ends, texts and pieces, for the default model's
//! tokenizer and for small ones of other kinds (`tests/tokenizers/make.py`).

use super::{Tokenizer, engine};
use crate::chat::{ChatTemplate, Message};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::LazyLock;

struct Pair {
    name: &'static str,
    library: Tokenizer,
    browser: Tokenizer,
    composes: bool,
}

impl Pair {
    fn new(name: &'static str, json: &[u8]) -> Self {
        Self {
            name,
            library: Tokenizer::from_json(json).unwrap(),
            browser: Tokenizer::from_json_as_browser(json).unwrap(),
            composes: String::from_utf8_lossy(json).contains("\"NFC\""),
        }
    }

    fn agree_on(&self, text: &str) {
        let name = self.name;
        let ids = self.library.encode(text).unwrap();
        assert_eq!(self.browser.encode(text).unwrap(), ids, "{name}: {text:?}");
        // Where several marks of one character are put in order and composed, the library knows which came of which and
        // the browser does not say.
        if !self.composes || engine::nfc(text) == text {
            self.agree_on_ends(text);
        }
        assert_eq!(
            self.browser.split_specials(text).unwrap(),
            self.library.split_specials(text).unwrap(),
            "{name}: {text:?}"
        );
        let with_special = self.library.encode_with_special(text).unwrap();
        assert_eq!(
            self.browser.encode_with_special(text).unwrap(),
            with_special,
            "{name}: {text:?}"
        );
        self.agree_on_ids(&with_special);
        self.agree_on_ids(&ids);
    }

    fn agree_on_ends(&self, text: &str) {
        let encoded = self.library.encode_with_offsets(text).unwrap();
        let own = self.browser.encode_with_offsets(text).unwrap();
        assert_eq!(own, encoded, "{}: {text:?}", self.name);
    }

    fn agree_on_ids(&self, ids: &[u32]) {
        let name = self.name;
        assert_eq!(
            self.browser.decode(ids),
            self.library.decode(ids),
            "{name}: {ids:?}"
        );
        assert_eq!(
            self.browser.pieces(ids),
            self.library.pieces(ids),
            "{name}: {ids:?}"
        );
        for &id in ids {
            let special = self.library.is_special(id);
            assert_eq!(self.browser.is_special(id), special, "{name}: {id}");
        }
    }
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(path: &str) -> Vec<u8> {
    let path = repository().join(path);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask model` fetches the model",
            path.display()
        )
    })
}

fn default_model(name: &str) -> Vec<u8> {
    read(&format!("models/smollm2-135m-instruct/{name}"))
}

fn small(name: &str) -> Value {
    let file = read(&format!("crates/checkpoint/tests/tokenizers/{name}.json"));
    serde_json::from_slice(&file).unwrap()
}

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
    let llama_2 = small("llama_2_style");
    let llama_3 = small("llama_3_style");

    let mut qwen_2 = llama_3.clone();
    qwen_2["normalizer"] = json!({"type": "NFC"});
    let pattern = &mut qwen_2["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
    *pattern = pattern.as_str().unwrap().replace("{1,3}", "").into();
    qwen_2["model"]["ignore_merges"] = false.into();

    let mut legacy = llama_2.clone();
    for merge in legacy["model"]["merges"].as_array_mut().unwrap() {
        *merge = format!(
            "{} {}",
            merge[0].as_str().unwrap(),
            merge[1].as_str().unwrap()
        )
        .into();
    }
    legacy["normalizer"] = Value::Null;
    legacy["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
    legacy["decoder"] = legacy["pre_tokenizer"].clone();
    legacy["added_tokens"][1]["normalized"] = true.into();

    let mut gpt_2 = llama_3.clone();
    gpt_2["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": "er"}, "behavior": "MergedWithPrevious", "invert": false},
        {"type": "Split", "pattern": {"Regex": r"[\w.]+"}, "behavior": "Removed", "invert": true},
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}]});
    gpt_2["post_processor"] =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
    gpt_2["decoder"] = Value::Null;

    let mut replacing = llama_3.clone();
    replacing["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"Regex": r"\s*\d|x+"}, "content": "é"},
        {"type": "Replace", "pattern": {"String": "on"}, "content": ""}]});
    vec![
        Pair::new("default model", &default_model("tokenizer.json")),
        Pair::new("Llama 2", &bytes(&llama_2)),
        Pair::new("Metaspace", &bytes(&legacy)),
        Pair::new("Llama 3", &bytes(&llama_3)),
        Pair::new("Qwen 2", &bytes(&qwen_2)),
        Pair::new("GPT-2", &bytes(&gpt_2)),
        Pair::new("replacing", &bytes(&replacing)),
    ]
});

const HARD: &[&str] = &[
    "",
    " ",
    "\u{feff}x\u{feff} \u{85}y\u{85}\u{a0}z \u{2028}\u{2029}\r\n\r \x0b\x0c",
    "it'ſ I'LL you'Re we'D 'k '\u{212a} ’s",
    "e\u{301}\u{327} A\u{30a} \u{1112}\u{1161}\u{11ab} \u{212b} \u{958} \u{f900} \u{344}x\u{301}",
    "1٣४𝟘½²Ⅷ 12345678",
    "\u{10ffff}\u{200d}\u{e000}🧑🏿‍🚀🇩🇪",
    "<|begin|><|end|><|end|>of a <left>  b <right> \n c whole wholes 1whole whole. é<s>x</s> <unk> <0x0A>",
    "<left> <left><right>  <right>\t<left>",
    "whole\u{200d} \u{301}whole ½whole",
];

#[test]
fn the_hard_texts_agree() {
    for pair in PAIRS.iter() {
        for text in HARD {
            pair.agree_on(text);
            pair.agree_on_ends(text);
        }
    }
}

#[test]
fn the_golden_texts_and_conversations_agree() {
    let golden: Value = serde_json::from_slice(&read("tests/golden/tokenizer.json")).unwrap();
    let texts = golden["texts"].as_array().unwrap().iter();
    let texts: Vec<&str> = texts.map(|text| text["text"].as_str().unwrap()).collect();
    let chats = ["chats", "lookalikes"].map(|kind| golden[kind].as_array().unwrap());
    let long = ["alice", "code", "origin"].map(|name| {
        let text = read(&format!("tests/golden/texts/{name}.txt"));
        String::from_utf8(text).unwrap()
    });
    for pair in PAIRS.iter() {
        let long = long.iter().map(String::as_str);
        texts
            .iter()
            .copied()
            .chain(long)
            .for_each(|text| pair.agree_on(text));
        let template = ChatTemplate::from_files(
            Some(&default_model("chat_template.jinja")),
            Some(&default_model("tokenizer_config.json")),
        )
        .unwrap();
        for chat in chats.iter().copied().flatten() {
            let messages: Vec<Message> = serde_json::from_value(chat["messages"].clone()).unwrap();
            let next = chat["answer_next"].as_bool().unwrap();
            let expected = template.encode(&pair.library, &messages, next).unwrap();
            let tokens = template.encode(&pair.browser, &messages, next).unwrap();
            assert_eq!(tokens, expected, "{}", pair.name);
            pair.agree_on_ids(&tokens.ids);
        }
    }
}

#[test]
fn the_golden_ids_are_the_browsers() {
    let golden: Value = serde_json::from_slice(&read("tests/golden/tokenizer.json")).unwrap();
    for text in golden["texts"].as_array().unwrap() {
        let ids: Vec<u32> = serde_json::from_value(text["ids"].clone()).unwrap();
        let text = text["text"].as_str().unwrap();
        assert_eq!(PAIRS[0].browser.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(PAIRS[0].browser.decode(&ids), text);
    }
}

#[test]
fn vocabularies_agree() {
    for pair in PAIRS.iter() {
        let size = pair.library.vocabulary_size();
        assert_eq!(pair.browser.vocabulary_size(), size, "{}", pair.name);
        let ids = 0..u32::try_from(size).unwrap() + 2;
        for id in ids.clone() {
            let token = pair.library.0.token(id);
            assert_eq!(pair.browser.0.token(id), token, "{}: {id}", pair.name);
            if let Some(token) = token {
                let found = pair.library.token_id(&token);
                assert_eq!(pair.browser.token_id(&token), found, "{}", pair.name);
            }
        }
        // In steps that meet most pairs of kinds: bytes that make no character, tokens that do.
        let ids: Vec<u32> = ids
            .map(|id| id.wrapping_mul(7919) % (size as u32))
            .collect();
        ids.chunks(100)
            .take(60)
            .for_each(|ids| pair.agree_on_ids(ids));
    }
}

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<char>().prop_map(String::from),
        ".{0,6}",
        "[a-zA-Z' ]{1,8}",
        "[ \t\r\n\u{85}\u{a0}\u{2028}\u{3000}\u{feff}]{1,4}",
        "[0-9٠-٩½]{1,7}",
        "[a-zäöu가ᄒ]\\p{M}{0,3}[\u{1161}\u{11ab}]?",
        proptest::sample::select(HARD).prop_map(String::from),
        proptest::sample::select(vec![
            "<|im_start|>",
            "<|im_end|>",
            "<|endoftext|>",
            "<|begin|>",
            "<|end|>",
            "<|end|>of",
            "<left>",
            "<right>",
            "whole",
            "é",
            "<s>",
            "</s>",
            "<unk>",
            "<0xE2>",
            "▁",
            "'LL",
            "'ſ",
            "on",
            "er",
        ])
        .prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_agrees(fragments in proptest::collection::vec(fragment(), 0..8)) {
        let text = fragments.concat();
        PAIRS.iter().for_each(|pair| pair.agree_on(&text));
    }
}

#[test]
fn a_normalizer_that_replaces_nothing_by_something_leaves_the_text_alone() {
    let mut file = small("llama_3_style");
    file["normalizer"] = json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "y"});
    let tokenizer = Tokenizer::from_json_as_browser(file.to_string().as_bytes()).unwrap();
    let ids = tokenizer.encode("axxb").unwrap();
    assert_eq!(tokenizer.decode(&ids), "ayb");
}

#[test]
fn what_only_the_program_knows_is_named() {
    let cases = [
        (
            "/normalizer",
            json!({"type": "Lowercase"}),
            "normalizer `Lowercase`",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}]}),
            "pre_tokenizer `Punctuation`",
        ),
        (
            "/decoder",
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            "decoder `WordPiece`",
        ),
        (
            "/model",
            json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}),
            "model `Unigram`",
        ),
        (
            "/model/end_of_word_suffix",
            json!("</w>"),
            "end_of_word_suffix",
        ),
        ("/model/dropout", json!(0.1), "dropout"),
        (
            "/post_processor",
            json!({"type": "Other"}),
            "post_processor `Other`",
        ),
    ];
    for (place, value, named) in cases {
        let mut file = small("llama_3_style");
        *file.pointer_mut(place).unwrap() = value;
        let error = Tokenizer::from_json_as_browser(file.to_string().as_bytes()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(named) && error.contains("command line"),
            "{error}"
        );
    }
}

#[test]
fn broken_files_are_refused_with_a_sentence() {
    let cases = [
        ("/model/merges/0", json!(["a"]), "merge"),
        ("/model/merges/0", json!("a b c"), "two tokens"),
        (
            "/model/merges/0",
            json!(["nothing of the kind", "b"]),
            "vocabulary",
        ),
        ("/model/vocab/a", json!(-1), "model"),
        ("/version", json!("2.0"), "version"),
        (
            "/pre_tokenizer",
            json!({"kind": "ByteLevel"}),
            "does not say its type",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false}),
            "regular expression",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "a++"}, "behavior": "Isolated", "invert": false}),
            "`++`",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Odd", "invert": false}),
            "behavior",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Digits"}),
            "individual_digits",
        ),
        (
            "/normalizer",
            json!({"type": "Replace", "pattern": {"String": ""}, "content": "a"}),
            "empty",
        ),
        (
            "/normalizer",
            json!({"type": "Replace", "pattern": {"String": "é"}, "content": ""}),
            "nothing of an added token",
        ),
    ];
    for (place, value, part) in cases {
        let mut file = small("llama_3_style");
        *file.pointer_mut(place).unwrap() = value;
        let error = Tokenizer::from_json_as_browser(file.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    for json in [&b""[..], b"{}", b"[]", b"{\"model\": {}}", b"\xff"] {
        assert!(Tokenizer::from_json_as_browser(json).is_err());
    }
}
