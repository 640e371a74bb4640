//! Folders and GGUF files as people find them: with files beside the model, without some of its files, with numbers and keys
//! that are not what they ought to be.

use crate::convert_families::{
    D, FFN, Scratch, Weights, assert_holds, config, hugging_face, numbers, random_weights, run,
    write_gguf, write_weights,
};
use candle_core::quantized::gguf_file::Value as Field;
use pollster::block_on;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use trimtab_checkpoint::convert::directory::convert;
use trimtab_checkpoint::convert::{Options, Quantisation};
use trimtab_checkpoint::family::Family;
use trimtab_checkpoint::manifest::Manifest;
use trimtab_checkpoint::rotary::Scaling;
use trimtab_checkpoint::{Encoding, FileSource, ModelConfig, Tokenizer, WeightFile};

const UP: &str = "model.layers.0.mlp.up_proj.weight";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";
const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";
const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n";

fn noted(manifest: &Manifest, words: &[&str]) -> bool {
    let notes = &manifest.notes;
    notes
        .iter()
        .any(|note| words.iter().all(|word| note.contains(word)))
}

/// The folder of a model in two files, the second of which has the tensors from `model.layers.0.self_attn` on.
fn two_shards(directory: &Path, weights: &Weights, indexed: bool) -> [String; 2] {
    hugging_face(directory, &config("llama"), weights);
    fs::remove_file(directory.join("model.safetensors")).unwrap();
    let names = [1, 2].map(|number| format!("model-0000{number}-of-00002.safetensors"));
    let second = |name: &str| usize::from(name > "model.layers.0.self_attn");
    for (shard, name) in names.iter().enumerate() {
        let own = weights.iter().filter(|(name, _)| second(name) == shard);
        write_weights(&directory.join(name), own);
    }
    if indexed {
        let map: BTreeMap<&String, &String> = weights
            .keys()
            .map(|name| (name, &names[second(name)]))
            .collect();
        let index = format!("\u{feff}{}", json!({"metadata": {}, "weight_map": map}));
        fs::write(directory.join("model.safetensors.index.json"), index).unwrap();
    }
    names
}

#[test]
fn an_index_says_which_files_are_the_models() {
    let scratch = Scratch::new("index");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    let weights = random_weights(false);
    let names = two_shards(&input, &weights, true);
    let mut others = Weights::new();
    others.insert(
        "layers.0.attention.wq.weight".into(),
        (vec![D, D], numbers(7, D * D)),
    );
    write_weights(&input.join("consolidated.safetensors"), &others);
    others.insert(DOWN.into(), (vec![D, FFN], numbers(8, D * FFN)));
    write_weights(&input.join("older.safetensors"), &others);
    let manifest = run(&input, &output).unwrap();
    assert_holds(&output, &weights);
    for stray in ["consolidated.safetensors", "older.safetensors"] {
        assert!(
            noted(&manifest, &[stray, "left out"]),
            "{:?}",
            manifest.notes
        );
    }

    fs::remove_file(input.join(&names[1])).unwrap();
    let error = run(&input, &output).unwrap_err().to_string();
    assert!(
        error.contains(&names[1]) && error.contains("missing"),
        "{error}"
    );
    assert!(!output.exists());
}

#[test]
fn without_an_index_the_shards_name_each_other() {
    let scratch = Scratch::new("shards");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    let weights = random_weights(false);
    let names = two_shards(&input, &weights, false);
    let capitals = names[0].replace("safetensors", "SAFETENSORS");
    run(&input, &output).unwrap();
    assert_holds(&output, &weights);
    fs::remove_file(input.join(&names[1])).unwrap();
    let error = run(&input, &output).unwrap_err().to_string();
    assert!(
        error.contains(&names[1]) && error.contains("missing"),
        "{error}"
    );

    hugging_face(&input, &config("llama"), &weights);
    fs::rename(
        input.join("model.safetensors"),
        input.join("MODEL.SAFETENSORS"),
    )
    .unwrap();
    write_weights(&input.join("adapter_model.safetensors"), &Weights::new());
    let manifest = run(&input, &output).unwrap();
    assert_holds(&output, &weights);
    assert!(noted(&manifest, &["adapter_model.safetensors"]));
    assert!(capitals.ends_with(".SAFETENSORS"));
}

