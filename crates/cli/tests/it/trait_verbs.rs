//! `trimtab trait`, as a person meets it. No model is needed.

use crate::{fresh, trimtab};
use serde_json::Value;
use std::process::Output;
use trimtab_testing::files::bytes;

fn trimtab_trait(arguments: &[&str]) -> Output {
    trimtab(&[&["trait"], arguments].concat())
}

fn refused(arguments: &[&str]) -> String {
    crate::refused(&[&["trait"], arguments].concat())
}

fn new<'a>(name: &'a str, out: &'a str) -> [&'a str; 9] {
    [
        "new",
        "--name",
        name,
        "--description",
        "Talks like a sailor of old.",
        "--opposite",
        "stays on land",
        "--out",
        out,
    ]
}

#[test]
fn a_sentence_becomes_a_pack_that_passes() {
    let path = fresh("sea-dog.json");
    let path = path.to_str().unwrap();
    let made = trimtab_trait(&[&new("sea-dog", path)[..], &["--json"]].concat());
    assert!(made.status.success());
    let checked = trimtab_trait(&["check", path, "--json"]);
    assert!(checked.status.success());
    assert_eq!(made.stdout, checked.stdout);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["name"], "sea-dog");
    assert_eq!(report["instructions"], 5);
    assert_eq!(report["questions"]["extraction"], 20);
    assert_eq!(report["questions"]["evaluation"], 40);
    let pack: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(pack["opposite"], "stays on land");
}

#[test]
fn work_that_is_there_is_not_overwritten() {
    let path = fresh("taken.json");
    std::fs::write(&path, "mine").unwrap();
    let error = refused(&new("sea-dog", path.to_str().unwrap()));
    assert!(
        error.contains("taken.json") && error.contains("exists"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn what_is_wrong_is_named() {
    let path = fresh("never.json");
    let error = refused(&new("Sea Dog", path.to_str().unwrap()));
    assert!(error.contains("name: must be"), "{error}");
    assert!(!path.exists());

    let pack = bytes("models/traits/cheerful.json");
    let mut pack: Value = serde_json::from_slice(&pack).unwrap();
    pack["questions"]["evaluation"][3] = " ".into();
    let spoilt = fresh("spoilt.json");
    std::fs::write(&spoilt, pack.to_string()).unwrap();
    let error = refused(&["check", spoilt.to_str().unwrap()]);
    assert!(
        error.contains("spoilt.json: questions.evaluation[3]: is empty"),
        "{error}"
    );
    assert!(refused(&["check", "nowhere.json"]).contains("nowhere.json"));
}
