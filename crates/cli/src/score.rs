//! `trimtab score`: how likely the model finds each token of a text.

use crate::input::read_ids;
use crate::model::ModelArguments;
use crate::progress;
use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use trimtab_engine::{SequenceIndex, TokenId};
use trimtab_persona::conversation::numbers;
use trimtab_persona::reread::reread;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Token ids, {"ids": […]}
    #[arg(long, value_name = "FILE.json")]
    ids: PathBuf,
    /// Print {"nll", "top1", "mean_nll"}
    #[arg(long)]
    json: bool,
}

/// Entry `i` of both lists is about `ids[i + 1]`.
#[derive(Debug, Serialize)]
struct Score {
    /// Negative natural log-likelihood, `[T − 1]`.
    nll: Vec<f32>,
    /// The model's first choice, `[T − 1]`.
    top1: Vec<u32>,
    mean_nll: f64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let ids = read_ids(&arguments.ids)?;
    if ids.len() < 2 {
        bail!("scoring needs at least two tokens: the first is predicted by none");
    }
    let mut engine = arguments.model.engine(Some(ids.len()), 1)?;
    let read = pollster::block_on(reread(
        &mut engine,
        SequenceIndex(0),
        &ids,
        ids.len(),
        &mut |done, total| {
            progress::show(&format!("scoring: {done} of {total} tokens"));
        },
    ))?;
    progress::finish();
    let chosen: Vec<TokenId> = read
        .records
        .iter()
        .take(ids.len() - 1)
        .filter_map(|record| record.prediction.as_ref().map(|next| next.chosen))
        .collect();
    let nll: Vec<f32> = read
        .logprobs
        .iter()
        .skip(1)
        .map(|logprob| -logprob)
        .collect();
    let mean_nll = nll.iter().map(|&nll| f64::from(nll)).sum::<f64>() / nll.len() as f64;
    let score = Score {
        nll,
        top1: numbers(&chosen),
        mean_nll,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&score)?);
    } else {
        println!(
            "{} tokens, mean negative log-likelihood {:.6}, perplexity {:.4}",
            ids.len(),
            mean_nll,
            mean_nll.exp()
        );
    }
    Ok(())
}
