//! Conversions against the Python package `gguf` (tests/golden/tiny/make.py), and what they refuse.

use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::convert::directory::convert;
use trimtab_checkpoint::convert::quantise::{to_q4_1, to_q8_0};
use trimtab_checkpoint::convert::{ConvertError, Options, Quantisation};
use trimtab_checkpoint::manifest::Manifest;
use trimtab_checkpoint::{
    ChatTemplate, Encoding, FileSource, Message, ModelConfig, Tokenizer, WeightFile, WeightRows,
};

#[derive(Deserialize)]
struct Expected {
    tensors: BTreeMap<String, ExpectedTensor>,
    quantised: ExpectedQuantised,
}

#[derive(Deserialize)]
struct ExpectedTensor {
    r#type: String,
    sha256: String,
}

#[derive(Deserialize)]
struct ExpectedQuantised {
    rows: usize,
    cols: usize,
    values: String,
    kinds: BTreeMap<String, BTreeMap<String, String>>,
}

/// A directory of its own for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("trimtab-convert-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/tiny")
        .join(name)
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(tiny("expected.json")).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn run(input: &Path, output: &Path, options: &Options) -> Result<Manifest, ConvertError> {
    convert(input, output, options, &mut |_| {})
}

fn open(directory: &Path) -> WeightFile<FileSource> {
    block_on(WeightFile::open(
        FileSource::open(&directory.join("model.safetensors")).unwrap(),
    ))
    .unwrap()
}

fn values(rows: &WeightRows) -> Vec<f32> {
    let mut values = vec![0.0; rows.rows * rows.cols];
    for (row, out) in values.chunks_exact_mut(rows.cols).enumerate() {
        rows.dequantise_row(row, out);
    }
    values
}

fn read(file: &WeightFile<FileSource>, name: &str) -> WeightRows {
    let tensor = file.tensor(name).unwrap();
    block_on(file.read_rows(tensor, 0..tensor.rows)).unwrap()
}

#[test]
fn every_gguf_type_arrives_as_the_reference_reads_it() {
    let scratch = Scratch::new("types");
    let mut done = Vec::new();
    let manifest = convert(
        &tiny("tiny.gguf"),
        &scratch.join("out"),
        &Options::default(),
        &mut |progress| done.push(progress),
    )
    .unwrap();
    let file = open(&scratch.join("out"));
    let expected = expected();
    assert_eq!(expected.tensors.len(), 21);
    assert_eq!(file.tensors().count(), 21);
    for (name, tensor) in &expected.tensors {
        let rows = read(&file, name);
        let kept = match tensor.r#type.as_str() {
            "F32" => Encoding::F32,
            "F16" => Encoding::F16,
            "BF16" => Encoding::Bf16,
            "Q4_0" => Encoding::Q4_0,
            "Q4_1" | "Q4_K" => Encoding::Q4_1,
            "Q5_0" => Encoding::Q5_0,
            "Q5_1" | "Q5_K" => Encoding::Q5_1,
            "Q6_K" => Encoding::Q6,
            "IQ4_NL" => Encoding::Iq4Nl,
            _ => Encoding::Q8_0,
        };
        assert_eq!(rows.encoding, kept, "{name}");
        assert_eq!(
            sha256(bytemuck::cast_slice(&values(&rows))),
            tensor.sha256,
            "{name} ({})",
            tensor.r#type
        );
    }
    assert!(
        done.windows(2)
            .all(|pair| pair[0].bytes_done < pair[1].bytes_done)
    );
    assert_eq!(
        done.last().map(|progress| progress.bytes_done),
        Some(done[0].bytes_total)
    );

    assert_eq!(
        (manifest.name.as_str(), manifest.licence.as_str()),
        ("Tiny", "CC0-1.0")
    );
    let again = |note: &&String| note.contains("stored again");
    let again: Vec<_> = manifest.notes.iter().filter(again).collect();
    assert_eq!(again.len(), 2, "{again:?}");
    for (kind, note) in ["Q2_K", "Q3_K"].iter().zip(again) {
        assert!(note.contains(kind) && note.contains("Q8_0"), "{note}");
    }
    let written =
        Manifest::from_json(&fs::read(scratch.join("out/manifest.json")).unwrap()).unwrap();
    assert_eq!(written, manifest);
    for listed in &manifest.files {
        let bytes = fs::read(scratch.join("out").join(&listed.path)).unwrap();
        assert_eq!(
            (bytes.len() as u64, sha256(&bytes)),
            (listed.bytes, listed.sha256.clone()),
            "{}",
            listed.path
        );
    }
}

