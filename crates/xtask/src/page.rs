//! The page as a folder of files, `web/dist`, and everything it is made of.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::program::Programs;
use crate::{datasets, model, node, process, record, wasm};

/// Where others will find the page.
#[derive(Debug, Default, clap::Args)]
pub struct PublicAddress {
    /// The page's address on the web, which the links that it makes begin with; without it they are codes alone.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

impl PublicAddress {
    /// As the page's build reads it; empty: none.
    fn checked(&self) -> Result<&str> {
        let Some(url) = self.public_url.as_deref() else {
            return Ok("");
        };
        let whole = url.starts_with("https://") || url.starts_with("http://");
        if !whole || url.contains(|c: char| c == '#' || c.is_whitespace()) {
            bail!(
                "--public-url {url} is no address for links: give all of it, from https:// on, without a #"
            );
        }
        Ok(url)
    }
}

pub fn build(root: &Path, address: &PublicAddress) -> Result<()> {
    let mut build = script(root, "build", address)?;
    prepare(root)?;
    process::run(&mut build)
}

/// The page from what is there already.
pub fn bundle(root: &Path) -> Result<()> {
    datasets::publish(root)?;
    process::run(&mut script(root, "build", &PublicAddress::default())?)
}

/// A script of the page's that builds it for an address.
pub fn script(root: &Path, name: &str, address: &PublicAddress) -> Result<Command> {
    let mut command = node::script(&root.join("web"), name);
    command.env("VITE_PUBLIC_URL", address.checked()?);
    Ok(command)
}

/// Everything that the page is bundled from: its packages, the model, WebAssembly, data to train on, the recording.
pub fn prepare(root: &Path) -> Result<()> {
    node::ensure_packages(&root.join("web"))?;
    model::ensure_model(root, Programs::Fresh)?;
    wasm::build(root, wasm::Build::Release)?;
    datasets::publish(root)?;
    record::ensure(root, Programs::Fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_need_a_whole_address() {
        let checked = |url: &str| {
            let address = PublicAddress {
                public_url: Some(url.to_owned()),
            };
            address.checked().map(str::to_owned)
        };
        assert_eq!(
            checked("https://example.org/t/").unwrap(),
            "https://example.org/t/"
        );
        for refused in [
            "example.org",
            "file:///x",
            "https://example.org/#a",
            "https://a b",
        ] {
            assert!(checked(refused).is_err(), "{refused}");
        }
        assert_eq!(PublicAddress::default().checked().unwrap(), "");
    }
}
