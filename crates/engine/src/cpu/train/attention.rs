//! Attention over whole sequences and its backward, a key/value head of a sequence at a time, a few rows of queries at a time.
//! The formulas are in [`crate::reference`].

use super::super::dot::DotProduct;
use super::super::exponential::exp;
use super::product::{Extent, Rows, Strided, add_product, product_with_transposed};
use crate::train::kernels::{AttentionShape, AttentionValues};
use std::ops::Range;

/// Rows of queries whose weights are there together.
const TOGETHER: usize = 32;

/// The part of attention that a key/value head of a sequence has. Numbers of its query heads lie head by head.
#[derive(Clone, Debug)]
pub struct Part {
    pub sequence: Range<usize>,
    pub kv_head: usize,
    /// `[group, length, head_dim]`: what attention gives, or the derivatives by queries.
    pub heads: Vec<f32>,
    /// `[group, length]`
    pub log_sums: Vec<f32>,
    /// `[length, head_dim]`, derivatives; empty on the way there.
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl Part {
    /// All parts, with nothing computed.
    pub fn all(shape: &AttentionShape<'_>) -> impl Iterator<Item = Self> {
        let heads = 0..shape.kv_heads;
        let sequences = shape.sequences.iter();
        sequences.flat_map(move |sequence| {
            heads.clone().map(|kv_head| Self {
                sequence: sequence.clone(),
                kv_head,
                heads: Vec::new(),
                log_sums: Vec::new(),
                keys: Vec::new(),
                values: Vec::new(),
            })
        })
    }

    /// Head `head` of `heads` in the rows of the sequence, `[length, head_dim]`.
    fn gather(&self, x: &[f32], head: usize, heads: usize, width: usize) -> Vec<f32> {
        let rows = x[self.sequence.start * heads * width..self.sequence.end * heads * width]
            .chunks_exact(heads * width);
        rows.flat_map(|row| row[head * width..][..width].iter().copied())
            .collect()
    }

    /// Puts `own` (`[length, head_dim]`) to head `head` of `heads` in the rows of the sequence.
    pub fn scatter(
        &self,
        own: &[f32],
        (head, heads): (usize, usize),
        width: usize,
        to: &mut [f32],
    ) {
        let rows = to[self.sequence.start * heads * width..].chunks_mut(heads * width);
        for (row, own) in rows.zip(own.chunks(width)) {
            row[head * width..][..width].copy_from_slice(own);
        }
    }
}

/// Rows `rows` of queries, and the rows of keys that the first to the last of them see.
struct Tile {
    rows: Range<usize>,
    seen: Range<usize>,
}

impl Tile {
    fn all(length: usize, shape: &AttentionShape<'_>) -> impl Iterator<Item = Self> {
        let by = shape.by;
        (0..length).step_by(TOGETHER).map(move |start| {
            let end = length.min(start + TOGETHER);
            Self {
                rows: start..end,
                seen: by.first(start)..end,
            }
        })
    }

    /// Which places of its row of weights the query at `row` sees.
    fn visible(&self, row: usize, shape: &AttentionShape<'_>) -> Range<usize> {
        shape.by.first(row) - self.seen.start..row + 1 - self.seen.start
    }

    fn of<'a>(&self, x: &'a [f32], width: usize) -> &'a [f32] {
        &x[self.rows.start * width..self.rows.end * width]
    }

    fn seen_of<'a>(&self, x: &'a [f32], width: usize) -> &'a [f32] {
        &x[self.seen.start * width..self.seen.end * width]
    }
}

/// Computes `heads` and `log_sums` of `part`.
#[inline(always)]
pub fn attend<D: DotProduct>(
    part: &mut Part,
    of: &AttentionValues<'_>,
    shape: &AttentionShape<'_>,
) {
    let (width, length) = (shape.head_dim, part.sequence.len());
    let keys = part.gather(of.keys, part.kv_head, shape.kv_heads, width);
    let values = part.gather(of.values, part.kv_head, shape.kv_heads, width);
    part.heads = vec![0.0; shape.group() * length * width];
    part.log_sums = vec![0.0; shape.group() * length];
    let mut scores = vec![0.0; TOGETHER * length];
    for head in 0..shape.group() {
        let number = part.kv_head * shape.group() + head;
        let queries = part.gather(of.queries, number, shape.heads, width);
        let out = &mut part.heads[head * length * width..][..length * width];
        let log_sums = &mut part.log_sums[head * length..][..length];
        for tile in Tile::all(length, shape) {
            let columns = tile.seen.len();
            let scores = &mut scores[..tile.rows.len() * columns];
            let keys = tile.seen_of(&keys, width);
            product_with_transposed::<D>(tile.of(&queries, width), keys, width, scores);
            for (row, scores) in tile.rows.clone().zip(scores.chunks_exact_mut(columns)) {
                let visible = tile.visible(row, shape);
                scores[..visible.start].fill(0.0);
                scores[visible.end..].fill(0.0);
                log_sums[row] = softmax(&mut scores[visible], shape.by.scale);
            }
            let a = Strided {
                values: scores,
                row: columns,
                column: 1,
            };
            let b = Rows {
                values: tile.seen_of(&values, width),
                stride: width,
            };
            let mut sum = Rows {
                values: &mut out[tile.rows.start * width..],
                stride: width,
            };
            let extent = Extent {
                rows: tile.rows.len(),
                depth: columns,
                width,
            };
            add_product::<D>(a, &b, &mut sum, extent);
        }
    }
}

