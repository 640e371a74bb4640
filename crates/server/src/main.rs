//! `trimtab-server`: a built page from a folder on this machine's own address, for those who work on it and for the tests.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use axum::Router;
use clap::Parser;
use tower_http::services::ServeDir;
use trimtab_server::files;
use trimtab_server::listen::{Port, until_interrupted};

#[derive(Debug, Parser)]
#[command(name = "trimtab-server", about = "Serve a built page on this machine")]
struct Arguments {
    /// The page's folder, as the build left it
    page: PathBuf,
    /// 0 takes any free one
    #[arg(long, default_value_t = 8420)]
    port: u16,
    /// A folder to serve next to the page, as PATH=FOLDER
    #[arg(long = "folder", value_name = "PATH=FOLDER", value_parser = folder)]
    folders: Vec<(String, PathBuf)>,
    /// Without the headers that isolate the page from other origins, so that it has one thread
    #[arg(long)]
    not_isolated: bool,
}

fn folder(argument: &str) -> Result<(String, PathBuf), String> {
    match argument.split_once('=') {
        Some((path, folder)) if path.starts_with('/') => Ok((path.to_owned(), folder.into())),
        _ => Err("must be PATH=FOLDER, and PATH begins with /".into()),
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let port = Port::take(
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        arguments.port,
        router(&arguments)?,
    )?;
    println!("Trimtab is at http://{} (Ctrl-C stops it)", port.address());
    until_interrupted(vec![port]).context("the page is no longer served")
}

fn router(arguments: &Arguments) -> Result<Router> {
    let page = &arguments.page;
    if !page.join("index.html").is_file() {
        bail!(
            "the page is not built: {} has no index.html; run `cargo xtask build`",
            page.display()
        );
    }
    let mut router = files::folder(page);
    for (path, folder) in &arguments.folders {
        router = router.nest_service(path, ServeDir::new(folder));
    }
    let router = files::finished(router);
    Ok(if arguments.not_isolated {
        router
    } else {
        files::with_headers(router, files::ISOLATION)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_not_built_is_an_error_with_the_next_step() {
        let arguments = Arguments::parse_from(["trimtab-server", "/nowhere"]);
        let error = router(&arguments).unwrap_err().to_string();
        assert!(error.contains("cargo xtask build"), "{error}");
    }

    #[test]
    fn folders_have_a_path() {
        assert_eq!(
            folder("/models=a=b"),
            Ok(("/models".into(), PathBuf::from("a=b")))
        );
        assert!(folder("models").is_err());
    }
}
