//! The program `trimtab`: generate, score and trace with a model, steer it, and make trait vectors.

mod control;
mod convert;
mod extract;
mod generate;
mod input;
mod model;
mod progress;
mod recommend;
mod record;
mod score;
mod sweep;
mod trace;
mod vectors;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "trimtab",
    version,
    about = "Turn a language model with a small vector"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write an answer, steered or not.
    Generate(generate::Arguments),
    /// How likely the model finds each token of a text.
    Score(score::Arguments),
    /// Make a trait vector, from given conversations or from a trait pack.
    Extract(extract::Arguments),
    /// Set the layers and the range of coefficients that a vector file recommends.
    Recommend(recommend::Arguments),
    /// Try a vector at several layers and doses.
    Sweep(sweep::Arguments),
    /// Make a random direction as long as a vector, to compare with.
    Control(control::Arguments),
    /// Make the recorded run that the page plays before a model is there.
    Record(record::Arguments),
    /// Make a model directory of a GGUF file or of a Hugging Face directory.
    Convert(convert::Arguments),
    /// Write the residual stream at every layer for every token.
    Trace(trace::Arguments),
}

/// 0: done; 1: it could not be done, and a sentence on standard error says why; 2: the arguments
/// make no sense (from clap).
fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Score(arguments) => score::run(&arguments),
        Verb::Extract(arguments) => extract::run(&arguments),
        Verb::Recommend(arguments) => recommend::run(&arguments),
        Verb::Sweep(arguments) => sweep::run(&arguments),
        Verb::Control(arguments) => control::run(&arguments),
        Verb::Record(arguments) => record::run(&arguments),
        Verb::Convert(arguments) => convert::run(&arguments),
        Verb::Trace(arguments) => trace::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::finish();
            eprintln!("trimtab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
