//! `dist/site`: the page and the models as a folder for any host of static files, whatever headers it sends.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::megabytes;
use crate::files::{files_below, read, remove_folder, sha256, write};

/// Hosts that cost nothing take files of 25 MB at most.
const LARGEST: usize = 24_000_000;

/// What the folder is made from, and where.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The built page.
    pub page: PathBuf,
    /// The models and their catalogue.
    pub models: PathBuf,
    /// Bytes of the largest file; longer ones are put there in parts.
    pub largest: usize,
    pub site: PathBuf,
}

impl Contents {
    pub fn published(root: &Path) -> Self {
        Self {
            page: root.join("web/dist"),
            models: root.join("models"),
            largest: LARGEST,
            site: root.join("dist/site"),
        }
    }
}

/// Makes the folder and says how large it is.
pub fn make(contents: &Contents) -> Result<()> {
    fill(contents)?;
    let site = &contents.site;
    let sizes = files_below(site)?
        .iter()
        .map(|file| Ok(fs::metadata(site.join(file))?.len()))
        .collect::<Result<Vec<u64>>>()?;
    println!(
        "{}: {} files, {} in all, the largest {}. Put the folder on any host of static files, or serve it with \
         `trimtab serve --site {0}`",
        site.display(),
        sizes.len(),
        megabytes(sizes.iter().sum()),
        megabytes(sizes.iter().copied().max().unwrap_or(0)),
    );
    Ok(())
}

/// Empties the folder and fills it.
pub fn fill(contents: &Contents) -> Result<()> {
    let Contents {
        page, models, site, ..
    } = contents;
    remove_folder(site)?;
    for file in files_below(page)? {
        write(&site.join(&file), &read(&page.join(&file))?)?;
    }
    let mut catalogue: Value = serde_json::from_slice(&read(&models.join("catalog.json"))?)
        .context("models/catalog.json is broken")?;
    for model in items(&mut catalogue, "models")? {
        let id = text(model, "id")?;
        for file in items(model, "files")? {
            let path = format!("{id}/{}", text(file, "path")?);
            let bytes = read(&models.join(&path))?;
            check(file, &path, &bytes)?;
            place(file, contents, &path, &bytes)?;
        }
        for list in ["vectors", "reports", "replaced"] {
            for file in items(model, list)? {
                let path = format!("vectors/{}", text(file, "path")?);
                let bytes = read(&models.join(&path))?;
                check(file, &path, &bytes)?;
                write(&site.join("models").join(&path), &bytes)?;
            }
        }
    }
    write(
        &site.join("models/catalog.json"),
        &serde_json::to_vec(&catalogue)?,
    )
}

/// Whole, or in parts that the catalogue's entry then lists.
fn place(entry: &mut Value, contents: &Contents, path: &str, bytes: &[u8]) -> Result<()> {
    let models = contents.site.join("models");
    if bytes.len() <= contents.largest {
        return write(&models.join(path), bytes);
    }
    let name = text(entry, "path")?;
    let mut parts = Vec::new();
    for (index, part) in bytes.chunks(contents.largest).enumerate() {
        let end = format!(".part{index:03}");
        write(&models.join(format!("{path}{end}")), part)?;
        parts.push(json!({"path": format!("{name}{end}"), "bytes": part.len()}));
    }
    entry["parts"] = Value::Array(parts);
    Ok(())
}

/// A page with other files than its catalogue promises would refuse them only at its visitors'.
fn check(entry: &Value, path: &str, bytes: &[u8]) -> Result<()> {
    if entry["bytes"].as_u64() != Some(bytes.len() as u64) || entry["sha256"] != sha256(bytes) {
        bail!("models/{path} is not the file that models/catalog.json lists");
    }
    Ok(())
}

fn items<'a>(value: &'a mut Value, key: &str) -> Result<&'a mut Vec<Value>> {
    value[key]
        .as_array_mut()
        .with_context(|| format!("models/catalog.json has no list of {key} where one belongs"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("models/catalog.json has no {key} where one belongs"))
}
