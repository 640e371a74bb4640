//! The program `trimtab` as a person meets it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use trimtab_testing::chat_model;
use trimtab_testing::files::repository;

mod exchange;
mod fetch;
mod gguf_cache;
mod lab_verbs;
mod program;
mod study_verbs;
mod trait_verbs;

/// The program, to be started in the repository.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
    command.args(arguments).current_dir(repository());
    command
}

fn trimtab(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Standard output as JSON, of a run that succeeds.
fn printed(arguments: &[&str]) -> Value {
    let output = trimtab(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "trimtab {arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Standard error of a run that ends with 1 and prints nothing else.
fn refused(arguments: &[&str]) -> String {
    let output = trimtab(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A path in the build's own scratch folder.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A folder there with nothing in it.
fn emptied(name: &str) -> PathBuf {
    let folder = scratch(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The directory of a random model.
static MODEL: LazyLock<String> = LazyLock::new(|| {
    let directory = scratch("random-model");
    chat_model::write(&directory);
    directory.display().to_string()
});

/// A path there with no file.
fn fresh(name: &str) -> PathBuf {
    let path = scratch(name);
    if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    path
}
