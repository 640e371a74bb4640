//! Headers, manifests and configurations from somebody who means harm: errors, never a panic, and
//! nothing accepted that does not hold.

use pollster::block_on;
use proptest::prelude::*;
use safetensors::tensor::SafeTensors;
use serde_json::{Value, json};
use trimtab_checkpoint::header::{MAX_HEADER_BYTES, read_header};
use trimtab_checkpoint::layout::{LAYOUT, LAYOUT_KEY};
use trimtab_checkpoint::manifest::Manifest;
use trimtab_checkpoint::{
    ChatTemplate, Encoding, FileSource, ModelConfig, Tokenizer, WeightError, WeightFile,
};

/// A safetensors file of that header and as many zero bytes of data.
fn file(header: &Value, data: usize) -> Vec<u8> {
    let json = header.to_string();
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn tensor(dtype: &str, shape: &[u64], begin: u64, end: u64) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})
}

fn open(bytes: Vec<u8>) -> Result<WeightFile<Vec<u8>>, WeightError> {
    block_on(WeightFile::open(bytes))
}

/// The error names the tensor and says why.
fn refused(header: Value, data: usize, tensor: &str, reason: &str) {
    match open(file(&header, data)) {
        Err(WeightError::Tensor {
            tensor: named,
            reason: said,
        }) => {
            assert_eq!(named, tensor, "{said}");
            assert!(said.contains(reason), "{named}: {said}");
        }
        other => panic!("{other:?}, where {tensor} should have been refused because it {reason}"),
    }
}

#[test]
fn lying_tensors_are_refused_by_name() {
    refused(
        json!({"a": tensor("F32", &[2], 0, 8), "b": tensor("F32", &[2], 4, 12)}),
        12,
        "b",
        "inside its predecessor",
    );
    refused(
        json!({"a": tensor("F32", &[2], 0, 8), "b": tensor("F32", &[2], 12, 20)}),
        20,
        "b",
        "leaving a gap",
    );
    refused(
        json!({"a": tensor("F32", &[3], 0, 8)}),
        8,
        "a",
        "does not fill",
    );
    refused(json!({"a": tensor("F32", &[2], 0, 8)}), 7, "a", "cut short");
    refused(
        json!({"a": tensor("F32", &[u64::MAX, 4], 0, 8)}),
        8,
        "a",
        "overflows",
    );
    refused(
        json!({"a": tensor("F32", &[1 << 40, 1 << 40], 0, 8)}),
        8,
        "a",
        "overflows",
    );
    refused(
        json!({"a": tensor("F32", &[0], 8, 0)}),
        8,
        "a",
        "leaving a gap",
    );
    refused(
        json!({"a": tensor("NOPE", &[2], 0, 8)}),
        8,
        "a",
        "is not valid",
    );
    refused(
        json!({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}),
        8,
        "a",
        "is not valid",
    );
    refused(json!({"a": 17}), 8, "a", "is not valid");
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let json = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.extend([0; 8]);
    let error = open(bytes).unwrap_err().to_string();
    assert!(error.contains('a') && error.contains("twice"), "{error}");
}

#[test]
fn quantised_tensors_need_all_their_parts_in_shape() {
    let with = |parts: Value| {
        let mut header = json!({"__metadata__": {LAYOUT_KEY: LAYOUT}});
        header
            .as_object_mut()
            .unwrap()
            .extend(parts.as_object().unwrap().clone());
        header
    };
    refused(
        with(json!({"w.q8": tensor("U8", &[2, 32], 0, 64)})),
        64,
        "w",
        "w.scale is missing",
    );
    refused(
        with(
            json!({"w.q8": tensor("U8", &[2, 32], 0, 64), "w.scale": tensor("F16", &[2, 2], 64, 72)}),
        ),
        72,
        "w",
        "F16 [2, 1] is needed",
    );
    refused(
        with(
            json!({"w.q8": tensor("U8", &[2, 32], 0, 64), "w.scale": tensor("BF16", &[2, 1], 64, 68)}),
        ),
        68,
        "w",
        "BF16",
    );
    refused(
        with(json!({"w.q4": tensor("U8", &[1, 24], 0, 24)})),
        24,
        "w",
        "whole blocks",
    );
    refused(
        with(json!({"w.q4": tensor("U8", &[32], 0, 32)})),
        32,
        "w",
        "whole blocks",
    );
    refused(
        with(json!({"w": tensor("F32", &[1], 0, 4), "w.q8": tensor("U8", &[1, 32], 4, 36)})),
        36,
        "w",
        "both plain and quantised",
    );
    refused(
        with(
            json!({"w.q4": tensor("U8", &[1, 16], 0, 16), "w.q8": tensor("U8", &[1, 32], 16, 48)}),
        ),
        48,
        "w",
        "two quantised forms",
    );
    // Without the description of the layout, or with another version's, nothing is guessed.
    let parts =
        json!({"w.q8": tensor("U8", &[1, 32], 0, 32), "w.scale": tensor("F16", &[1, 1], 32, 34)});
    refused(
        parts.clone(),
        34,
        "w.q8",
        "describes no layout that this version knows",
    );
    let mut other = parts.clone();
    other["__metadata__"] = json!({LAYOUT_KEY: "3: something else"});
    refused(
        other,
        34,
        "w.q8",
        "describes no layout that this version knows",
    );
    let whole = open(file(&with(parts), 34)).unwrap();
    let stored = whole.tensor("w").unwrap();
    assert_eq!(
        (stored.encoding, stored.rows, stored.cols),
        (Encoding::Q8_0, 1, 32)
    );
}