#[test]
fn a_converted_model_has_configuration_tokenizer_and_template() {
    let scratch = Scratch::new("rest");
    run(
        &tiny("tiny.gguf"),
        &scratch.join("out"),
        &Options::default(),
    )
    .unwrap();
    let file = |name: &str| fs::read(scratch.join("out").join(name)).unwrap();
    let config = ModelConfig::from_json(&file("config.json")).unwrap();
    assert_eq!(
        (
            config.layers,
            config.heads,
            config.kv_heads,
            config.head_dim
        ),
        (2, 4, 1, 64)
    );
    assert_eq!(
        (config.vocab_size, config.context, config.end_tokens),
        (101, 128, vec![1])
    );
    assert_eq!(
        (
            config.norm_epsilon,
            config.rotary.theta,
            config.tied_embeddings
        ),
        (1e-6, 1e4, false)
    );
    let tokenizer = Tokenizer::from_json(&file("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 101);
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("abc ab\n").unwrap()),
        "abc ab\n"
    );
    assert_eq!(tokenizer.encode("abc").unwrap(), [100]);
    let template = ChatTemplate::from_files(
        Some(&file("chat_template.jinja")),
        Some(&file("tokenizer_config.json")),
    )
    .unwrap();
    let messages = [Message {
        role: "user".into(),
        content: "  ab<|end|> ".into(),
    }];
    let tokens = template.encode(&tokenizer, &messages, false).unwrap();
    assert_eq!(
        (tokens.ids[0], tokens.ids[1], tokens.ids.last()),
        (0, 99, Some(&1))
    );
    assert_eq!(tokens.ids.iter().filter(|&&id| id == 1).count(), 1);
    assert_eq!(tokens.text, "<|begin|>ab<|end|><|end|>");
}

#[test]
fn equal_inputs_make_equal_bytes() {
    let scratch = Scratch::new("equal");
    let first = run(&tiny("tiny.gguf"), &scratch.join("a"), &Options::default()).unwrap();
    let second = run(&tiny("tiny.gguf"), &scratch.join("b"), &Options::default()).unwrap();
    assert_eq!(first, second);
}

#[test]
fn quantisers_agree_with_the_reference_bit_for_bit() {
    let ExpectedQuantised {
        rows,
        cols,
        values: hash,
        kinds,
    } = expected().quantised;
    let mut made: Vec<f32> = (0..rows as i64 * cols as i64)
        .map(|index| ((index * 7919 % 1009 - 504) as f64 / 97.0) as f32)
        .collect();
    made[32..64].fill(0.0);
    made[64..96].fill(0.25);
    assert_eq!(sha256(bytemuck::cast_slice(&made)), hash);
    for (kind, quantised) in [
        ("Q8_0", to_q8_0(&made, rows, cols)),
        ("Q4_1", to_q4_1(&made, rows, cols)),
    ] {
        for (part, bytes) in [
            ("data", &quantised.data),
            ("scale", &quantised.scale),
            ("min", &quantised.min),
        ] {
            assert_eq!(sha256(bytes), kinds[kind][part], "{kind} {part}");
        }
    }
}

/// The tiny model as a Hugging Face directory of f32 in two files.
fn hugging_face(scratch: &Scratch) -> PathBuf {
    let directory = scratch.join("hf");
    run(
        &tiny("tiny.gguf"),
        &scratch.join("source"),
        &Options::default(),
    )
    .unwrap();
    fs::create_dir(&directory).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(scratch.join("source").join(name), directory.join(name)).unwrap();
    }
    let template = fs::read_to_string(scratch.join("source/chat_template.jinja")).unwrap();
    fs::write(
        directory.join("tokenizer_config.json"),
        json!({"chat_template": template, "eos_token": {"content": "<|end|>"}}).to_string(),
    )
    .unwrap();
    fs::write(
        directory.join("generation_config.json"),
        r#"{"eos_token_id": [1, 0]}"#,
    )
    .unwrap();
    let source = open(&scratch.join("source"));
    let all: Vec<(String, Vec<usize>, Vec<f32>)> = source
        .tensors()
        .map(|tensor| {
            let shape = if tensor.rows == 1 {
                vec![tensor.cols]
            } else {
                vec![tensor.rows, tensor.cols]
            };
            (
                tensor.name.clone(),
                shape,
                values(&read(&source, &tensor.name)),
            )
        })
        .collect();
    for (number, half) in all.chunks(11).enumerate() {
        let views = half.iter().map(|(name, shape, values)| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap(),
            )
        });
        fs::write(
            directory.join(format!("model-{number}.safetensors")),
            serialize(views, None).unwrap(),
        )
        .unwrap();
    }
    directory
}

