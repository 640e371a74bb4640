//! `cargo xtask`: everything a person does to the repository.

mod checks;
mod digest;
mod model;
mod node;
mod page;
mod process;
mod record;
mod server;
mod summary;
mod system;
mod toolchain;
mod wasm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Build, serve and test Trimtab")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the page, get the model, and serve both on this machine.
    Serve {
        #[arg(long, default_value_t = 8420)]
        port: u16,
        /// Serve what was built before, as it is.
        #[arg(long)]
        no_build: bool,
    },
    /// Build the page into web/dist.
    Build,
    /// Run every check and every test.
    Test {
        /// Also run the long checks in the browser.
        #[arg(long)]
        full: bool,
    },
    /// Format, clippy, the TypeScript compiler and linter; no test.
    Lint,
    /// Get the default model into models/.
    Model,
    /// Make the recorded run that the page plays before a model is there.
    Record,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = repository_root()?;
    match task {
        Task::Serve { port, no_build } => {
            if !no_build {
                page::build(&root)?;
            }
            server::serve_until_interrupted(&root, port)
        }
        Task::Build => page::build(&root),
        Task::Test { full } => checks::test(&root, full),
        Task::Lint => checks::lint(&root),
        Task::Model => model::ensure_model(&root),
        Task::Record => {
            model::ensure_model(&root)?;
            record::make(&root)
        }
    }
}

fn repository_root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest
        .ancestors()
        .nth(2)
        .context("crates/xtask is no longer two folders below the repository's root")?;
    Ok(root.to_path_buf())
}
