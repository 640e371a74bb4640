//! `trimtab trace`: the residual stream at every layer for every token, as safetensors.

use crate::input::InputArguments;
use crate::model::ModelArguments;
use crate::progress;
use crate::vectors::SteeringArguments;
use anyhow::{Context, Result};
use clap::Args;
use safetensors::tensor::{Dtype, TensorView};
use std::path::PathBuf;
use trimtab_engine::SequenceIndex;
use trimtab_engine::engine::{ReadRequest, Scoring};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    input: InputArguments,
    /// A system prompt, in place of the template's own
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    steering: SteeringArguments,
    /// Number of tokens that are prompt, for steering of prompt or response only [default: all]
    #[arg(long, value_name = "N")]
    prompt_length: Option<usize>,
    /// File to write: ids (I64 [T]) and residual (F32 [layers + 1, T, d])
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Print {"out", "tokens", "layer_rows", "width"}
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let tokens = arguments
        .input
        .tokens(&arguments.model, arguments.system.as_deref())?;
    let mut engine = arguments.model.engine(Some(tokens.len()), 1)?;
    let steering = arguments.steering.load(&engine, &arguments.model, &[])?;
    let request = ReadRequest {
        sequence: SequenceIndex(0),
        tokens: &tokens,
        prompt_length: arguments.prompt_length.unwrap_or(tokens.len()),
        plan: &steering.plan,
        score: Scoring::Nothing,
        capture: true,
    };
    let residual = pollster::block_on(engine.read(&request, &mut |done, total| {
        progress::show(&format!("reading: {done} of {total} tokens"))
    }))?
    .residual;
    progress::finish();
    let (rows, width) = (engine.layer_rows(), engine.config().hidden_size);
    let ids: Vec<u8> = tokens
        .iter()
        .flat_map(|id| i64::from(id.0).to_le_bytes())
        .collect();
    let residual = layers_first(&residual, tokens.len(), rows, width);
    let tensors = [
        (
            "ids",
            TensorView::new(Dtype::I64, vec![tokens.len()], &ids)?,
        ),
        (
            "residual",
            TensorView::new(Dtype::F32, vec![rows, tokens.len(), width], &residual)?,
        ),
    ];
    let bytes = safetensors::serialize(tensors, None)?;
    std::fs::write(&arguments.out, bytes).with_context(|| arguments.out.display().to_string())?;
    let out = arguments.out.display().to_string();
    if arguments.json {
        println!(
            "{}",
            serde_json::json!({"out": out, "tokens": tokens.len(), "layer_rows": rows, "width": width})
        );
    } else {
        println!(
            "{out}: {} tokens, {rows} layers, width {width}",
            tokens.len()
        );
    }
    Ok(())
}

/// `[T, L+1, d]` as the engine gives it, to the little-endian bytes of `[L+1, T, d]`.
fn layers_first(residual: &[f32], tokens: usize, rows: usize, width: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(residual.len() * 4);
    for layer in 0..rows {
        for token in 0..tokens {
            let row = &residual[(token * rows + layer) * width..][..width];
            bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn layers_come_before_tokens() {
        // Two tokens, three layers, width one: token 0 is 0 1 2, token 1 is 10 11 12.
        let bytes = super::layers_first(&[0.0, 1.0, 2.0, 10.0, 11.0, 12.0], 2, 3, 1);
        let values: Vec<f32> = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect();
        assert_eq!(values, [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
    }
}
