//! `cargo xtask`: everything a person does to the repository.

mod bench;
mod bundle;
mod catalogue;
mod checkpoints;
mod checks;
mod datasets;
mod digest;
#[cfg(test)]
mod documents;
mod files;
mod full;
mod fuzz;
mod lessons;
mod links;
mod model;
mod node;
mod page;
mod planted;
mod process;
mod program;
mod real_models;
mod record;
mod report;
mod rust_tests;
mod small_model;
mod system;
mod test_times;
mod toolchain;
mod training_study;
mod traits;
mod verdict_error;
mod wasm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use program::Programs;

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
        #[command(flatten)]
        address: page::PublicAddress,
    },
    /// Build the page into web/dist.
    Build {
        #[command(flatten)]
        address: page::PublicAddress,
    },
    /// Put page and model into one file that runs by a double click: dist/trimtab-offline.html.
    Bundle {
        /// Instead, a folder for any host of static files: dist/site
        #[arg(long, conflicts_with = "program")]
        site: bool,
        /// Instead, the program `trimtab` with all of that inside, for `trimtab serve`: dist/trimtab
        #[arg(long)]
        program: bool,
        #[command(flatten)]
        address: page::PublicAddress,
    },
    /// Run every check and every test.
    Test {
        /// Instead, one part of what takes long, before a release.
        #[arg(long, value_name = "PART")]
        full: Option<full::Part>,
        /// Instead, the real checkpoints of models/checkpoints.json (all, or those named) beside transformers. Downloads up to 1.9 GB.
        #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "full")]
        models: Option<Vec<String>>,
    },
    /// Format, clippy, the TypeScript compiler and linter; no test.
    Lint,
    /// Get the default model into models/.
    Model {
        /// Instead, a checkpoint that the page does not offer: models/checkpoints.json has their names.
        name: Option<String>,
    },
    /// Time and weigh the page, beside other runtimes with --peers.
    Bench(bench::Arguments),
    /// Make the recorded run that the page plays before a model is there.
    Record,
    /// Measure how often the verdict on a vector is wrong: of meaningless vectors, and of ones whose effect is counted. Hours;
    /// what was found is kept, and a stopped run goes on. Wants the reports that `traits` makes.
    VerdictError {
        /// Null vectors of these traits and these planted directions [default: all]
        names: Vec<String>,
    },
    /// Train some fifty adapters, plainly, with a vector, screened, and measure what each moved. About seven minutes a run; what
    /// was found is kept, and a stopped study goes on.
    TrainingStudy {
        /// Only runs whose names begin so, as in "plain villainous" [default: all]
        names: Vec<String>,
    },
    /// Make the ready-made traits: contrast sets, vectors and reports in models/vectors. About ten minutes each on two cores.
    Traits {
        /// Only these [default: all of models/traits]
        names: Vec<String>,
    },
    /// Check the sets of models/data, and mix those that are mixed.
    Datasets,
    /// Make the golden links that are missing from tests/golden/links.
    Links,
    /// Write the answers that the ready-made lessons quote again, on the reference executor: about half a minute each.
    Lessons,
    /// Open damaged links or GGUF files for as long as asked; what is found lies in target/fuzz.
    Fuzz {
        #[arg(default_value = "links")]
        inputs: fuzz::Inputs,
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// The same seed tries the same inputs.
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
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
        Task::Serve {
            port,
            no_build,
            address,
        } => {
            if !no_build {
                page::build(&root, &address)?;
            }
            let programs = if no_build {
                Programs::AsBuilt
            } else {
                Programs::Fresh
            };
            programs.serve_until_interrupted(&root, port)
        }
        Task::Build { address } => page::build(&root, &address),
        Task::Bundle {
            site,
            program,
            address,
        } => bundle::run(
            &root,
            &address,
            match (site, program) {
                (true, _) => bundle::Form::Site,
                (_, true) => bundle::Form::Program,
                _ => bundle::Form::OneFile,
            },
        ),
        Task::Test {
            models: Some(names),
            ..
        } => real_models::test(&root, &names),
        Task::Test { full: None, .. } => checks::test(&root),
        Task::Test {
            full: Some(part), ..
        } => full::test(&root, part),
        Task::Lint => checks::lint(&root),
        Task::Model { name: None } => model::ensure_model(&root, Programs::Fresh),
        Task::Model { name: Some(name) } => checkpoints::get(&root, &name, Programs::Fresh),
        Task::Bench(arguments) => bench::run(&root, &arguments),
        Task::Record => {
            model::ensure_model(&root, Programs::Fresh)?;
            record::make(&root, Programs::Fresh)
        }
        Task::Traits { names } => traits::make(&root, &names),
        Task::Lessons => lessons::quote(&root),
        Task::VerdictError { names } => verdict_error::measure(&root, &names),
        Task::TrainingStudy { names } => training_study::measure(&root, &names),
        Task::Datasets => datasets::make(&root),
        Task::Links => links::make(&root),
        Task::Fuzz {
            inputs,
            seconds,
            seed,
        } => fuzz::run(&root, inputs, seconds, seed),
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
