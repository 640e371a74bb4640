//! Commands run on the person's behalf: each is printed before it runs, so that it can be repeated by hand.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Variables that `cargo run` and rustup's proxies set for this process and that must not steer a child's toolchain.
const INHERITED: &[&str] = &["RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CARGO"];

/// A cargo command with the toolchain that the person's own `cargo` names.
pub fn cargo(root: &Path) -> Command {
    command("cargo", root)
}

pub fn command(program: impl AsRef<std::ffi::OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if INHERITED.contains(&name.as_ref())
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Runs to the end with the terminal's own output; a failure names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| {
        format!("`{line}` could not be started; is it installed and on the PATH?")
    })?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end and gives what it printed; what it says on standard error stays on the terminal.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let line = announce(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{line}` could not be started"))?;
    ensure!(
        output.status.success(),
        "`{line}` failed ({})",
        output.status
    );
    Ok(output.stdout)
}

/// The same of a command that is quiet unless it fails: then the error has what it said on standard error.
pub fn quiet_output(command: &mut Command) -> Result<Vec<u8>> {
    let line = announce(command);
    let output = command
        .output()
        .with_context(|| format!("`{line}` could not be started"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed: {error}");
    Ok(output.stdout)
}

/// Standard output of a quiet question to a tool; `None` when it is missing or says no.
pub fn answer(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// An example of one of the crates, built first.
pub fn example(root: &Path, name: &str) -> Command {
    let mut command = cargo(root);
    command.args(["run", "--release", "--quiet", "--example", name, "--"]);
    command
}

/// Gives a program `request` on its standard input and reads its standard output, both as JSON.
pub fn ask<T: DeserializeOwned>(command: &mut Command, request: &Value) -> Result<T> {
    let line = line(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{line}` could not be started"))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends before it has read everything says why by itself.
        let _ = input.write_all(request.to_string().as_bytes());
    }
    let output = child.wait_with_output()?;
    let status = output.status;
    ensure!(status.success(), "`{line}` failed ({status})");
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("what `{line}` printed is not what was asked for"))
}

/// Where a program lies on the PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(format!("{program}{}", env::consts::EXE_SUFFIX)))
        .find(|candidate| candidate.is_file())
}

/// Shows the command that is about to run; returns it as shown.
pub fn announce(command: &Command) -> String {
    let line = line(command);
    eprintln!("$ {line}");
    line
}

/// The command as a person would type it, with the variables it adds.
pub fn line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!(
            "{}={}",
            name.to_string_lossy(),
            value?.to_string_lossy()
        ))
    });
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}
