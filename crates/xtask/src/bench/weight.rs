//! What a visitor downloads before the model: the built page, gzipped.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::bundle::gzip;
use crate::files::{files_below, read};

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
    let page = root.join("web/dist");
    for file in files_below(&page)? {
        let kind = file.rsplit('.').next().unwrap_or_default();
        if !["wasm", "js", "css"].contains(&kind) {
            continue;
        }
        let bytes = gzip(&read(&page.join(&file))?)?.len();
        match kind {
            // Every browser gets one of the modules.
            "wasm" => weight.wasm = weight.wasm.max(bytes),
            "js" => weight.javascript += bytes,
            _ => weight.css += bytes,
        }
    }
    Ok(weight)
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
