//! `trimtab trace`: the residual stream at every layer for every token, as safetensors.

use crate::files::write;
use crate::input::InputArguments;
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{Terminal, wait};
use crate::vectors::SteeringArguments;
use anyhow::Result;
use clap::Args;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::path::PathBuf;

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
    let system = arguments.system.as_deref();
    let ids = arguments.input.read(&arguments.model, system)?.ids;
    let mut session = arguments.model.session_for_ids(Some(ids.len()))?;
    let plan = arguments.steering.load(&mut session, &[])?;
    let length = arguments.prompt_length;
    let trace = wait(session.trace(ids, &plan, length, &mut Terminal::quiet()))?;
    let ids = trace.ids.iter().map(|id| i64::from(*id).to_le_bytes());
    let ids = ids.collect::<Vec<_>>().concat();
    let residual = trace.residual.iter().map(|value| value.to_le_bytes());
    let residual = residual.collect::<Vec<_>>().concat();
    let [rows, tokens, width] = trace.shape;
    let tensors = [
        ("ids", TensorView::new(Dtype::I64, vec![tokens], &ids)?),
        (
            "residual",
            TensorView::new(Dtype::F32, trace.shape.to_vec(), &residual)?,
        ),
    ];
    write(&arguments.out, &safetensors::serialize(tensors, None)?)?;
    let out = arguments.out.display().to_string();
    if arguments.json {
        return print_json(
            &json!({"out": out, "tokens": tokens, "layer_rows": rows, "width": width}),
        );
    }
    println!("{out}: {tokens} tokens, {rows} layers, width {width}");
    Ok(())
}
