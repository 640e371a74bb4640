//! `trimtab score`: how likely the model finds each token of a text.

use crate::input::read_ids;
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{Terminal, wait};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Token ids, {"ids": […]}
    #[arg(long, value_name = "FILE.json")]
    ids: PathBuf,
    /// Print {"nll", "top1", "meanNll"}
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let ids = read_ids(&arguments.ids)?;
    let mut session = arguments.model.session_for_ids(Some(ids.len()))?;
    let score = wait(session.score(&ids, &mut Terminal::quiet()))?;
    if arguments.json {
        return print_json(&score);
    }
    println!(
        "{} tokens, mean negative log-likelihood {:.6}, perplexity {:.4}",
        ids.len(),
        score.mean_nll,
        score.mean_nll.exp()
    );
    Ok(())
}