#[test]
fn a_head_that_differs_from_tied_embeddings_is_kept() {
    let scratch = Scratch::new("head");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    let mut tied = config("llama");
    tied["tie_word_embeddings"] = json!(true);
    let mut weights = random_weights(false);
    let own_head = |directory: &Path| {
        let source = FileSource::open(&directory.join("model.safetensors")).unwrap();
        let file = block_on(WeightFile::open(source)).unwrap();
        block_on(file.has_own_head(Family::named("llama").unwrap())).unwrap()
    };

    hugging_face(&input, &tied, &weights);
    assert!(own_head(&input));
    let manifest = run(&input, &output).unwrap();
    assert!(!assert_holds(&output, &weights).tied_embeddings);
    assert!(
        noted(&manifest, &[HEAD, "other numbers"]),
        "{:?}",
        manifest.notes
    );

    weights.insert(HEAD.into(), weights[EMBEDDING].clone());
    hugging_face(&input, &tied, &weights);
    assert!(!own_head(&input));
    let manifest = run(&input, &output).unwrap();
    weights.remove(HEAD);
    assert!(assert_holds(&output, &weights).tied_embeddings);
    assert!(
        noted(&manifest, &[HEAD, "left out"]),
        "{:?}",
        manifest.notes
    );
}

#[test]
fn numbers_beyond_the_scales_of_blocks_are_kept_as_they_are() {
    let scratch = Scratch::new("beyond");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    let mut weights = random_weights(false);
    weights.get_mut(DOWN).unwrap().1[FFN + 3] = 3e7;
    let small = &mut weights.get_mut(UP).unwrap().1[..D];
    small.iter_mut().for_each(|number| *number *= 1e-7);
    hugging_face(&input, &config("llama"), &weights);
    for quantisation in [Quantisation::Q8, Quantisation::Q4] {
        let _ = fs::remove_dir_all(&output);
        let options = Options {
            quantisation: Some(quantisation),
            ..Options::default()
        };
        let manifest = convert(&input, &output, &options, &mut |_| {}).unwrap();
        assert!(
            noted(&manifest, &[DOWN, "too large"]),
            "{:?}",
            manifest.notes
        );
        assert!(noted(&manifest, &[UP, "too small"]), "{:?}", manifest.notes);
        let source = FileSource::open(&output.join("model.safetensors")).unwrap();
        let file = block_on(WeightFile::open(source)).unwrap();
        for tensor in file.tensors().filter(|tensor| tensor.rows > 1) {
            let kept = [DOWN, UP].contains(&tensor.name.as_str());
            assert_eq!(tensor.encoding == Encoding::F32, kept, "{}", tensor.name);
        }
    }
}

#[test]
fn a_number_that_is_none_is_named_by_its_tensor() {
    let scratch = Scratch::new("nan");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    for number in [f32::NAN, f32::NEG_INFINITY] {
        let mut weights = random_weights(false);
        weights.get_mut(DOWN).unwrap().1[5 * FFN] = number;
        hugging_face(&input, &config("llama"), &weights);
        for quantisation in [None, Some(Quantisation::Q8), Some(Quantisation::Q4)] {
            let options = Options {
                quantisation,
                ..Options::default()
            };
            let error = convert(&input, &output, &options, &mut |_| {}).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(DOWN) && error.contains("row 5 "), "{error}");
            assert!(error.contains("not finite") && !output.exists(), "{error}");
        }
        // A folder that is used where it lies says the same.
        let source = FileSource::open(&input.join("model.safetensors")).unwrap();
        let file = block_on(WeightFile::open(source)).unwrap();
        let down = file.tensor(DOWN).unwrap();
        let error = block_on(file.read_rows(down, 4..7))
            .unwrap_err()
            .to_string();
        assert!(error.contains(DOWN) && error.contains("row 5 "), "{error}");
        assert!(block_on(file.read_rows(down, 6..7)).is_ok());
    }
}

