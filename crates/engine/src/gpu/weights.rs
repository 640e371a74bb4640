//! One model's weights on the GPU.

use super::fuse::Fused;
use super::graph::{Gain, Matrix, Piece, Slot};
use super::layout::{Pieces, RowOrder, TILE};
use super::plain;
use super::upload::{GpuMatrix, Uploader};
use crate::error::EngineError;
use crate::op::{ForwardPass, MatrixId, Op};
use std::collections::HashMap;
use trimtab_checkpoint::{ByteSource, ModelConfig};

/// All weights on the GPU, as the plan calls them.
#[derive(Debug, Default)]
pub struct GpuWeights {
    matrices: HashMap<Matrix, GpuMatrix>,
    gains: HashMap<Gain, wgpu::Buffer>,
    /// How the matrices with a row for each token lie: the embedding, and the head, where that is another.
    embedding: Option<Pieces>,
    head: Option<Pieces>,
}

impl GpuWeights {
    pub async fn upload<S: ByteSource>(
        uploader: &mut Uploader<'_, S>,
        config: &ModelConfig,
        pass: &ForwardPass,
        fused: Option<&Fused>,
    ) -> Result<Self, EngineError> {
        match fused {
            Some(fused) => Self::merged(uploader, config, pass, fused).await,
            None => Self::plain(uploader, pass).await,
        }
    }

    async fn merged<S: ByteSource>(
        uploader: &mut Uploader<'_, S>,
        config: &ModelConfig,
        pass: &ForwardPass,
        fused: &Fused,
    ) -> Result<Self, EngineError> {
        let pairs = RowOrder::RotaryPairs {
            heads: [config.heads, config.kv_heads, config.kv_heads],
            head_dim: config.head_dim,
        };
        let gate_up = RowOrder::Interleaved {
            rows: config.ffn_size,
        };
        let mut all = Self::default();
        let embedding = all.vocabulary(uploader, pass, fused.embedding, Matrix::Embedding);
        all.embedding = Some(embedding.await?);
        for (index, block) in fused.blocks.iter().enumerate() {
            let mut biases = Vec::new();
            for bias in block.qkv.iter().filter_map(|factor| factor.bias) {
                biases.push(uploader.vector(pass.vector(bias)).await?);
            }
            if !biases.is_empty() {
                biases = vec![pair_biases(&biases, &pairs)];
            }
            let qkv = block.qkv.map(|factor| factor.matrix);
            let norms = [
                (Gain::Layer(index), block.attention_norm),
                (Gain::FeedForward(index), block.feed_forward_norm),
            ];
            for (gain, vector) in norms {
                let buffer = uploader.vector_buffer(pass.vector(vector)).await?;
                all.gains.insert(gain, buffer);
            }
            let biases = biases.concat();
            let of_block = [
                (
                    Matrix::Qkv(index),
                    uploader.matrix(pass, &qkv, &pairs, &biases).await?,
                ),
                (
                    Matrix::Output(index),
                    one(uploader, pass, block.output, &[]).await?,
                ),
                (
                    Matrix::GateUp(index),
                    uploader.matrix(pass, &block.gate_up, &gate_up, &[]).await?,
                ),
                (
                    Matrix::Down(index),
                    one(uploader, pass, block.down, &[]).await?,
                ),
            ];
            all.matrices.extend(of_block);
        }
        let last = uploader
            .vector_buffer(pass.vector(fused.final_norm))
            .await?;
        all.gains.insert(Gain::Layer(fused.blocks.len()), last);
        if fused.head != fused.embedding {
            let head = all.vocabulary(uploader, pass, fused.head, Matrix::Head);
            all.head = Some(head.await?);
        }
        Ok(all)
    }

