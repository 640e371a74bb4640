//! The key/value cache, and grouped-query attention.

use super::matrix::dot;
use crate::cache::{PAGE, PageTable, Write};
use crate::executor::Row;
use crate::index::{Position, SequenceIndex};
use crate::op::Attention;
use trimtab_checkpoint::ModelConfig;

/// Keys (rotated) and values of every block and sequence.
#[derive(Debug)]
pub struct KeyValueCache {
    table: PageTable,
    /// Each `[blocks][keys, values][PAGE, width]`.
    pages: Vec<Vec<f32>>,
    blocks: usize,
    /// `kv_heads · head_dim`.
    width: usize,
}

impl KeyValueCache {
    pub fn new(blocks: usize, sequences: usize, width: usize) -> Self {
        Self {
            table: PageTable::new(sequences),
            pages: Vec::new(),
            blocks,
            width,
        }
    }

    /// Makes room for `rows`.
    pub fn reserve(&mut self, rows: &[Row]) {
        let numbers = self.blocks * 2 * PAGE * self.width;
        for row in rows {
            let Write { page, copy_of } = self.table.write(row.sequence, row.position);
            self.pages
                .resize_with(self.table.pool(), || vec![0.0; numbers]);
            if let Some(shared) = copy_of {
                self.pages[page as usize] = self.pages[shared as usize].clone();
            }
        }
    }

    /// See [`crate::executor::Execute::fork`].
    pub fn fork(&mut self, from: SequenceIndex, to: SequenceIndex, length: usize) {
        self.table.fork(from, to, length);
    }

    /// Where in its page the keys (`part` 0) or values (1) of a position begin.
    fn offset(&self, block: usize, part: usize, position: usize) -> usize {
        ((block * 2 + part) * PAGE + position % PAGE) * self.width
    }

    /// The keys (`part` 0) or values (1) of a position, `[width]`.
    fn at(&self, block: usize, part: usize, sequence: SequenceIndex, position: usize) -> &[f32] {
        let page = self.table.page(sequence, Position(position as u32));
        &self.pages[page as usize][self.offset(block, part, position)..][..self.width]
    }

    /// Stores `keys` and `values` (`[n, width]`) of `rows` at their positions.
    pub fn write(&mut self, block: usize, rows: &[Row], keys: &[f32], values: &[f32]) {
        for (index, row) in rows.iter().enumerate() {
            let page = self.table.page(row.sequence, row.position) as usize;
            for (part, new) in [keys, values].into_iter().enumerate() {
                let at = self.offset(block, part, row.position.0 as usize);
                let new = &new[index * self.width..][..self.width];
                self.pages[page][at..][..self.width].copy_from_slice(new);
            }
        }
    }
}

/// Attention of `rows` with queries `q` (`[n, heads · head_dim]`, rotated) over what they see of their
/// sequences up to themselves. Returns `[n, heads · head_dim]`, and for each row and head the weights of all positions.
pub fn attend(
    cache: &KeyValueCache,
    block: usize,
    by: Attention,
    rows: &[Row],
    q: &[f32],
    config: &ModelConfig,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let (heads, head_dim) = (config.heads, config.head_dim);
    let group = heads / config.kv_heads;
    let mut out = vec![0.0; q.len()];
    let task = |(index, out): (usize, &mut [f32])| -> Vec<f32> {
        let (row, head) = (&rows[index / heads], index % heads);
        let q = &q[index * head_dim..][..head_dim];
        let offset = head / group * head_dim;
        let of_head =
            |part, position| &cache.at(block, part, row.sequence, position)[offset..][..head_dim];
        let first = by.first(row.position.0 as usize);
        let mut weights: Vec<f32> = (0..=row.position.0 as usize)
            .map(|position| match position < first {
                true => f32::NEG_INFINITY,
                false => dot(q, of_head(0, position)) * by.scale,
            })
            .collect();
        let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weights
            .iter_mut()
            .for_each(|weight| *weight = (*weight - largest).exp());
        let total: f32 = weights.iter().sum();
        for (position, weight) in weights.iter_mut().enumerate() {
            *weight /= total;
            let value = of_head(1, position);
            out.iter_mut()
                .zip(value)
                .for_each(|(out, v)| *out += *weight * v);
        }
        weights
    };
    #[cfg(not(target_family = "wasm"))]
    let weights = {
        use rayon::prelude::*;
        let heads = out.par_chunks_mut(head_dim).enumerate();
        heads.map(task).collect()
    };
    #[cfg(target_family = "wasm")]
    let weights = out.chunks_mut(head_dim).enumerate().map(task).collect();
    (out, weights)
}
