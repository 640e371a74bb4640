//! What a model's weights take on a graphics device, told from names and shapes alone. [`super::weights`] uploads them so.

use super::buffers::buffer_bytes;
use super::fuse::{Fused, fuse};
use super::layout::{Form, MatrixShape, RowOrder, TILE};
use crate::error::EngineError;
use crate::memory::{Encodings, LargestMatrix};
use crate::op::{ForwardPass, MatrixId, Op};
use std::collections::HashMap;
use trimtab_checkpoint::ModelConfig;

/// Matrices that lie in one buffer.
struct Stack {
    matrices: Vec<MatrixId>,
    order: RowOrder,
    biases: usize,
    /// Whether it is cut where it is larger than a binding may be.
    in_pieces: bool,
}

/// Bytes of all weights, and the largest of their buffers that is not cut into pieces.
pub fn of_weights(
    config: &ModelConfig,
    pass: &ForwardPass,
    encodings: &Encodings<'_>,
) -> Result<(u64, LargestMatrix), EngineError> {
    let (stacks, gains) = match fuse(pass, config.head_dim) {
        Some(fused) => merged(config, pass, &fused),
        None => plain(pass),
    };
    let gains = gains.into_iter();
    let mut total: u64 = gains.map(|cols| buffer_bytes(4 * cols as u64)).sum();
    let mut largest = LargestMatrix::default();
    for stack in stacks {
        let weights = stack.matrices.iter().map(|&id| pass.matrix(id));
        let forms = weights.map(|weight| Ok(Form::of(encodings(weight)?)));
        let forms = forms.collect::<Result<Vec<_>, EngineError>>()?;
        let first = pass.matrix(stack.matrices[0]);
        let shape = MatrixShape::new(&forms, &stack.order, first.cols, stack.biases);
        let [data, beside] = shape.bytes();
        total += buffer_bytes(data) + buffer_bytes(beside + 4 * stack.biases as u64);
        if !stack.in_pieces && data > largest.bytes {
            largest = LargestMatrix {
                name: first.name.clone(),
                bytes: data,
            };
        }
    }
    Ok((total, largest))
}

/// Stacks, and lengths of the vectors that have buffers of their own.
fn merged(config: &ModelConfig, pass: &ForwardPass, fused: &Fused) -> (Vec<Stack>, Vec<usize>) {
    let pairs = RowOrder::RotaryPairs {
        heads: [config.heads, config.kv_heads, config.kv_heads],
        head_dim: config.head_dim,
    };
    let gate_up = RowOrder::Interleaved {
        rows: config.ffn_size,
    };
    let mut stacks = vec![table(pass, fused.embedding)];
    let mut gains = vec![pass.vector(fused.final_norm).cols];
    for block in &fused.blocks {
        let biased = block.qkv.iter().any(|factor| factor.bias.is_some());
        let stacked = |matrices: &[MatrixId], order: &RowOrder, biases| Stack {
            matrices: matrices.to_vec(),
            order: order.clone(),
            biases,
            in_pieces: false,
        };
        let qkv = block.qkv.map(|factor| factor.matrix);
        let biases = if biased { pairs.tiles() * TILE } else { 0 };
        stacks.extend([
            stacked(&qkv, &pairs, biases),
            one(pass, block.output, 0),
            stacked(&block.gate_up, &gate_up, 0),
            one(pass, block.down, 0),
        ]);
        let norms = [block.attention_norm, block.feed_forward_norm];
        gains.extend(norms.map(|norm| pass.vector(norm).cols));
    }
    if fused.head != fused.embedding {
        stacks.push(table(pass, fused.head));
    }
    (stacks, gains)
}

fn plain(pass: &ForwardPass) -> (Vec<Stack>, Vec<usize>) {
    let mut biases = HashMap::new();
    for op in &pass.body {
        if let Op::Project { by, .. } = op {
            let factors = by.iter();
            biases.extend(factors.filter_map(|factor| Some((factor.matrix, factor.bias?))));
        }
    }
    let is_table = |id: MatrixId| pass.matrix(id).is_token_table();
    let ids = (0..pass.matrices.len()).map(MatrixId);
    let stacks = ids.map(|id| match is_table(id) {
        true => table(pass, id),
        false => one(
            pass,
            id,
            biases.get(&id).map_or(0, |bias| pass.vector(*bias).cols),
        ),
    });
    let gains = pass.vectors.iter().map(|vector| vector.cols);
    (stacks.collect(), gains.collect())
}

/// A matrix with its rows in their own order.
fn one(pass: &ForwardPass, id: MatrixId, biases: usize) -> Stack {
    let rows = pass.matrix(id).rows;
    Stack {
        matrices: vec![id],
        order: RowOrder::Plain { first: 0, rows },
        biases,
        in_pieces: false,
    }
}

/// A matrix with a row for each token.
fn table(pass: &ForwardPass, id: MatrixId) -> Stack {
    Stack {
        in_pieces: true,
        ..one(pass, id, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Assumptions;
    use crate::gpu::buffers::Buffers;
    use crate::gpu::device::Device;
    use crate::gpu::upload::Uploader;
    use crate::gpu::weights::GpuWeights;
    use crate::memory::tests::families;
    use pollster::block_on;

    #[test]
    fn every_family_takes_what_was_told() {
        let device = block_on(Device::open(Assumptions::default())).unwrap();
        for (name, config, file) in families() {
            let pass = ForwardPass::of(&config).unwrap();
            let fused = fuse(&pass, config.head_dim);
            let buffers = Buffers::new(&device.device);
            let mut quietly = |_| {};
            let mut uploader = Uploader::new(&device, &buffers, &file, &mut quietly);
            let upload = GpuWeights::upload(&mut uploader, &config, &pass, fused.as_ref());
            block_on(upload).unwrap();
            let (told, _) =
                of_weights(&config, &pass, &|weight| Ok(file.holder(weight)?.encoding)).unwrap();
            assert_eq!(told, buffers.bytes(), "{name}");
        }
    }
}
