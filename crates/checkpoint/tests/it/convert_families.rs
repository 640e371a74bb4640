//! Conversions of the families that share llama's names, on tiny random models: whose weights they keep,
//! in which order, and what they refuse because it would be lost.

use candle_core::quantized::gguf_file::{Value as Field, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::convert::directory::convert;
use trimtab_checkpoint::convert::{ConvertError, Options};
use trimtab_checkpoint::manifest::Manifest;
use trimtab_checkpoint::{FileSource, ModelConfig, Tokenizer, WeightFile};

pub const D: usize = 64;
const HEADS: usize = 2;
const KV: usize = 32;
pub const FFN: usize = 96;
const VOCAB: usize = 262;

/// A directory of its own for one test, removed at its end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        let name = format!("trimtab-families-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Hugging Face's name, GGUF's name, shape.
pub fn shapes(biases: bool) -> Vec<(String, String, Vec<usize>)> {
    let block = |name: &str| format!("model.layers.0.{name}");
    let mut shapes = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            "token_embd.weight",
            vec![VOCAB, D],
        ),
        ("lm_head.weight".to_owned(), "output.weight", vec![VOCAB, D]),
        (
            "model.norm.weight".to_owned(),
            "output_norm.weight",
            vec![D],
        ),
        (
            block("input_layernorm.weight"),
            "blk.0.attn_norm.weight",
            vec![D],
        ),
        (
            block("post_attention_layernorm.weight"),
            "blk.0.ffn_norm.weight",
            vec![D],
        ),
        (
            block("self_attn.q_proj.weight"),
            "blk.0.attn_q.weight",
            vec![D, D],
        ),
        (
            block("self_attn.k_proj.weight"),
            "blk.0.attn_k.weight",
            vec![KV, D],
        ),
        (
            block("self_attn.v_proj.weight"),
            "blk.0.attn_v.weight",
            vec![KV, D],
        ),
        (
            block("self_attn.o_proj.weight"),
            "blk.0.attn_output.weight",
            vec![D, D],
        ),
        (
            block("mlp.gate_proj.weight"),
            "blk.0.ffn_gate.weight",
            vec![FFN, D],
        ),
        (
            block("mlp.up_proj.weight"),
            "blk.0.ffn_up.weight",
            vec![FFN, D],
        ),
        (
            block("mlp.down_proj.weight"),
            "blk.0.ffn_down.weight",
            vec![D, FFN],
        ),
    ];
    if biases {
        shapes.extend([
            (block("self_attn.q_proj.bias"), "blk.0.attn_q.bias", vec![D]),
            (
                block("self_attn.k_proj.bias"),
                "blk.0.attn_k.bias",
                vec![KV],
            ),
            (
                block("self_attn.v_proj.bias"),
                "blk.0.attn_v.bias",
                vec![KV],
            ),
        ]);
    }
    let owned = shapes.into_iter();
    owned
        .map(|(name, gguf, shape)| (name, gguf.to_owned(), shape))
        .collect()
}

/// Different for every tensor and every element.
pub fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let number = |i: usize| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 10_007.0 - 0.5;
    (0..count).map(number).collect()
}

pub type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub fn random_weights(biases: bool) -> Weights {
    let shapes = shapes(biases).into_iter().enumerate();
    shapes
        .map(|(seed, (name, _, shape))| {
            let values = numbers(seed, shape.iter().product());
            (name, (shape, values))
        })
        .collect()
}

pub fn config(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": HEADS,
        "num_key_value_heads": 1, "intermediate_size": FFN, "vocab_size": VOCAB, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false, "hidden_act": "silu",
    })
}

pub fn hugging_face(directory: &Path, config: &Value, weights: &Weights) {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir(directory).unwrap();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    write_weights(&directory.join("model.safetensors"), weights);
}

