//! One model's weights on the GPU.

use super::fuse::Fused;
use super::graph::{Gain, Matrix, Slot};
use super::layout::{RowOrder, TILE};
use super::upload::{GpuMatrix, Uploader};
use crate::error::EngineError;
use crate::op::ForwardPass;
use trimtab_checkpoint::{ByteSource, ModelConfig};

/// Weights as they come from the file.
#[derive(Debug)]
struct BlockWeights {
    attention_norm: wgpu::Buffer,
    qkv: GpuMatrix,
    o: GpuMatrix,
    ffn_norm: wgpu::Buffer,
    gated: GpuMatrix,
    down: GpuMatrix,
}

/// All weights on the GPU.
#[derive(Debug)]
pub struct GpuWeights {
    embedding: GpuMatrix,
    blocks: Vec<BlockWeights>,
    final_norm: wgpu::Buffer,
    head: Option<GpuMatrix>,
}

impl GpuWeights {
    pub async fn upload<S: ByteSource>(
        uploader: &mut Uploader<'_, S>,
        config: &ModelConfig,
        pass: &ForwardPass,
        fused: &Fused,
    ) -> Result<Self, EngineError> {
        let plain = |id| RowOrder::Plain {
            rows: pass.matrix(id).rows,
        };
        let pairs = RowOrder::RotaryPairs {
            heads: [config.heads, config.kv_heads, config.kv_heads],
            head_dim: config.head_dim,
        };
        let gate_up = RowOrder::Interleaved {
            rows: config.ffn_size,
        };
        let embedding = uploader
            .matrix(pass, &[fused.embedding], &plain(fused.embedding), &[])
            .await?;
        let mut blocks = Vec::with_capacity(fused.blocks.len());
        for block in &fused.blocks {
            let mut biases = Vec::new();
            for bias in block.qkv.iter().filter_map(|factor| factor.bias) {
                biases.push(uploader.vector(pass.vector(bias)).await?);
            }
            if !biases.is_empty() {
                biases = vec![pair_biases(&biases, &pairs)];
            }
            let qkv = block.qkv.map(|factor| factor.matrix);
            let attention_norm = pass.vector(block.attention_norm);
            let ffn_norm = pass.vector(block.feed_forward_norm);
            blocks.push(BlockWeights {
                attention_norm: uploader.vector_buffer(attention_norm).await?,
                qkv: uploader
                    .matrix(pass, &qkv, &pairs, &biases.concat())
                    .await?,
                o: uploader
                    .matrix(pass, &[block.output], &plain(block.output), &[])
                    .await?,
                ffn_norm: uploader.vector_buffer(ffn_norm).await?,
                gated: uploader.matrix(pass, &block.gate_up, &gate_up, &[]).await?,
                down: uploader
                    .matrix(pass, &[block.down], &plain(block.down), &[])
                    .await?,
            });
        }
        let final_norm = uploader
            .vector_buffer(pass.vector(fused.final_norm))
            .await?;
        let head = match fused.head == fused.embedding {
            true => None,
            false => Some(
                uploader
                    .matrix(pass, &[fused.head], &plain(fused.head), &[])
                    .await?,
            ),
        };
        Ok(Self {
            embedding,
            blocks,
            final_norm,
            head,
        })
    }

    /// Whether every projection has integer weights, so that integer dot products can serve.
    pub fn all_quantised(&self) -> bool {
        let of_block = |block: &BlockWeights| {
            [&block.qkv, &block.o, &block.gated, &block.down]
                .iter()
                .all(|matrix| matrix.shape.is_quantised())
        };
        self.matrix(Matrix::Head).shape.is_quantised() && self.blocks.iter().all(of_block)
    }

    /// Bytes of one token's row of the embedding.
    pub fn embedding_row_bytes(&self) -> f64 {
        self.embedding.work().bytes / (self.embedding.shape.tiles * TILE) as f64
    }

    /// The output head is the embedding where the two are tied.
    pub fn matrix(&self, matrix: Matrix) -> &GpuMatrix {
        match matrix {
            Matrix::Embedding => &self.embedding,
            Matrix::Head => self.head.as_ref().unwrap_or(&self.embedding),
            Matrix::Qkv(block) => &self.blocks[block].qkv,
            Matrix::Output(block) => &self.blocks[block].o,
            Matrix::GateUp(block) => &self.blocks[block].gated,
            Matrix::Down(block) => &self.blocks[block].down,
        }
    }

    /// The buffer in a slot; `None` where it belongs to the state.
    pub fn slot(&self, slot: Slot) -> Option<&wgpu::Buffer> {
        Some(match slot {
            Slot::Weights(matrix) => &self.matrix(matrix).data,
            Slot::Scales(matrix) => &self.matrix(matrix).scales,
            Slot::Gain(Gain::FeedForward(block)) => &self.blocks[block].ffn_norm,
            Slot::Gain(Gain::Layer(layer)) => match self.blocks.get(layer) {
                Some(block) => &block.attention_norm,
                None => &self.final_norm,
            },
            _ => return None,
        })
    }
}

/// Biases of stacked tensors in the order of the pairs: first and second member in turn.
fn pair_biases(biases: &[Vec<f32>], order: &RowOrder) -> Vec<f32> {
    let at = |tile: usize, lane: usize| {
        order
            .source(tile, lane)
            .map_or(0.0, |source| biases[source.tensor][source.row])
    };
    let pairs = (0..order.tiles() / 2).flat_map(|pair| (0..TILE).map(move |lane| (2 * pair, lane)));
    pairs
        .flat_map(|(tile, lane)| [at(tile, lane), at(tile + 1, lane)])
        .collect()
}
