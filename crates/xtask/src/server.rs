//! The page and the models on this machine's own address, and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use axum::Router;
use tower_http::services::ServeDir;
use trimtab_server::files;
use trimtab_server::listen::{Port, in_background, until_interrupted};

/// Serves until Ctrl-C; `port` 0 takes any free one.
pub fn serve_until_interrupted(root: &Path, port: u16) -> Result<()> {
    let port = Port::take(IpAddr::V4(Ipv4Addr::LOCALHOST), port, isolated(root)?)?;
    println!("Trimtab is at http://{} (Ctrl-C stops it)", port.address());
    until_interrupted(vec![port])
}

/// Serves from a thread of its own while this process lives; returns the address.
pub fn serve_in_background(root: &Path) -> Result<SocketAddr> {
    in_background(isolated(root)?, None)
}

/// For timing, also in the background: `folders` (path, folder) beside the page, and no cross-origin
/// isolation, so that every runtime has one thread.
pub fn serve_for_timing(root: &Path, folders: &[(&str, PathBuf)]) -> Result<SocketAddr> {
    let mut router = page(root)?;
    for (path, folder) in folders {
        router = router.nest_service(path, ServeDir::new(folder));
    }
    in_background(files::finished(router), None)
}

fn isolated(root: &Path) -> Result<Router> {
    let router = files::finished(page(root)?);
    Ok(files::with_headers(router, files::ISOLATION))
}

fn page(root: &Path) -> Result<Router> {
    let page = root.join("web/dist");
    if !page.join("index.html").is_file() {
        bail!(
            "the page is not built: {} has no index.html; run `cargo xtask build`",
            page.display()
        );
    }
    let models = ServeDir::new(root.join("models"));
    Ok(files::folder(&page).nest_service("/models", models))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_not_built_is_an_error_with_the_next_step() {
        let error = page(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("cargo xtask build"), "{error}");
    }
}
