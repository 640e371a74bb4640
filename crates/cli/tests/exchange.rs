//! Vectors of other programs, as a person moves them in and out. No weights are needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use trimtab_engine::Layer;
use trimtab_persona::vector_file::VectorFile;

fn trimtab(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_trimtab"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output();
    output.unwrap()
}

fn scratch(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    path.display().to_string()
}

/// Standard error of a run that ends with 1.
fn refused(arguments: &[&str]) -> String {
    let output = trimtab(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
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
    let read = |path: &Path| {
        let file = VectorFile::parse(&std::fs::read(path).unwrap()).unwrap();
        file.choose(None).unwrap().1.clone()
    };
    let ready =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/vectors/cheerful.safetensors");
    let (before, after) = (read(&ready), read(Path::new(&back)));
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
