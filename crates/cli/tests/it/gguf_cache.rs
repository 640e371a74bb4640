//! GGUF files named with `--model`.

use crate::{command, emptied, scratch};
use serde_json::{Value, json};
use std::path::Path;
use trimtab_testing::files::repository;

#[test]
fn a_gguf_file_is_a_model_that_is_converted_once_kept_listed_and_dropped() {
    let file = repository().join("tests/golden/tiny/tiny.gguf");
    let file = file.to_str().unwrap();
    let ids = scratch("gguf-cache-ids.json");
    std::fs::write(&ids, json!({"ids": [0, 7, 20, 45]}).to_string()).unwrap();
    let cache = emptied("gguf-cache");
    let run = |arguments: &[&str]| {
        let mut command = command(arguments);
        let output = command.env("TRIMTAB_CACHE", &cache).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        (String::from_utf8(output.stdout).unwrap(), error)
    };
    let score = |model: &str| {
        let ids = ids.to_str().unwrap();
        let (printed, said) = run(&["score", "--model", model, "--ids", ids, "--json"]);
        (serde_json::from_str::<Value>(&printed).unwrap(), said)
    };
    let (scores, said) = score(file);
    assert!(
        said.contains("is kept converted in") && said.contains("MB"),
        "{said}"
    );
    let (again, said) = score(file);
    assert!(!said.contains("converted"), "{said}");
    assert_eq!(scores, again);

    // It is what `convert` writes, under the name of the file's hash.
    let converted = emptied("gguf-converted");
    let (manifest, _) = run(&["convert", file, converted.to_str().unwrap(), "--json"]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let sha256 = manifest["source_sha256"].as_str().unwrap();
    let kept: Value = read_json(&cache.join(sha256).join("manifest.json"));
    assert_eq!(manifest["files"], kept["files"]);
    assert_eq!(score(converted.to_str().unwrap()).0, scores);

    let (listed, _) = run(&["cache"]);
    assert!(
        listed.contains(&sha256[..12]) && listed.contains("Tiny"),
        "{listed}"
    );
    let (dropped, _) = run(&["cache", "--drop", &sha256[..6]]);
    assert!(dropped.contains(sha256), "{dropped}");
    assert!(!cache.join(sha256).exists());
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
