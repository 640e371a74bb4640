//! Ready-made traits: contrast sets and vectors of the trait packs, for the default model.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::{model, process};

/// Makes the named traits, or all of `models/traits`. A contrast set that is there is used (an unfinished one gone on with); a
/// vector whose tensor changes stays beside the new one under its hash, because links name it.
pub fn make(root: &Path, names: &[String]) -> Result<()> {
    model::ensure_model(root)?;
    let packs = root.join("models/traits");
    let all = names_of_packs(&packs)?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        anyhow::bail!(
            "there is no trait {unknown:?}; there are {}",
            all.join(", ")
        );
    }
    for name in if names.is_empty() { &all } else { names } {
        let out = root.join(format!("models/vectors/{name}.safetensors"));
        let before = fs::read(&out).ok();
        let mut program = process::cargo(root);
        program.args([
            "run",
            "--release",
            "--package",
            "trimtab",
            "--",
            "extract",
            "--trait",
        ]);
        program.arg(packs.join(format!("{name}.json")));
        program.arg("--out").arg(&out);
        program.args(["--neutral", "models/vectors/neutral.json", "--json"]);
        let line = process::announce(&program);
        let output = program
            .output()
            .with_context(|| format!("`{line}` could not be started"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` failed: {error}");
        let report = root.join(format!("models/vectors/{name}.report.json"));
        fs::write(&report, &output.stdout)
            .with_context(|| format!("{} cannot be written", report.display()))?;
        if let Some(before) = before {
            keep_replaced(root, &out, &before)?;
        }
    }
    Ok(())
}

fn names_of_packs(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            Some(
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".json")?
                    .to_owned(),
            )
        })
        .filter(|name| name != "schema")
        .collect();
    names.sort();
    Ok(names)
}

/// Puts the old file beside the new one, under the sha256 of its default tensor, where that is another.
fn keep_replaced(root: &Path, out: &Path, before: &[u8]) -> Result<()> {
    let hash = |bytes: &[u8]| -> Result<String> {
        let file = trimtab_persona::vector_file::VectorFile::parse(bytes)?;
        Ok(trimtab_persona::trait_vector::tensor_hash(
            file.choose(None)?.1,
        ))
    };
    let after = fs::read(out).with_context(|| out.display().to_string())?;
    let old = hash(before)?;
    if old != hash(&after)? {
        let path = root.join(format!("models/vectors/{old}.safetensors"));
        fs::write(&path, before).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
