//! The recipes of the lessons' quotes, made again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files::write;
use crate::program::{Programs, trimtab};
use crate::{model, process};

/// Has the reference executor write every quoted answer of the ready-made lessons again, with the settings that its link
/// holds, and puts the new link in its place. A quote that the model no longer writes then fails its test.
pub fn quote(root: &Path) -> Result<()> {
    model::ensure_model(root, Programs::Fresh)?;
    let folder = root.join("web/lessons");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let lines = text.split_inclusive('\n');
        let again = lines.map(|line| match line.trim().strip_prefix("link: ") {
            Some(code) => Ok(line.replace(code, &written_again(root, code)?)),
            None => Ok(line.to_owned()),
        });
        write(&path, again.collect::<Result<String>>()?.as_bytes())?;
    }
    Ok(())
}

fn written_again(root: &Path, code: &str) -> Result<String> {
    let mut program = trimtab(root);
    program.args(["link", "again", "--backend", "reference", code]);
    let link = process::quiet_output(&mut program)?;
    Ok(String::from_utf8(link)?.trim().to_owned())
}
