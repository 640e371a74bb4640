//! The program `trimtab`: generate, score and trace with a model, steer it, and make trait vectors.

#[macro_use]
mod output;

mod adapters;
mod calibrate;
mod compare;
mod control;
mod controls;
mod convert;
mod exchange;
mod extract;
mod extract_trait;
mod fetch;
mod files;
mod generate;
mod gguf_cache;
mod input;
mod link;
mod link_again;
mod link_make;
mod link_replay;
mod link_steering;
mod model;
mod predict;
mod progress;
mod recommend;
mod record;
mod score;
mod screen;
mod serve;
mod serve_model;
mod shift;
mod study;
mod sweep;
mod trace;
mod train;
mod trait_pack;
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
    /// Score how likely the model finds each token of a text.
    Score(score::Arguments),
    /// Make a trait vector, from given conversations or from a trait pack.
    Extract(extract::Arguments),
    /// Make a vector file of a GGUF control vector, or of a tensor of the paper's own code (.pt).
    Import(exchange::ImportArguments),
    /// Make a GGUF control vector, for llama.cpp and repeng, of a vector file.
    Export(exchange::ExportArguments),
    /// Give a vector file the calibration and the norms that readings and doses are measured by.
    Calibrate(calibrate::Arguments),
    /// Draft a trait pack from a sentence, or check one.
    Trait(trait_pack::Arguments),
    /// Set the layers and the range of coefficients that a vector file recommends.
    Recommend(recommend::Arguments),
    /// Try a vector at several layers and doses, and recommend a layer and a range.
    Sweep(sweep::Arguments),
    /// Compare a vector with meaningless directions of the same length, and say whether to believe it.
    Controls(controls::Arguments),
    /// Find rows of training data that would move the model along a trait.
    Screen(screen::Arguments),
    /// Train an adapter of the model on a dataset, with or without a push.
    Train(train::Arguments),
    /// Hold a tuned model against its base model: what moved, and what it cost.
    Shift(shift::Arguments),
    /// Test whether readings of the prompt tell what the answer will be like.
    Predict(predict::Arguments),
    /// Cosines between vectors: which are nearly the same.
    Compare(compare::Arguments),
    /// Make a random direction as long as a vector, to compare with.
    Control(control::Arguments),
    /// Make the recorded run that the page plays before a model is there.
    Record(record::Arguments),
    /// Make, show, check and replay links.
    Link(link::Arguments),
    /// Serve the page to this machine's browser, or to a classroom.
    Serve(serve::Arguments),
    /// Make a model directory of a GGUF file or of a Hugging Face directory.
    Convert(convert::Arguments),
    /// Fetch a model by its name on the Hugging Face hub, and make a model directory of it.
    Fetch(fetch::Arguments),
    /// List the models that were made of GGUF files named with --model, or drop one.
    Cache(gguf_cache::Arguments),
    /// Write the residual stream at every layer for every token.
    Trace(trace::Arguments),
}

/// 0: done; 1: it could not be done, and a sentence on standard error says why; 2: the arguments
/// make no sense (from clap), or a link that was checked is not sound.
fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Score(arguments) => score::run(&arguments),
        Verb::Extract(arguments) => extract::run(&arguments),
        Verb::Import(arguments) => exchange::import(&arguments),
        Verb::Export(arguments) => exchange::export(&arguments),
        Verb::Calibrate(arguments) => calibrate::run(&arguments),
        Verb::Trait(arguments) => trait_pack::run(&arguments),
        Verb::Recommend(arguments) => recommend::run(&arguments),
        Verb::Sweep(arguments) => sweep::run(&arguments),
        Verb::Controls(arguments) => controls::run(&arguments),
        Verb::Screen(arguments) => screen::run(&arguments),
        Verb::Train(arguments) => train::run(&arguments),
        Verb::Shift(arguments) => shift::run(&arguments),
        Verb::Predict(arguments) => predict::run(&arguments),
        Verb::Compare(arguments) => compare::run(&arguments),
        Verb::Control(arguments) => control::run(&arguments),
        Verb::Record(arguments) => record::run(&arguments),
        Verb::Link(arguments) => match link::run(&arguments) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Convert(arguments) => convert::run(&arguments),
        Verb::Fetch(arguments) => fetch::run(&arguments),
        Verb::Cache(arguments) => gguf_cache::run(&arguments),
        Verb::Trace(arguments) => trace::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::finish();
            // Errors quote what a link or a file says.
            eprintln!("trimtab: {}", progress::printable(&sentence(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes. Some errors quote their cause themselves: it is not said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.ends_with(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_may_begin_with_a_hyphen() {
        for line in [
            &[
                "generate",
                "--prompt",
                "--help me",
                "--system",
                "- Be brief.",
            ][..],
            &["generate", "--prompt", "-5 + 3 = ?", "--json"],
            &[
                "link", "make", "--prompt", "-1", "--prompt", "- a\n- b", "--title", "-", "--note",
                "--",
            ],
            &[
                "trait",
                "new",
                "--name",
                "a",
                "--description",
                "-calm-",
                "--opposite",
                "-tense",
                "--out",
                "a",
            ],
            &["record", "--question", "-1?", "--out", "a"],
            &["convert", "a", "b", "--name", "-b", "--licence", "-"],
        ] {
            let parsed = Arguments::try_parse_from([&["trimtab"], line].concat());
            assert!(parsed.is_ok(), "{line:?}: {}", parsed.unwrap_err());
        }
    }
}