#[test]
fn unusable_tensors_are_refused_only_when_asked_for() {
    let file = open(file(
        &json!({"mask": tensor("I64", &[1], 0, 8), "cube": tensor("F32", &[1, 1, 2], 8, 16), "v": tensor("F32", &[1], 16, 20)}),
        20,
    ))
    .unwrap();
    assert_eq!(file.tensor("v").unwrap().cols, 1);
    for (name, reason) in [
        ("mask", "I64"),
        ("cube", "[1, 1, 2]"),
        ("absent", "is missing"),
    ] {
        let error = file.tensor(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(reason), "{error}");
    }
}

#[test]
fn files_cut_anywhere_or_too_long_are_refused() {
    let whole = file(
        &json!({"a": tensor("F16", &[4], 0, 8), "b": tensor("F32", &[2, 2], 8, 24)}),
        24,
    );
    assert!(open(whole.clone()).is_ok());
    for length in 0..whole.len() {
        assert!(open(whole[..length].to_vec()).is_err(), "{length} bytes");
    }
    let error = open([whole, vec![0]].concat()).unwrap_err().to_string();
    assert!(error.contains("25 follow"), "{error}");
    for length in [MAX_HEADER_BYTES + 1, u64::MAX, u64::MAX - 7] {
        let error = open([&length.to_le_bytes()[..], &[0; 64]].concat())
            .unwrap_err()
            .to_string();
        assert!(error.contains("claims"), "{error}");
    }
}

#[test]
fn a_file_that_shrinks_behind_our_back_is_an_error() {
    let path = std::env::temp_dir().join(format!(
        "trimtab-shrinks-{}.safetensors",
        std::process::id()
    ));
    std::fs::write(
        &path,
        file(&json!({"a": tensor("F32", &[2, 4], 0, 32)}), 32),
    )
    .unwrap();
    let weights = block_on(WeightFile::open(FileSource::open(&path).unwrap())).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(80)
        .unwrap();
    let result = block_on(weights.read_rows(weights.tensor("a").unwrap(), 0..2));
    std::fs::remove_file(&path).unwrap();
    assert!(result.is_err());
    assert!(FileSource::open(&std::env::temp_dir()).is_err());
}

fn any_dtype() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "F32", "F16", "BF16", "U8", "I64", "BOOL", "F4", "F8_E4M3", "X",
    ])
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => ("[abw]{1,2}", prop::sample::select(vec!["", ".q4", ".q8", ".scale", ".min"])).prop_map(|(stem, end)| stem + end),
        1 => any::<String>(),
    ]
}

/// Small numbers, so that some headers are right, and huge ones.
fn any_size() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..5_u64, 4 => Just(32_u64), 1 => any::<u64>()]
}

prop_compose! {
    fn any_tensor()(dtype in any_dtype(), shape in prop::collection::vec(any_size(), 0..4), begin in any_size(), length in any_size()) -> Value {
        json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, begin.saturating_add(length)]})
    }
}

