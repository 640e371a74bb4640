//! Node packages of the page and of the end-to-end tests, exactly as their lock files say.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::digest::Stamp;
use crate::process;

/// What the page's packages ask for, as `engines` in their package.json says.
const OLDEST_NODE: (u32, u32) = (20, 19);

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
    let (major, minor) = OLDEST_NODE;
    let version =
        process::answer(process::command("node", folder).arg("--version")).with_context(|| {
            format!("Node is missing: install Node {major}.{minor} or newer, with npm")
        })?;
    if release(&version).is_none_or(|release| release < OLDEST_NODE) {
        bail!("Node {version} is too old: install Node {major}.{minor} or newer");
    }
    Ok(())
}

/// `v20.19.3` is (20, 19).
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().trim_start_matches('v').split('.');
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(release("v20.9.0"), Some((20, 9)));
        assert!(release("v20.9.0") < Some(OLDEST_NODE));
        assert!(release("v22.1.0\n") >= Some(OLDEST_NODE));
        assert_eq!(release("nightly"), None);
    }
}
