//! What a visitor downloads before the model: the built page, gzipped.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Weight {
    /// Gzipped bytes.
    pub wasm: usize,
    pub javascript: usize,
    pub css: usize,
}

/// Weighs `web/dist`, which must be built.
pub fn weigh(root: &Path) -> Result<Weight> {
    let mut weight = Weight {
        wasm: 0,
        javascript: 0,
        css: 0,
    };
    add(&root.join("web/dist"), &mut weight)?;
    Ok(weight)
}

fn add(folder: &Path, weight: &mut Weight) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            add(&path, weight)?;
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        let extension = extension.unwrap_or_default();
        if !["wasm", "js", "css"].contains(&extension) {
            continue;
        }
        let bytes = gzipped(&fs::read(&path)?)?;
        match extension {
            // Every browser gets one of the modules.
            "wasm" => weight.wasm = weight.wasm.max(bytes),
            "js" => weight.javascript += bytes,
            _ => weight.css += bytes,
        }
    }
    Ok(())
}

/// Length after gzip at its best.
fn gzipped(bytes: &[u8]) -> Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kilobytes = |bytes: usize| bytes as f64 / 1000.0;
        writeln!(f, "| the page, gzipped | kB |\n| --- | --- |")?;
        writeln!(f, "| WebAssembly | {:.1} |", kilobytes(self.wasm))?;
        writeln!(f, "| JavaScript | {:.1} |", kilobytes(self.javascript))?;
        writeln!(f, "| CSS | {:.1} |", kilobytes(self.css))
    }
}