    /// Each matrix by itself, with the bias that follows it.
    async fn plain<S: ByteSource>(
        uploader: &mut Uploader<'_, S>,
        pass: &ForwardPass,
    ) -> Result<Self, EngineError> {
        let mut all = Self::default();
        let mut biases = HashMap::new();
        for op in &pass.body {
            if let Op::Project { by, .. } = op {
                biases.extend(by.iter().map(|factor| (factor.matrix, factor.bias)));
            }
        }
        for id in (0..pass.matrices.len()).map(MatrixId) {
            let name = plain::matrix(pass, id);
            match name {
                Matrix::Embedding(_) => {
                    let embedding = all.vocabulary(uploader, pass, id, Matrix::Embedding);
                    all.embedding = Some(embedding.await?);
                    continue;
                }
                Matrix::Head(_) => {
                    let head = all.vocabulary(uploader, pass, id, Matrix::Head);
                    all.head = Some(head.await?);
                    continue;
                }
                _ => {}
            }
            let bias = match biases.get(&id).copied().flatten() {
                Some(bias) => uploader.vector(pass.vector(bias)).await?,
                None => Vec::new(),
            };
            let matrix = one(uploader, pass, id, &bias).await?;
            all.matrices.insert(name, matrix);
        }
        for (index, vector) in pass.vectors.iter().enumerate() {
            let buffer = uploader.vector_buffer(vector).await?;
            all.gains.insert(Gain::Plain(index), buffer);
        }
        Ok(all)
    }

    /// Whether every projection has integer weights, so that integer dot products can serve.
    pub fn all_quantised(&self) -> bool {
        let looked_up = |name: &Matrix| matches!(name, Matrix::Embedding(_) | Matrix::Positions);
        let mut projections = self.matrices.iter().filter(|(name, _)| !looked_up(name));
        let head = &self.matrix(Matrix::Head(Piece(0))).shape;
        head.is_quantised() && projections.all(|(_, matrix)| matrix.shape.is_quantised())
    }

    /// Bytes of one token's row of the embedding.
    pub fn embedding_row_bytes(&self) -> f64 {
        let embedding = self.matrix(Matrix::Embedding(Piece(0)));
        embedding.work().bytes / (embedding.shape.tiles * TILE) as f64
    }

    /// The output head is the embedding where the two are tied.
    pub fn matrix(&self, matrix: Matrix) -> &GpuMatrix {
        let tied = match matrix {
            Matrix::Head(piece) if self.head.is_none() => Matrix::Embedding(piece),
            other => other,
        };
        let found = self.matrices.get(&tied);
        found.expect("every matrix of the plan was uploaded")
    }

    /// How the embedding and the output head lie.
    pub fn pieces(&self) -> [Pieces; 2] {
        let embedding = self.embedding.expect("every model has an embedding");
        [embedding, self.head.unwrap_or(embedding)]
    }

    /// Uploads a matrix with a row for each token, in as many pieces as this device needs.
    async fn vocabulary<S: ByteSource>(
        &mut self,
        uploader: &mut Uploader<'_, S>,
        pass: &ForwardPass,
        id: MatrixId,
        name: fn(Piece) -> Matrix,
    ) -> Result<Pieces, EngineError> {
        let rows = pass.matrix(id).rows;
        let whole = uploader.shape(pass, &[id], &RowOrder::Plain { first: 0, rows }, 0)?;
        let pieces = Pieces::of(&whole, uploader.device.piece_bytes);
        for (piece, range) in pieces.ranges().enumerate() {
            let order = RowOrder::Plain {
                first: range.start,
                rows: range.len(),
            };
            let matrix = uploader.matrix(pass, &[id], &order, &[]).await?;
            self.matrices.insert(name(Piece(piece)), matrix);
        }
        Ok(pieces)
    }

    /// The buffer in a slot; `None` where it belongs to the state.
    pub fn slot(&self, slot: Slot) -> Option<&wgpu::Buffer> {
        match slot {
            Slot::Weights(matrix) => Some(&self.matrix(matrix).data),
            Slot::Scales(matrix) => Some(&self.matrix(matrix).scales),
            Slot::Gain(gain) => self.gains.get(&gain),
            _ => None,
        }
    }
}

/// A matrix with its rows in their own order.
async fn one<S: ByteSource>(
    uploader: &mut Uploader<'_, S>,
    pass: &ForwardPass,
    id: MatrixId,
    bias: &[f32],
) -> Result<GpuMatrix, EngineError> {
    let order = RowOrder::Plain {
        first: 0,
        rows: pass.matrix(id).rows,
    };
    uploader.matrix(pass, &[id], &order, bias).await
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