#[test]
fn a_hugging_face_directory_is_kept_or_quantised() {
    let scratch = Scratch::new("hf");
    let input = hugging_face(&scratch);
    let kept = run(
        &input,
        &scratch.join("kept"),
        &Options {
            licence: Some("CC0-1.0".into()),
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(
        (kept.name.as_str(), kept.licence.as_str()),
        ("hf", "CC0-1.0")
    );
    let (source, file) = (open(&scratch.join("source")), open(&scratch.join("kept")));
    assert_eq!(file.tensors().count(), 21);
    for tensor in file.tensors() {
        assert_eq!(tensor.encoding, Encoding::F32, "{}", tensor.name);
        assert_eq!(
            values(&read(&file, &tensor.name)),
            values(&read(&source, &tensor.name)),
            "{}",
            tensor.name
        );
    }
    let config =
        ModelConfig::from_json(&fs::read(scratch.join("kept/config.json")).unwrap()).unwrap();
    assert_eq!(config.end_tokens, [1, 0]);
    let tokenizer_config = fs::read(scratch.join("kept/tokenizer_config.json")).unwrap();
    ChatTemplate::from_files(None, Some(&tokenizer_config)).unwrap();

    for (quantisation, matrices) in [
        (Quantisation::Q8, Encoding::Q8_0),
        (Quantisation::Q4, Encoding::Q4_1),
    ] {
        let output = scratch.join(&format!("{quantisation:?}"));
        let options = Options {
            quantisation: Some(quantisation),
            ..Options::default()
        };
        let manifest = run(&input, &output, &options).unwrap();
        assert!(
            manifest
                .notes
                .iter()
                .any(|note| note.contains("quantised to")),
            "{:?}",
            manifest.notes
        );
        let file = open(&output);
        for tensor in file.tensors() {
            let outermost =
                ["model.embed_tokens.weight", "lm_head.weight"].contains(&tensor.name.as_str());
            let encoding = match tensor.rows {
                1 => Encoding::F32,
                _ if outermost => Encoding::Q8_0,
                _ => matrices,
            };
            assert_eq!(tensor.encoding, encoding, "{}", tensor.name);
            let original = read(&source, &tensor.name);
            let original = values(&original);
            let made = match encoding {
                Encoding::Q8_0 => values(&to_q8_0(&original, tensor.rows, tensor.cols)),
                Encoding::Q4_1 => values(&to_q4_1(&original, tensor.rows, tensor.cols)),
                _ => original,
            };
            assert_eq!(values(&read(&file, &tensor.name)), made, "{}", tensor.name);
        }
    }
}

#[test]
fn models_that_lack_something_are_refused_by_name_and_leave_nothing() {
    let scratch = Scratch::new("lack");
    let input = hugging_face(&scratch);
    let refused = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let path = input.join("config.json");
        let before = fs::read(&path).unwrap();
        let mut config: Value = serde_json::from_slice(&before).unwrap();
        change(&mut config);
        fs::write(&path, config.to_string()).unwrap();
        let error = run(&input, &scratch.join("out"), &Options::default())
            .unwrap_err()
            .to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        fs::write(&path, before).unwrap();
        let left: Vec<_> = fs::read_dir(&scratch.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
    };
    refused(
        &|config| config["num_hidden_layers"] = json!(3),
        &["model.layers.2.", "is missing"],
    );
    refused(
        &|config| config["intermediate_size"] = json!(512),
        &["mlp", "[256, 256]", "[512, 256]"],
    );
    refused(
        &|config| config["model_type"] = json!("mamba"),
        &["mamba", "llama, mistral, qwen2"],
    );
    refused(
        &|config| config["hidden_size"] = json!(-1),
        &["config.json"],
    );

    fs::remove_file(input.join("tokenizer.json")).unwrap();
    let manifest = run(&input, &scratch.join("out"), &Options::default()).unwrap();
    assert!(
        manifest
            .notes
            .iter()
            .any(|note| note.contains("token ids only")),
        "{:?}",
        manifest.notes
    );
}

#[test]
fn gguf_files_that_are_broken_or_foreign_are_refused() {
    let scratch = Scratch::new("broken");
    let whole = fs::read(tiny("tiny.gguf")).unwrap();
    let input = scratch.join("broken.gguf");
    let refused = |bytes: &[u8]| {
        fs::write(&input, bytes).unwrap();
        run(&input, &scratch.join("out"), &Options::default())
            .unwrap_err()
            .to_string()
    };
    // Cut in the tensors: the first one that is cut is named.
    let error = refused(&whole[..whole.len() - 1000]);
    assert!(
        error.contains("model.layers.") && error.contains("cut short"),
        "{error}"
    );
    // Cut in the header, and garbage.
    for length in [0, 3, 24, 100, 2000, 5000] {
        refused(&whole[..length]);
    }
    refused(&[
        0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 0, 0, 0, 0,
    ]);
    let foreign = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        let mut changed = whole.clone();
        changed[at..at + to.len()].copy_from_slice(to.as_bytes());
        refused(&changed)
    };
    let error = foreign("blk.1.ffn_up.weight", "blk.1.ffn_xp.weight");
    assert!(error.contains("blk.1.ffn_xp.weight"), "{error}");
    let error = foreign("gpt-2", "gpt-9");
    assert!(
        error.contains("gpt-9") && error.contains("tokenizer.json"),
        "{error}"
    );
    let options = Options {
        quantisation: Some(Quantisation::Q8),
        ..Options::default()
    };
    let error = run(&tiny("tiny.gguf"), &scratch.join("out"), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("kept as they are"), "{error}");
    fs::create_dir(scratch.join("full")).unwrap();
    fs::write(scratch.join("full/mine"), "mine").unwrap();
    let error = run(
        &tiny("tiny.gguf"),
        &scratch.join("full"),
        &Options::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("not empty"), "{error}");
    assert!(scratch.join("full/mine").exists());
}
