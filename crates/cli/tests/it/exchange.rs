//! Vectors of other programs, as a person moves them in and out, calibrates and compares them.

use crate::{printed, refused, trimtab};
use serde_json::Value;
use std::path::Path;
use trimtab_engine::{Layer, LayerTable};
use trimtab_persona::control_vector::ControlVector;
use trimtab_persona::vector_file::{VectorFile, VectorMetadata};
use trimtab_testing::files::bytes;

fn scratch(name: &str) -> String {
    crate::scratch(name).display().to_string()
}

/// A vector file by its path, from the repository's root on.
fn read(path: &str) -> VectorFile {
    VectorFile::parse(&bytes(path)).unwrap()
}

#[test]
fn a_vector_goes_out_as_gguf_and_comes_back_without_layers_0_and_1() {
    let (gguf, back) = (scratch("cheerful.gguf"), scratch("back.safetensors"));
    let output = trimtab(&["export", "cheerful", "--out", &gguf, "--json"]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            report["first_layer"].as_u64(),
            report["last_layer"].as_u64()
        ),
        (Some(2), Some(30))
    );
    assert!(trimtab(&["import", &gguf, "--out", &back]).status.success());
    let table = |path: &str| read(path).choose(None).unwrap().1.clone();
    let (before, after) = (table("models/vectors/cheerful.safetensors"), table(&back));
    assert!(after.row(Layer(1)).iter().all(|&value| value == 0.0));
    for layer in (2..31).map(Layer) {
        assert_eq!(before.row(layer), after.row(layer), "{layer:?}");
    }
}

#[test]
fn files_that_do_not_fit_are_refused_with_a_sentence() {
    let out = scratch("unwritten.safetensors");
    let error = refused(&["import", "tests/golden/tiny/tensor.pt", "--out", &out]);
    assert!(
        error.contains("shape [4, 3]") && error.contains("another model"),
        "{error}"
    );
    let broken = scratch("broken.gguf");
    std::fs::write(&broken, b"GGUF\x03\0\0\0").unwrap();
    let error = refused(&["import", &broken, "--out", &out]);
    assert!(error.contains("ends too soon"), "{error}");
    let error = refused(&["import", "README.md", "--out", &out]);
    assert!(error.contains("neither a .gguf nor a .pt"), "{error}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn an_import_names_every_layer_that_the_file_has_not() {
    let control = ControlVector {
        directions: (10..=20).map(|block| (block, vec![1.0; 576])).collect(),
        model_hint: "llama".to_owned(),
    };
    // As another system's programs write the ending.
    let (gguf, out) = (scratch("SOME.GGUF"), scratch("some.safetensors"));
    std::fs::write(&gguf, control.to_bytes()).unwrap();
    let report = printed(&["import", &gguf, "--out", &out, "--json"]);
    let missing: Vec<u64> = (0..=10).chain(22..=30).collect();
    assert_eq!(report["zero_layers"], serde_json::json!(missing));
    let made = read(&out).metadata.made.unwrap();
    assert!(made.contains("(0 to 10 and 22 to 30)"), "{made}");
}

/// The same as a ready-made vector has of its own, which was calibrated on the same neutral answers.
#[test]
fn a_vector_without_calibration_gets_one() {
    let (gguf, mine) = (scratch("bare.gguf"), scratch("bare.safetensors"));
    printed(&["export", "cheerful", "--out", &gguf, "--json"]);
    printed(&["import", &gguf, "--out", &mine, "--json"]);
    let report = printed(&["calibrate", &mine, "--json"]);
    assert!(report["conversations"].as_u64().unwrap() >= 30, "{report}");
    let (ready, mine) = (read("models/vectors/cheerful.safetensors"), read(&mine));
    let calibration = |file: &VectorFile| file.metadata.calibration["response_avg"].clone();
    let (known, found) = (calibration(&ready), calibration(&mine));
    let norms = |file: &VectorFile| file.metadata.neutral_norm.clone().unwrap();
    let near = |a: f32, b: f32, unit: f32| (a - b).abs() <= 1e-3 * unit;
    for layer in 2..31 {
        let unit = known.token.deviation[layer];
        assert!(near(found.token.mean[layer], known.token.mean[layer], unit));
        assert!(near(
            found.answer.deviation[layer],
            known.answer.deviation[layer],
            unit
        ));
        assert!(near(
            found.prompt.mean[layer],
            known.prompt.mean[layer],
            unit
        ));
        let norm = norms(&ready)[layer];
        assert!(near(norms(&mine)[layer], norm, norm));
    }
    assert_eq!(mine.metadata.model_sha256, ready.metadata.model_sha256);
    assert!(mine.metadata.coherence_band.is_some());
}

/// A vector file of that shape, all ones.
fn of_shape(name: &str, rows: usize, width: usize) -> String {
    let table = LayerTable::new(vec![1.0; rows * width], width).unwrap();
    let file = VectorFile {
        tensors: [("v".to_owned(), table)].into(),
        metadata: VectorMetadata::default(),
    };
    let path = scratch(name);
    std::fs::write(&path, file.to_bytes().unwrap()).unwrap();
    path
}

#[test]
fn vectors_are_compared_layer_by_layer() {
    let all = printed(&["compare", "--json"]);
    let names = all["names"].as_array().unwrap();
    assert!(
        names.len() > 2 && names.contains(&"villainous".into()),
        "{names:?}"
    );
    let some = printed(&[
        "compare",
        "cheerful",
        "villainous",
        "cheerful#prompt_avg",
        "--layers",
        "16,20-21",
        "--json",
    ]);
    let layers = some["layers"].as_array().unwrap();
    let numbers: Vec<_> = layers
        .iter()
        .map(|one| one["layer"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [16, 20, 21]);
    let rows: Vec<Vec<f64>> = serde_json::from_value(layers[0]["cosines"].clone()).unwrap();
    assert_eq!(rows.len(), 3);
    for (at, row) in rows.iter().enumerate() {
        assert!((row[at] - 1.0).abs() < 1e-6);
        assert!((row[0] - rows[0][at]).abs() < 1e-6);
    }
    assert!(rows[0][1] < -0.2 && rows[0][2] > 0.2, "{rows:?}");

    let same = trimtab(&["compare", "cheerful", "models/vectors/cheerful.safetensors"]);
    let said = String::from_utf8(same.stdout).unwrap();
    assert!(
        said.contains("nearly the same line: cheerful and"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_compared_or_calibrated_is_told() {
    let error = refused(&["compare", "cheerful", "poetic", "--layers", "31"]);
    assert!(error.contains("layer 31 does not exist"), "{error}");
    let small = of_shape("small.safetensors", 4, 3);
    let error = refused(&["compare", "cheerful", &small]);
    assert!(error.contains("shape [4, 3]"), "{error}");
    let error = refused(&["compare", &small, &small]);
    assert!(error.contains("recommends no layer"), "{error}");
    assert!(refused(&["compare", "cheerful"]).contains("at least two"));
    let error = refused(&["calibrate", &small]);
    assert!(error.contains("another model"), "{error}");
    // What measures by doses says how to come by them.
    let bare = of_shape("bare-fit.safetensors", 31, 576);
    let error = refused(&[
        "sweep",
        "--trait",
        "models/traits/cheerful.json",
        "--vector",
        &bare,
    ]);
    assert!(error.contains("trimtab calibrate"), "{error}");
}
