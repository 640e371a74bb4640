//! Node packages of the page and of the end-to-end tests, exactly as their lock files say.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::digest::Stamp;
use crate::process;

const OLDEST_NODE: u32 = 20;

/// `npm ci` in `folder`, unless its lock file is what was installed last.
pub fn ensure_packages(folder: &Path) -> Result<()> {
    ensure_node(folder)?;
    let lock = folder.join("package-lock.json");
    let stamp = Stamp::new(
        folder.join("node_modules/.installed-lock"),
        "npm ci",
        &[&lock],
    )?;
    if stamp.current() {
        return Ok(());
    }
    process::run(npm(folder).args(["ci", "--no-audit", "--no-fund"]))?;
    stamp.write()
}

/// A script of `folder`'s package.json.
pub fn script(folder: &Path, name: &str) -> Command {
    let mut command = npm(folder);
    command.args(["run", "--silent", name]);
    command
}

fn npm(folder: &Path) -> Command {
    process::command(if cfg!(windows) { "npm.cmd" } else { "npm" }, folder)
}

fn ensure_node(folder: &Path) -> Result<()> {
    let version = process::answer(process::command("node", folder).arg("--version"))
        .context("Node is missing: install Node 20 or newer, with npm")?;
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .unwrap_or_default();
    match major.parse::<u32>() {
        Ok(major) if major >= OLDEST_NODE => Ok(()),
        _ => bail!("Node {version} is too old: install Node {OLDEST_NODE} or newer"),
    }
}
