//! The weights of a forward pass in host memory, as stored. What is read, and of which shape, its operations say.

use crate::error::EngineError;
use crate::op::{ForwardPass, MatrixId, VectorId};
use crate::types::LoadProgress;
use std::ops::Index;
use trimtab_checkpoint::family::ModelWeight;
use trimtab_checkpoint::{ByteSource, WeightError, WeightFile, WeightRows};

/// Bytes of data read at once.
const PIECE: usize = 4 << 20;

/// All weights, by their numbers in the [`ForwardPass`].
#[derive(Debug)]
pub struct Weights {
    pub matrices: Vec<WeightRows>,
    vectors: Vec<Vec<f32>>,
}

impl Index<MatrixId> for Weights {
    type Output = WeightRows;

    fn index(&self, id: MatrixId) -> &WeightRows {
        &self.matrices[id.0]
    }
}

impl Index<VectorId> for Weights {
    type Output = [f32];

    fn index(&self, id: VectorId) -> &[f32] {
        &self.vectors[id.0]
    }
}

impl Weights {
    pub async fn load<S: ByteSource>(
        pass: &ForwardPass,
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
        let mut matrices = Vec::with_capacity(pass.matrices.len());
        for weight in &pass.matrices {
            matrices.push(reader.matrix(weight).await?);
        }
        let mut vectors = Vec::with_capacity(pass.vectors.len());
        for weight in &pass.vectors {
            vectors.push(file.vector(weight).await?);
        }
        Ok(Self { matrices, vectors })
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> u64 {
        self.matrices.iter().map(|m| m.bytes() as u64).sum()
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
    async fn matrix(&mut self, weight: &ModelWeight) -> Result<WeightRows, WeightError> {
        let encoding = self.file.holder(weight)?.encoding;
        let mut whole = WeightRows::none(encoding, weight.cols);
        whole.reserve(weight.rows);
        let step = (PIECE / encoding.data_bytes(weight.cols)).max(1);
        for start in (0..weight.rows).step_by(step) {
            let piece = start..weight.rows.min(start + step);
            let piece = self.file.rows_of(weight, piece).await?;
            whole.append(&piece);
            self.bytes_done += piece.bytes() as u64;
            (self.progress)(LoadProgress {
                bytes_done: self.bytes_done,
                bytes_total: self.bytes_total,
            });
        }
        Ok(whole)
    }
}