/// Makes scores weights; returns the logarithm of what their exponentials added up to.
#[inline(always)]
fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    let mut largest = f32::MIN;
    for score in scores.iter_mut() {
        *score *= scale;
        largest = largest.max(*score);
    }
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    let total = normalise(scores);
    largest + total.ln()
}

/// Makes positive numbers add up to one; returns what they added up to.
#[inline(always)]
fn normalise(weights: &mut [f32]) -> f32 {
    let (chunks, rest) = weights.as_chunks::<16>();
    let mut sums = [0.0_f32; 16];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    let total = sums.iter().sum::<f32>() + rest.iter().sum::<f32>();
    let inverse = 1.0 / total;
    weights.iter_mut().for_each(|weight| *weight *= inverse);
    total
}

/// Computes the derivatives of `part`, from those by its heads (`d_heads`) and from the `log_sums` of [`attend`], all in rows.
#[inline(always)]
pub fn attend_backward<D: DotProduct>(
    part: &mut Part,
    of: &AttentionValues<'_>,
    shape: &AttentionShape<'_>,
    log_sums: &[f32],
    d_heads: &[f32],
) {
    let (width, length) = (shape.head_dim, part.sequence.len());
    let keys = part.gather(of.keys, part.kv_head, shape.kv_heads, width);
    let values = part.gather(of.values, part.kv_head, shape.kv_heads, width);
    part.heads = vec![0.0; shape.group() * length * width];
    part.keys = vec![0.0; length * width];
    part.values = vec![0.0; length * width];
    let mut weights = vec![0.0; TOGETHER * length];
    let mut d_scores = vec![0.0; TOGETHER * length];
    for head in 0..shape.group() {
        let number = part.kv_head * shape.group() + head;
        let gather = |x: &[f32]| part.gather(x, number, shape.heads, width);
        let (queries, d_out) = (gather(of.queries), gather(d_heads));
        let log_sums = part.gather(log_sums, number, shape.heads, 1);
        for tile in Tile::all(length, shape) {
            let columns = tile.seen.len();
            let weights = &mut weights[..tile.rows.len() * columns];
            let d_scores = &mut d_scores[..tile.rows.len() * columns];
            let (own, d_own) = (tile.of(&queries, width), tile.of(&d_out, width));
            product_with_transposed::<D>(own, tile.seen_of(&keys, width), width, weights);
            product_with_transposed::<D>(d_own, tile.seen_of(&values, width), width, d_scores);
            let rows = weights
                .chunks_exact_mut(columns)
                .zip(d_scores.chunks_exact_mut(columns));
            for (row, (weights, d_scores)) in tile.rows.clone().zip(rows) {
                let visible = tile.visible(row, shape);
                for hidden in [0..visible.start, visible.end..columns] {
                    weights[hidden.clone()].fill(0.0);
                    d_scores[hidden].fill(0.0);
                }
                let weights = &mut weights[visible.clone()];
                let d_scores = &mut d_scores[visible];
                for weight in weights.iter_mut() {
                    *weight = exp(*weight * shape.by.scale - log_sums[row]);
                }
                // `L` is rounded, so that they add up to one but for a millionth.
                normalise(weights);
                let [[mean]] = D::f32([&*weights], [&*d_scores]);
                for (weight, d_score) in weights.iter().zip(d_scores) {
                    *d_score = weight * (*d_score - mean) * shape.by.scale;
                }
            }
            let by_queries = Extent {
                rows: tile.rows.len(),
                depth: columns,
                width,
            };
            let by_keys = Extent {
                rows: columns,
                depth: tile.rows.len(),
                width,
            };
            let down = |values| Strided {
                values,
                row: columns,
                column: 1,
            };
            let across = |values| Strided {
                values,
                row: 1,
                column: columns,
            };
            let rows = |values| Rows {
                values,
                stride: width,
            };
            let from = head * length + tile.rows.start;
            let mut sum = Rows {
                values: &mut part.heads[from * width..],
                stride: width,
            };
            let keys = rows(tile.seen_of(&keys, width));
            add_product::<D>(down(d_scores), &keys, &mut sum, by_queries);
            let mut sum = Rows {
                values: &mut part.keys[tile.seen.start * width..],
                stride: width,
            };
            add_product::<D>(across(d_scores), &rows(own), &mut sum, by_keys);
            let mut sum = Rows {
                values: &mut part.values[tile.seen.start * width..],
                stride: width,
            };
            add_product::<D>(across(weights), &rows(d_own), &mut sum, by_keys);
        }
    }
}
