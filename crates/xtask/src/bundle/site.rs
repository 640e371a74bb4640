//! `dist/site`: the page and the models as a folder for any host of static files, whatever headers it sends.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::megabytes;
use crate::catalogue::{self, Catalogue};
use crate::files::{ListedFile, Part, files_below, read, remove_folder, sha256, write};

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
    let mut catalogue = Catalogue::read(models)?;
    for (path, file) in catalogue.files() {
        let bytes = read(&models.join(&path))?;
        // A page with other files than its catalogue promises would refuse them only at its visitors'.
        ensure!(
            file.bytes == bytes.len() as u64 && file.sha256 == sha256(&bytes),
            "models/{path} is not the file that models/catalog.json lists"
        );
        place(file, contents, &path, &bytes)?;
    }
    let catalogue = serde_json::to_vec(&catalogue)?;
    write(&site.join("models").join(catalogue::FILE), &catalogue)
}

/// Whole, or in parts that the catalogue's entry then lists.
fn place(file: &mut ListedFile, contents: &Contents, path: &str, bytes: &[u8]) -> Result<()> {
    let models = contents.site.join("models");
    if bytes.len() <= contents.largest {
        return write(&models.join(path), bytes);
    }
    let mut parts = Vec::new();
    for (index, part) in bytes.chunks(contents.largest).enumerate() {
        let end = format!(".part{index:03}");
        write(&models.join(format!("{path}{end}")), part)?;
        parts.push(Part {
            path: format!("{}{end}", file.path),
            bytes: part.len(),
        });
    }
    file.parts = Some(parts);
    Ok(())
}
