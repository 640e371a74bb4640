//! Every weight of the model in host memory, as stored: what both host executors multiply by.

use crate::architecture::{Architecture, in_block};
use crate::error::EngineError;
use crate::types::LoadProgress;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightError, WeightFile, WeightRows};

/// Bytes of data read at once.
const PIECE: usize = 4 << 20;

#[derive(Debug)]
pub struct Weights {
    /// `[vocab, d]`.
    pub embedding: WeightRows,
    pub blocks: Vec<BlockWeights>,
    /// `[d]`.
    pub final_norm: Vec<f32>,
    /// `[vocab, d]`; `None` where the embedding serves.
    pub head: Option<WeightRows>,
}

/// One block. Matrices are `[outputs, inputs]`.
#[derive(Debug)]
pub struct BlockWeights {
    pub attention_norm: Vec<f32>,
    pub q: WeightRows,
    pub k: WeightRows,
    pub v: WeightRows,
    pub qkv_bias: Option<[Vec<f32>; 3]>,
    pub o: WeightRows,
    pub ffn_norm: Vec<f32>,
    pub gate: WeightRows,
    pub up: WeightRows,
    pub down: WeightRows,
}

impl Weights {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        architecture: &Architecture,
        file: &WeightFile<S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, EngineError> {
        let bytes_total = file.tensors().map(|tensor| tensor.stored_bytes()).sum();
        let mut reader = Reader {
            file,
            progress,
            bytes_done: 0,
            bytes_total,
        };
        let names = &architecture.names;
        let d = config.hidden_size;
        let (q_width, kv_width) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let embedding = reader.matrix(names.embedding, config.vocab_size, d).await?;
        let mut blocks = Vec::with_capacity(config.layers);
        for block in 0..config.layers {
            let name = |name| in_block(name, block);
            let qkv_bias = match architecture.qkv_bias {
                false => None,
                true => Some([
                    reader.vector(&name(names.q_bias), q_width).await?,
                    reader.vector(&name(names.k_bias), kv_width).await?,
                    reader.vector(&name(names.v_bias), kv_width).await?,
                ]),
            };
            blocks.push(BlockWeights {
                attention_norm: reader.vector(&name(names.attention_norm), d).await?,
                q: reader.matrix(&name(names.q), q_width, d).await?,
                k: reader.matrix(&name(names.k), kv_width, d).await?,
                v: reader.matrix(&name(names.v), kv_width, d).await?,
                qkv_bias,
                o: reader.matrix(&name(names.o), d, q_width).await?,
                ffn_norm: reader.vector(&name(names.ffn_norm), d).await?,
                gate: reader.matrix(&name(names.gate), config.ffn_size, d).await?,
                up: reader.matrix(&name(names.up), config.ffn_size, d).await?,
                down: reader.matrix(&name(names.down), d, config.ffn_size).await?,
            });
        }
        let final_norm = reader.vector(names.final_norm, d).await?;
        let head = match config.tied_embeddings {
            true => None,
            false => Some(reader.matrix(names.head, config.vocab_size, d).await?),
        };
        Ok(Self {
            embedding,
            blocks,
            final_norm,
            head,
        })
    }

    pub fn matrices(&self) -> impl Iterator<Item = &WeightRows> {
        self.blocks
            .iter()
            .flat_map(|b| [&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down])
            .chain([&self.embedding])
            .chain(&self.head)
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> u64 {
        self.matrices()
            .map(|m| (m.data.len() + m.scale.len() + m.min.len()) as u64)
            .sum()
    }
}

/// Reads tensors, checks their shapes and reports how far it is.
struct Reader<'a, S> {
    file: &'a WeightFile<S>,
    progress: &'a mut dyn FnMut(LoadProgress),
    bytes_done: u64,
    bytes_total: u64,
}

impl<S: ByteSource> Reader<'_, S> {
    async fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<WeightRows, WeightError> {
        let tensor = self.file.tensor(name)?;
        tensor.check_shape(rows, cols)?;
        let width = tensor.encoding.data_bytes(cols);
        let mut whole = WeightRows {
            encoding: tensor.encoding,
            rows,
            cols,
            data: Vec::new(),
            scale: Vec::new(),
            min: Vec::new(),
        };
        whole.data.reserve_exact(rows * width);
        let step = (PIECE / width).max(1);
        for start in (0..rows).step_by(step) {
            let piece = self
                .file
                .read_rows(tensor, start..rows.min(start + step))
                .await?;
            whole.data.extend_from_slice(&piece.data);
            whole.scale.extend_from_slice(&piece.scale);
            whole.min.extend_from_slice(&piece.min);
            self.bytes_done += (piece.data.len() + piece.scale.len() + piece.min.len()) as u64;
            (self.progress)(LoadProgress {
                bytes_done: self.bytes_done,
                bytes_total: self.bytes_total,
            });
        }
        Ok(whole)
    }

    async fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, WeightError> {
        let rows = self.matrix(name, 1, length).await?;
        let mut values = vec![0.0; length];
        rows.dequantise_row(0, &mut values);
        Ok(values)
    }
}