pub fn write_weights<'a>(
    path: &Path,
    weights: impl IntoIterator<Item = (&'a String, &'a (Vec<usize>, Vec<f32>))>,
) {
    let views = weights.into_iter().map(|(name, (shape, values))| {
        let bytes = bytemuck::cast_slice(values);
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name, view)
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

pub fn run(input: &Path, output: &Path) -> Result<Manifest, ConvertError> {
    let _ = fs::remove_dir_all(output);
    convert(input, output, &Options::default(), &mut |_| {})
}

/// Fails unless the model directory holds these weights and no others.
pub fn assert_holds(directory: &Path, weights: &Weights) -> ModelConfig {
    let source = FileSource::open(&directory.join("model.safetensors")).unwrap();
    let file = block_on(WeightFile::open(source)).unwrap();
    assert_eq!(file.names().count(), weights.len());
    for (name, (_, want)) in weights {
        let tensor = file.tensor(name).unwrap();
        let rows = block_on(file.read_rows(tensor, 0..tensor.rows)).unwrap();
        let mut got = vec![0.0; want.len()];
        for (row, out) in got.chunks_exact_mut(tensor.cols).enumerate() {
            rows.dequantise_row(row, out);
        }
        assert!(&got == want, "{name}");
    }
    ModelConfig::from_json(&fs::read(directory.join("config.json")).unwrap()).unwrap()
}

#[test]
fn hugging_face_directories_of_every_family_are_kept() {
    let scratch = Scratch::new("kept");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    for (family, biases) in [("llama", false), ("mistral", false), ("qwen2", true)] {
        let mut weights = random_weights(biases);
        let frequencies = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
        weights.insert(frequencies.clone(), (vec![16], numbers(99, 16)));
        hugging_face(&input, &config(family), &weights);
        let manifest = run(&input, &output).unwrap();
        let told = manifest.notes.iter().any(|note| note.contains("inv_freq"));
        assert!(told, "{:?}", manifest.notes);
        weights.remove(&frequencies);
        assert_eq!(assert_holds(&output, &weights).model_type, family);
    }
}

#[test]
fn what_would_be_lost_is_refused_by_name() {
    let scratch = Scratch::new("lost");
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    for (family, extra) in [
        ("llama", "model.layers.0.self_attn.o_proj.bias"),
        ("mistral", "model.layers.0.self_attn.q_proj.bias"),
        ("qwen2", "model.layers.0.self_attn.q_norm.weight"),
    ] {
        let mut weights = random_weights(family == "qwen2");
        weights.insert(extra.to_owned(), (vec![D], numbers(98, D)));
        hugging_face(&input, &config(family), &weights);
        let error = run(&input, &output).unwrap_err().to_string();
        assert!(error.contains(extra) && error.contains("lost"), "{error}");
    }
    let mut biased = config("llama");
    biased["attention_bias"] = json!(true);
    hugging_face(&input, &biased, &random_weights(true));
    let error = run(&input, &output).unwrap_err().to_string();
    assert!(error.contains("attention_bias"), "{error}");
}

fn texts(texts: impl IntoIterator<Item = String>) -> Field {
    Field::Array(texts.into_iter().map(Field::String).collect())
}

/// Letters for the 256 bytes as byte-level BPE spells them.
fn byte_letters() -> Vec<String> {
    let plain = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256).filter(|byte| !plain(*byte));
    let mut letters: Vec<(u32, u32)> = (0..256).filter(|b| plain(*b)).map(|b| (b, b)).collect();
    letters.extend(others.zip(256..));
    let spelled = letters.into_iter();
    spelled
        .map(|(_, letter)| char::from_u32(letter).unwrap().to_string())
        .collect()
}

/// A GGUF file of a qwen2 model with these weights; `change` sees its metadata.
pub fn write_gguf(
    path: &Path,
    weights: &Weights,
    change: impl FnOnce(&mut BTreeMap<&'static str, Field>),
) {
    let stored: Vec<(String, QTensor)> = shapes(true)
        .into_iter()
        .map(|(name, gguf, shape)| {
            let values = weights[&name].1.clone();
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            (gguf, QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let tensors: Vec<_> = stored
        .iter()
        .map(|(name, data)| (name.as_str(), data))
        .collect();
    let vocabulary = byte_letters().into_iter();
    let vocabulary =
        vocabulary.chain(["<|im_start|>", "<|im_end|>", "11", "é", "Ã©", "Ġ1"].map(Into::into));
    let count = |value: usize| Field::U32(value as u32);
    let text = |value: &str| Field::String(value.into());
    let mut fields = BTreeMap::from([
        ("general.architecture", text("qwen2")),
        ("general.name", text("Tiny")),
        ("qwen2.block_count", count(1)),
        ("qwen2.context_length", count(256)),
        ("qwen2.embedding_length", count(D)),
        ("qwen2.feed_forward_length", count(FFN)),
        ("qwen2.attention.head_count", count(HEADS)),
        ("qwen2.attention.head_count_kv", count(1)),
        ("qwen2.attention.layer_norm_rms_epsilon", Field::F32(1e-6)),
        ("qwen2.rope.freq_base", Field::F32(1e6)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("qwen2")),
        ("tokenizer.ggml.tokens", texts(vocabulary)),
        (
            "tokenizer.ggml.merges",
            texts(["1 1", "Ã ©", "Ġ 1"].map(Into::into)),
        ),
        ("tokenizer.ggml.eos_token_id", count(257)),
    ]);
    change(&mut fields);
    let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value)).collect();
    write(&mut fs::File::create(path).unwrap(), &fields, &tensors).unwrap();
}

#[test]
fn a_qwen2_gguf_keeps_its_order_of_rows_and_its_biases() {
    let scratch = Scratch::new("qwen2");
    let weights = random_weights(true);
    let input = scratch.join("tiny.gguf");
    write_gguf(&input, &weights, |_| ());
    run(&input, &scratch.join("out")).unwrap();

    let made = assert_holds(&scratch.join("out"), &weights);
    assert_eq!(
        (made.model_type.as_str(), made.rotary.theta),
        ("qwen2", 1e6)
    );
    assert!(made.attention_bias && made.end_tokens == [257]);
    let tokenizer = fs::read(scratch.join("out/tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_json(&tokenizer).unwrap();
    // Digits one by one; a letter and its accent are one character before they are bytes.
    assert_eq!(tokenizer.encode("11").unwrap().len(), 2);
    assert_eq!(tokenizer.encode("e\u{301}").unwrap(), [260]);
}
