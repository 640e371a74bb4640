//! The key/value cache, and grouped-query attention.

use super::matrix::dot;
use crate::executor::Row;
use trimtab_checkpoint::ModelConfig;

/// Keys (rotated) and values of every block and sequence; grows with the conversation.
#[derive(Debug)]
pub struct KeyValueCache {
    /// `[block][sequence]`, each `[tokens, width]`.
    keys: Vec<Vec<Vec<f32>>>,
    values: Vec<Vec<Vec<f32>>>,
    /// `kv_heads · head_dim`.
    width: usize,
}

impl KeyValueCache {
    pub fn new(blocks: usize, sequences: usize, width: usize) -> Self {
        let empty = vec![vec![Vec::new(); sequences]; blocks];
        Self {
            keys: empty.clone(),
            values: empty,
            width,
        }
    }

    /// Stores `keys` and `values` (`[n, width]`) of `rows` at their positions.
    pub fn write(&mut self, block: usize, rows: &[Row], keys: &[f32], values: &[f32]) {
        let width = self.width;
        for (index, row) in rows.iter().enumerate() {
            let at = row.position.0 as usize * width;
            for (cache, new) in [(&mut self.keys, keys), (&mut self.values, values)] {
                let cache = &mut cache[block][row.sequence.index()];
                cache.truncate(at);
                cache.resize(at, 0.0);
                cache.extend_from_slice(&new[index * width..][..width]);
            }
        }
    }
}

/// Attention of `rows` with queries `q` (`[n, heads · head_dim]`, rotated) over everything in their
/// sequences up to themselves. Returns `[n, heads · head_dim]`.
pub fn attend(
    cache: &KeyValueCache,
    block: usize,
    rows: &[Row],
    q: &[f32],
    config: &ModelConfig,
) -> Vec<f32> {
    let (heads, head_dim) = (config.heads, config.head_dim);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let group = heads / config.kv_heads;
    let mut out = vec![0.0; q.len()];
    let task = |(index, out): (usize, &mut [f32])| {
        let (row, head) = (&rows[index / heads], index % heads);
        let q = &q[index * head_dim..][..head_dim];
        let keys = &cache.keys[block][row.sequence.index()];
        let values = &cache.values[block][row.sequence.index()];
        let offset = head / group * head_dim;
        let count = row.position.0 as usize + 1;
        let mut weights: Vec<f32> = (0..count)
            .map(|key| dot(q, &keys[key * cache.width + offset..][..head_dim]) * scale)
            .collect();
        let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weights
            .iter_mut()
            .for_each(|weight| *weight = (*weight - largest).exp());
        let total: f32 = weights.iter().sum();
        for (key, weight) in weights.iter().enumerate() {
            let value = &values[key * cache.width + offset..][..head_dim];
            let weight = weight / total;
            out.iter_mut()
                .zip(value)
                .for_each(|(out, v)| *out += weight * v);
        }
    };
    #[cfg(not(target_family = "wasm"))]
    {
        use rayon::prelude::*;
        out.par_chunks_mut(head_dim).enumerate().for_each(task);
    }
    #[cfg(target_family = "wasm")]
    out.chunks_mut(head_dim).enumerate().for_each(task);
    out
}
