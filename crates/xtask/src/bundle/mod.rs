//! Page and model in forms that are handed on: one file, a folder for any host, a program that serves it.

pub mod one_file;
pub mod program;
pub mod site;

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::files::{files_below, read, write};
use crate::page::{self, PublicAddress};

#[derive(Clone, Copy, Debug)]
pub enum Form {
    OneFile,
    Site,
    Program,
}

/// Builds what is needed, and then `form`, in `dist/`.
pub fn run(root: &Path, address: &PublicAddress, form: Form) -> Result<()> {
    match form {
        Form::OneFile => {
            page::prepare(root)?;
            one_file::make(root, address, &one_file::Contents::published(root))
        }
        Form::Site => {
            page::build(root, address)?;
            site::make(&site::Contents::published(root))
        }
        Form::Program => {
            page::build(root, address)?;
            program::make(root)
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Compressed at its best.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Puts a compressed twin, which a server sends instead, beside each file of a page that it makes smaller.
pub fn add_twins(page: &Path) -> Result<()> {
    for file in files_below(page)? {
        // Weights hardly get smaller; and a download that goes on in the middle must not meet a compressed file.
        if file.starts_with("models/") && file != "models/catalog.json" {
            continue;
        }
        let bytes = read(&page.join(&file))?;
        let smaller = gzip(&bytes)?;
        if smaller.len() < bytes.len() / 10 * 9 {
            write(&page.join(format!("{file}.gz")), &smaller)?;
        }
    }
    Ok(())
}
