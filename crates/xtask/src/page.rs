//! The page as a folder of files, `web/dist`, and everything it is made of.

use std::path::Path;

use anyhow::Result;

use crate::{model, node, process, record, wasm};

pub fn build(root: &Path) -> Result<()> {
    let web = root.join("web");
    node::ensure_packages(&web)?;
    model::ensure_model(root)?;
    wasm::build(root)?;
    record::ensure(root)?;
    process::run(&mut node::script(&web, "build"))
}