/// Tensors one behind the other, as long as they ought to be.
fn consistent_header(entries: &[(String, &'static str, Vec<u64>)]) -> (Value, usize) {
    let mut header = json!({"__metadata__": {LAYOUT_KEY: LAYOUT}});
    let mut end = 0;
    for (name, dtype, shape) in entries {
        if header.get(name).is_none() {
            let width = match *dtype {
                "F32" => 4,
                "F16" | "BF16" => 2,
                "I64" => 8,
                _ => 1,
            };
            let begin = end;
            end += shape.iter().product::<u64>() * width;
            header[name] = tensor(dtype, shape, begin, end);
        }
    }
    (header, end as usize)
}

/// A file that was opened can be read to its last row, unless a number is not finite, and the library reads it too.
fn holds(bytes: &[u8]) {
    if let Ok(weights) = open(bytes.to_vec()) {
        SafeTensors::deserialize(bytes).unwrap();
        for stored in weights.tensors() {
            let rows = match block_on(weights.read_rows(stored, 0..stored.rows)) {
                Ok(rows) => rows,
                Err(error) => {
                    assert!(error.to_string().contains("not finite"), "{error}");
                    continue;
                }
            };
            let mut out = vec![0.0; stored.cols];
            for row in 0..stored.rows {
                rows.dequantise_row(row, &mut out);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0..400_u64) {
        holds(&bytes);
        holds(&[&length.to_le_bytes()[..], &bytes].concat());
    }

    #[test]
    fn any_header_is_survived(entries in prop::collection::vec((any_name(), any_tensor()), 0..6), data in 0..200_usize) {
        holds(&file(&Value::Object(entries.into_iter().collect()), data));
    }

    #[test]
    fn consistent_headers_hold_what_they_say(
        entries in prop::collection::vec(
            (any_name(), prop::sample::select(vec!["F32", "F16", "BF16", "U8", "I64"]), prop::collection::vec(prop_oneof![0..4_u64, Just(16), Just(32), Just(64)], 0..3)),
            0..8,
        ),
    ) {
        let (header, data) = consistent_header(&entries);
        let bytes = file(&header, data);
        // Only the joining of quantised parts may still refuse it, and then by name.
        let refused_whole = matches!(open(bytes.clone()), Err(WeightError::Header { .. } | WeightError::Source(_)));
        prop_assert!(!refused_whole || header.as_object().unwrap().keys().any(String::is_empty));
        holds(&bytes);
    }

    #[test]
    fn a_changed_byte_is_survived(at in 0..300_usize, value in any::<u8>()) {
        let mut bytes = file(
            &json!({"__metadata__": {LAYOUT_KEY: "1:"}, "w.q4": tensor("U8", &[2, 16], 0, 32), "w.scale": tensor("F16", &[2, 1], 32, 36), "v": tensor("F32", &[2], 36, 44)}),
            44,
        );
        let length = bytes.len();
        bytes[at % length] = value;
        holds(&bytes);
    }

    #[test]
    fn any_metadata_is_survived(text in any::<String>()) {
        let header = block_on(read_header(&file(&json!({"__metadata__": {"k": text.clone()}}), 0))).unwrap();
        prop_assert_eq!(&header.metadata["k"], &text);
        let broken = file(&json!({"__metadata__": {"k": [text]}}), 0);
        prop_assert!(block_on(read_header(&broken)).is_err());
    }

    #[test]
    fn any_manifest_is_survived_and_names_only_plain_files(
        path in prop_oneof![any::<String>(), "[a-z./\\\\]{1,12}", Just("config.json".to_owned())],
        bytes in any::<u64>(),
        sha256 in prop_oneof![any::<String>(), "[0-9a-f]{64}", "[0-9A-F]{64}"],
        format in 0..3_u32,
        text in any::<String>(),
    ) {
        let json = json!({"format": format, "name": text, "licence": text, "source": text, "files": [{"path": path, "bytes": bytes, "sha256": sha256}]});
        if let Ok(manifest) = Manifest::from_json(json.to_string().as_bytes()) {
            prop_assert_eq!(manifest.format, 1);
            let file = &manifest.files[0];
            prop_assert!(!file.path.contains(['/', '\\', ':', '\0']) && !file.path.starts_with('.'));
            prop_assert!(file.sha256.len() == 64 && file.bytes <= 1 << 40);
            let again = serde_json::to_vec(&manifest).unwrap();
            prop_assert_eq!(Manifest::from_json(&again).unwrap(), manifest);
        }
    }

    #[test]
    fn any_bytes_are_survived_by_the_small_files(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::from_json(&bytes).is_err());
        prop_assert!(ModelConfig::from_json(&bytes).is_err());
        prop_assert!(Tokenizer::from_json(&bytes).is_err());
        let _ = ChatTemplate::from_files(Some(&bytes), None);
        let _ = ChatTemplate::from_files(None, Some(&bytes));
    }

    #[test]
    fn any_configuration_is_survived_and_bounded(
        sizes in prop::collection::vec(prop_oneof![1..100_u64, any::<u64>()], 8),
        theta in any::<f64>(), epsilon in any::<f64>(), eos in prop::collection::vec(any::<u32>(), 0..3),
    ) {
        let json = json!({
            "model_type": "llama", "hidden_size": sizes[0], "num_hidden_layers": sizes[1], "num_attention_heads": sizes[2],
            "num_key_value_heads": sizes[3], "head_dim": sizes[4], "intermediate_size": sizes[5], "vocab_size": sizes[6],
            "max_position_embeddings": sizes[7], "rope_theta": theta, "rms_norm_eps": epsilon, "eos_token_id": eos,
        });
        if let Ok(config) = ModelConfig::from_json(json.to_string().as_bytes()) {
            prop_assert!(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0);
            prop_assert!(config.hidden_size <= 1 << 16 && config.layers <= 1024 && config.vocab_size <= 1 << 22);
            prop_assert!(config.rotary.theta.is_finite() && config.norm_epsilon > 0.0);
            prop_assert!(config.end_tokens.iter().all(|&id| (id as usize) < config.vocab_size));
        }
    }
}

#[test]
fn over_long_files_are_refused_before_they_are_parsed() {
    let long = vec![b' '; 2 << 20];
    assert!(
        Manifest::from_json(&long)
            .unwrap_err()
            .to_string()
            .contains("more than")
    );
    assert!(
        ModelConfig::from_json(&long)
            .unwrap_err()
            .to_string()
            .contains("more than")
    );
    assert!(
        ChatTemplate::from_files(Some(&long), None)
            .unwrap_err()
            .to_string()
            .contains("long")
    );
}

#[test]
fn configurations_name_the_field_that_is_wrong() {
    let right = json!({
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 96, "vocab_size": 100, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "eos_token_id": 2,
    });
    let config = ModelConfig::from_json(right.to_string().as_bytes()).unwrap();
    assert_eq!(
        (config.head_dim, config.end_tokens, config.tied_embeddings),
        (16, vec![2], false)
    );
    for (field, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(66)),
        ("num_hidden_layers", json!(null)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(15)),
        ("vocab_size", json!(1_u64 << 40)),
        ("rms_norm_eps", json!(0.0)),
        ("rope_theta", json!(0.0)),
        (
            "rope_scaling",
            json!({"rope_type": "llama3", "factor": 8.0}),
        ),
        ("rope_scaling", json!({"type": "linear"})),
        (
            "rope_scaling",
            json!({"rope_type": "default", "beta_fast": 32}),
        ),
        ("rope_scaling", json!({"rope_type": 3})),
        (
            "rope_parameters",
            json!({"sliding_attention": {"rope_theta": 1e4}, "full_attention": {"rope_theta": 1e6}}),
        ),
        (
            "rope_parameters",
            json!({"linear_attention": {"rope_theta": 1e4}}),
        ),
        ("rope_parameters", json!({"rope_theta": "1e4"})),
        ("partial_rotary_factor", json!(0.5)),
        ("layer_types", json!(["linear_attention"])),
        ("eos_token_id", json!([2, 100])),
        ("eos_token_id", json!("</s>")),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value.clone();
        let error = ModelConfig::from_json(wrong.to_string().as_bytes())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(field) && error.contains("llama"),
            "{field} = {value}: {error}"
        );
    }
}

#[test]
fn keys_that_are_there_are_understood() {
    let read = |changes: Value| {
        let mut config = json!({
            "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 64, "vocab_size": 10, "max_position_embeddings": 128, "rope_theta": 1e4,
        });
        let fields = changes.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(fields);
        ModelConfig::from_json(config.to_string().as_bytes()).unwrap()
    };
    let nested = json!({"full_attention": {"rope_theta": 5e5, "rope_type": "default"}});
    let flat = json!({"rope_theta": 5e5, "rope_type": "default", "factor": null});
    for parameters in [nested, flat] {
        let config =
            read(json!({"rope_parameters": parameters, "layer_types": ["full_attention"]}));
        assert_eq!(config.rotary.theta, 5e5);
    }
    assert_eq!(read(json!({"rope_parameters": null})).rotary.theta, 1e4);
    assert!(read(json!({"eos_token_id": -1})).end_tokens.is_empty());
    assert_eq!(read(json!({"eos_token_id": [3, null, -1]})).end_tokens, [3]);
}

#[test]
fn windows_are_known_where_a_model_slides() {
    let context = |changes: Value| {
        let mut config = json!({
            "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
            "vocab_size": 10, "max_position_embeddings": 32768,
        });
        let fields = changes.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(fields);
        let config = ModelConfig::from_json(config.to_string().as_bytes()).unwrap();
        (config.context, config.sliding_window)
    };
    let whole = (32768, None);
    let windowed = (32768, Some(4096));
    assert_eq!(context(json!({"model_type": "mistral"})), windowed);
    let mistral = json!({"model_type": "mistral", "sliding_window": null});
    assert_eq!(context(mistral), whole);
    let mistral = json!({"model_type": "mistral", "sliding_window": 65536});
    assert_eq!(context(mistral), whole);
    let qwen2 = json!({"model_type": "qwen2", "sliding_window": 4096});
    assert_eq!(context(qwen2), whole);
    let qwen2 = json!({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": true, "max_window_layers": 0});
    assert_eq!(context(qwen2), windowed);
    let llama = json!({"model_type": "llama", "sliding_window": 4096});
    assert_eq!(context(llama), whole);
}

#[test]
fn a_template_without_an_end_is_stopped() {
    let template = ChatTemplate::from_files(Some(b"{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}"), None).unwrap();
    assert!(template.render(&[], true).is_err());
}