#[test]
fn pointers_of_git_lfs_are_called_what_they_are() {
    let scratch = Scratch::new("pointer");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    let refused = |input: &Path| {
        let error = run(input, &output).unwrap_err().to_string();
        assert!(error.contains("Git LFS pointer"), "{error}");
        error
    };
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        hugging_face(&input, &config("llama"), &random_weights(false));
        fs::write(input.join(name), POINTER).unwrap();
        let error = refused(&input);
        assert!(error.contains(name), "{error}");
    }
    let gguf = scratch.join("model.gguf");
    fs::write(&gguf, POINTER).unwrap();
    refused(&gguf);
    let error = Tokenizer::from_json(POINTER.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("Git LFS pointer"), "{error}");
}

#[test]
fn byte_order_marks_are_read_over() {
    let marked = |json: &str| format!("\u{feff}{json}").into_bytes();
    ModelConfig::from_json(&marked(&config("llama").to_string())).unwrap();
    let tokenizer = include_str!("../tokenizers/llama_3_style.json");
    Tokenizer::from_json(&marked(tokenizer)).unwrap();
    let manifest = json!({"format": 1, "name": "", "licence": "", "source": "", "files": []});
    Manifest::from_json(&marked(&manifest.to_string())).unwrap();
    let settings = json!({"bos_token": "<s>"}).to_string();
    let template = trimtab_checkpoint::ChatTemplate::from_files(
        Some(&marked("{{ bos_token }}")),
        Some(&marked(&settings)),
    );
    assert_eq!(template.unwrap().render(&[], true).unwrap(), "<s>");
}

#[test]
fn end_tokens_are_those_of_all_files() {
    let scratch = Scratch::new("ends");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    let weights = random_weights(false);
    let ends = |configured: Value, generation: Value| {
        let mut config = config("llama");
        config["eos_token_id"] = configured;
        hugging_face(&input, &config, &weights);
        let generation = json!({"eos_token_id": generation}).to_string();
        fs::write(input.join("generation_config.json"), generation).unwrap();
        run(&input, &output).unwrap();
        assert_holds(&output, &weights).end_tokens
    };
    assert_eq!(ends(json!(3), json!([5, 7])), [5, 7, 3]);
    assert_eq!(ends(json!([3, 5]), json!(null)), [3, 5]);
    assert!(ends(json!(-1), json!(-1)).is_empty());
}

#[test]
fn gguf_keys_are_understood_or_refused() {
    let scratch = Scratch::new("keys");
    let (input, output) = (scratch.join("in.gguf"), scratch.join("out"));
    let weights = random_weights(true);
    let converted = |key: &'static str, value: Field| {
        write_gguf(&input, &weights, |fields| {
            fields.insert(key, value);
        });
        run(&input, &output)
    };
    converted("qwen2.rope.freq_base", Field::F64(500_000.0)).unwrap();
    assert_eq!(assert_holds(&output, &weights).rotary.theta, 500_000.0);
    converted("qwen2.rope.freq_base", Field::U32(500_000)).unwrap();
    assert_eq!(assert_holds(&output, &weights).rotary.theta, 500_000.0);
    converted("tokenizer.ggml.eos_token_id", Field::I32(-1)).unwrap();
    assert!(assert_holds(&output, &weights).end_tokens.is_empty());
    converted("tokenizer.ggml.eom_token_id", Field::U32(256)).unwrap();
    assert_eq!(assert_holds(&output, &weights).end_tokens, [257, 256]);
    // As llama.cpp takes a factor whose kind is not named.
    converted("qwen2.rope.scaling.factor", Field::F32(4.0)).unwrap();
    assert_eq!(
        assert_holds(&output, &weights).rotary.scaling,
        Scaling::Linear { factor: 4.0 }
    );
    for (key, value) in [
        ("qwen2.rope.freq_base", Field::String("1e6".into())),
        (
            "qwen2.attention.head_count_kv",
            Field::Array(vec![Field::U32(1)]),
        ),
        ("qwen2.rope.scaling.type", Field::String("yarn".into())),
        ("qwen2.context_length", Field::F32(256.0)),
        (
            "tokenizer.ggml.eos_token_id",
            Field::String("<|im_end|>".into()),
        ),
        ("tokenizer.ggml.pre", Field::U32(3)),
    ] {
        let error = converted(key, value).unwrap_err().to_string();
        assert!(
            error.contains(key) || error.contains("scaled"),
            "{key}: {error}"
        );
    }
}

#[test]
fn a_gguf_that_names_no_pre_tokenizer_says_which_was_taken() {
    let scratch = Scratch::new("pre");
    let (input, output) = (scratch.join("in.gguf"), scratch.join("out"));
    let weights = random_weights(true);
    let taken = |pre: Option<&str>, special: [&str; 2]| {
        write_gguf(&input, &weights, |fields| {
            fields.remove("tokenizer.ggml.pre");
            if let Some(pre) = pre {
                fields.insert("tokenizer.ggml.pre", Field::String(pre.into()));
            }
            let Some(Field::Array(tokens)) = fields.get_mut("tokenizer.ggml.tokens") else {
                panic!("the file has tokens");
            };
            for (token, text) in tokens[256..].iter_mut().zip(special) {
                *token = Field::String(text.into());
            }
        });
        let manifest = run(&input, &output).unwrap();
        let tokenizer = fs::read(output.join("tokenizer.json")).unwrap();
        let digits = Tokenizer::from_json(&tokenizer)
            .unwrap()
            .encode("11")
            .unwrap();
        (
            noted(&manifest, &["does not name its pre-tokenizer"]),
            digits.len(),
        )
    };
    // Llama 3 keeps up to three digits together, Qwen 2 none.
    assert_eq!(taken(None, ["<|begin_of_text|>", "<|eot_id|>"]), (true, 1));
    assert_eq!(
        taken(Some("default"), ["<|im_start|>", "<|im_end|>"]),
        (true, 2)
    );
    assert_eq!(
        taken(Some("qwen2"), ["<|begin_of_text|>", "<|eot_id|>"]),
        (false, 2)
    );
}

#[test]
fn a_gguf_type_that_is_not_read_is_named_with_its_tensor() {
    let scratch = Scratch::new("type");
    let input = scratch.join("in.gguf");
    write_gguf(&input, &random_weights(true), |_| ());
    let mut bytes = fs::read(&input).unwrap();
    let name = b"blk.0.ffn_down.weight";
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)
        .unwrap();
    // Behind the name: the number of dimensions, two dimensions, the type.
    let kind = at + name.len() + 4 + 2 * 8;
    for (number, spelt) in [(16_u32, "IQ2_XXS"), (99, "type 99")] {
        bytes[kind..kind + 4].copy_from_slice(&number.to_le_bytes());
        fs::write(&input, &bytes).unwrap();
        let error = run(&input, &scratch.join("out")).unwrap_err().to_string();
        for word in ["blk.0.ffn_down.weight", spelt, "Q8_0"] {
            assert!(error.contains(word), "{error}");
        }
    }
    let folder = "a folder of safetensors files";
    fs::write(&input, folder).unwrap();
    let error = run(&input, &scratch.join("out")).unwrap_err().to_string();
    assert!(error.contains("not a GGUF file"), "{error}");
}
