//! The key/value cache, and grouped-query attention over it.

use super::aligned::Aligned;
use super::dot::{DotProduct, Tile};
use super::exponential::exp;
use super::kernels::Kernels;
use crate::cache::{PAGE, PageTable, Write};
use crate::executor::Row;
use crate::index::SequenceIndex;
use crate::op::Attention;
use bytemuck::Pod;
use half::f16;
use std::ops::Range;

/// Keys or values that are unpacked at once.
const SPAN: usize = 16;
/// Widest head whose numbers are packed.
const WIDEST: usize = 256;
/// Queries that share what was unpacked.
const TOGETHER: usize = 8;

/// How one token's keys and values lie in a page: `[block][kv_head][keys, values][PAGE, head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    pub blocks: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// Keys (rotated) and values of every sequence.
#[derive(Debug)]
pub struct KeyValueCache {
    shape: CacheShape,
    table: PageTable,
    pages: Pages,
}

/// By their numbers in the table. They are allocated as text grows and never moved.
#[derive(Debug)]
enum Pages {
    Single(Vec<Aligned<f32>>),
    /// In half the memory, rounded to 11 bits.
    Half(Vec<Aligned<f16>>),
}

impl KeyValueCache {
    /// With `half`, numbers are kept as f16 where heads are not wider than can be unpacked at once.
    pub fn new(shape: CacheShape, sequences: usize, half: bool) -> Self {
        let pages = match half && shape.head_dim <= WIDEST {
            true => Pages::Half(Vec::new()),
            false => Pages::Single(Vec::new()),
        };
        Self {
            shape,
            table: PageTable::new(sequences),
            pages,
        }
    }

    /// Makes room for `row`.
    pub fn reserve(&mut self, row: &Row) {
        let CacheShape {
            blocks,
            kv_heads,
            head_dim,
        } = self.shape;
        let numbers = blocks * kv_heads * 2 * PAGE * head_dim;
        let write = self.table.write(row.sequence, row.position);
        let pool = self.table.pool();
        match &mut self.pages {
            Pages::Single(pages) => make_room(pages, pool, numbers, write),
            Pages::Half(pages) => make_room(pages, pool, numbers, write),
        }
    }

    /// See [`crate::executor::Execute::fork`].
    pub fn fork(&mut self, from: SequenceIndex, to: SequenceIndex, length: usize) {
        self.table.fork(from, to, length);
    }

    /// Stores one token's `keys` and `values` (`[kv_heads · head_dim]`) of `block`.
    pub fn write(&mut self, block: usize, row: &Row, keys: &[f32], values: &[f32]) {
        let shape = self.shape;
        let page = self.table.page(row.sequence, row.position) as usize;
        match &mut self.pages {
            Pages::Single(pages) => shape.write(&mut pages[page], block, row, keys, values),
            Pages::Half(pages) => shape.write(&mut pages[page], block, row, keys, values),
        }
    }

    /// The keys of a head at the positions `0..count` of a sequence as f32, one after another: `[count, head_dim]`.
    pub fn keys(&self, block: usize, kv_head: usize, row: &Row) -> Vec<f32> {
        let width = self.shape.head_dim;
        let offset = self.shape.offset(block, kv_head);
        let count = row.position.0 as usize + 1;
        let mut keys = Vec::with_capacity(count * width);
        for (index, &page) in self.table.pages(row.sequence).iter().enumerate() {
            let numbers = offset..offset + count.saturating_sub(index * PAGE).min(PAGE) * width;
            match &self.pages {
                Pages::Single(pages) => keys.extend_from_slice(&pages[page as usize][numbers]),
                Pages::Half(pages) => {
                    let halves = pages[page as usize][numbers].iter();
                    keys.extend(halves.map(|half| half.to_f32()));
                }
            }
        }
        keys
    }
}

/// Allocates pages up to `pool` and copies what a page is to begin with.
fn make_room<N: Pod>(pages: &mut Vec<Aligned<N>>, pool: usize, numbers: usize, write: Write) {
    pages.resize_with(pool, || Aligned::zeros(numbers));
    if let Some(shared) = write.copy_of {
        let mut page = std::mem::take(&mut pages[write.page as usize]);
        page.copy_from_slice(&pages[shared as usize]);
        pages[write.page as usize] = page;
    }
}

impl CacheShape {
    /// Where the keys of a head begin in a page; its values follow them.
    fn offset(&self, block: usize, kv_head: usize) -> usize {
        (block * self.kv_heads + kv_head) * 2 * PAGE * self.head_dim
    }

    fn write<N: Number>(
        &self,
        page: &mut [N],
        block: usize,
        row: &Row,
        keys: &[f32],
        values: &[f32],
    ) {
        let within = row.position.0 as usize % PAGE * self.head_dim;
        let heads = keys.chunks(self.head_dim).zip(values.chunks(self.head_dim));
        for (head, (keys, values)) in heads.enumerate() {
            let at = self.offset(block, head) + within;
            N::pack(keys, &mut page[at..][..self.head_dim]);
            N::pack(
                values,
                &mut page[at + PAGE * self.head_dim..][..self.head_dim],
            );
        }
    }
}

/// A number as keys and values are kept.
trait Number: Pod {
    fn pack(from: &[f32], to: &mut [Self]);
    /// `stored` as f32, in `scratch` where that is not what it is.
    fn unpacked<'a>(stored: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32];
}

impl Number for f32 {
    fn pack(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    fn unpacked<'a>(stored: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        stored
    }
}

impl Number for f16 {
    fn pack(from: &[f32], to: &mut [Self]) {
        let largest = f16::MAX.to_f32();
        for (to, from) in to.iter_mut().zip(from) {
            *to = f16::from_f32(from.clamp(-largest, largest));
        }
    }

    /// Without branches, so that it becomes vector instructions; infinities and NaN are never stored.
    #[inline(always)]
    fn unpacked<'a>(stored: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32] {
        // An f16's bits, moved to where an f32 has them, make a number whose exponent is 127 − 15 too small.
        const RAISE: f32 = f32::from_bits((127 + 127 - 15) << 23);
        let scratch = &mut scratch[..stored.len()];
        for (to, from) in scratch.iter_mut().zip(stored) {
            let bits = u32::from(from.to_bits());
            let magnitude = f32::from_bits((bits & 0x7fff) << 13) * RAISE;
            *to = f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16);
        }
        scratch
    }
}

/// Attention of the `queries` (`[group, head_dim]`, rotated) of `row` that share a key/value head of a block over what it
/// sees of its sequence up to itself, with a running softmax; writes `out` (`[group, head_dim]`).
#[inline(always)]
pub fn attend<D: DotProduct>(
    cache: &KeyValueCache,
    (block, kv_head): (usize, usize),
    by: Attention,
    row: &Row,
    queries: &[f32],
    out: &mut [f32],
) {
    let shape = cache.shape;
    let together = TOGETHER * shape.head_dim;
    let count = row.position.0 as usize + 1;
    let seen = by.first(count - 1)..count;
    let offset = shape.offset(block, kv_head);
    let held = cache.table.pages(row.sequence);
    for (queries, out) in queries.chunks(together).zip(out.chunks_mut(together)) {
        match &cache.pages {
            Pages::Single(pages) => {
                let pages = held.iter().map(|&page| &pages[page as usize]);
                attend_together::<D, f32>(
                    pages,
                    (offset, shape.head_dim),
                    (seen.clone(), by.scale),
                    queries,
                    out,
                );
            }
            Pages::Half(pages) => {
                let pages = held.iter().map(|&page| &pages[page as usize]);
                attend_together::<D, f16>(
                    pages,
                    (offset, shape.head_dim),
                    (seen.clone(), by.scale),
                    queries,
                    out,
                );
            }
        }
    }
}

/// The weights with which `row` attends, `[heads, position + 1]`; `queries` is `[heads · head_dim]`, rotated. Only for whoever
/// wants to see them: [`attend`] never has all of them at once.
pub fn weights(
    kernels: &Kernels,
    cache: &KeyValueCache,
    block: usize,
    by: Attention,
    row: &Row,
    queries: &[f32],
) -> Vec<f32> {
    let CacheShape {
        kv_heads, head_dim, ..
    } = cache.shape;
    let first = by.first(row.position.0 as usize);
    let mut all = Vec::new();
    for (kv_head, group) in queries.chunks(queries.len() / kv_heads).enumerate() {
        let keys = cache.keys(block, kv_head, row);
        for query in group.chunks(head_dim) {
            let scores = keys.chunks(head_dim).enumerate();
            let scores = scores.map(|(position, key)| match position < first {
                true => f32::NEG_INFINITY,
                false => kernels.dot(query, key) * by.scale,
            });
            let mut weights: Vec<f32> = scores.collect();
            let largest = weights.iter().copied().fold(f32::MIN, f32::max);
            weights
                .iter_mut()
                .for_each(|weight| *weight = exp(*weight - largest));
            let total: f32 = weights.iter().sum();
            all.extend(weights.iter().map(|weight| weight / total));
        }
    }
    all
}

#[inline(always)]
fn attend_together<'a, D: DotProduct, N: Number>(
    pages: impl Iterator<Item = &'a Aligned<N>>,
    (offset, head_dim): (usize, usize),
    (seen, scale): (Range<usize>, f32),
    queries: &[f32],
    out: &mut [f32],
) {
    let mut scratch = [0.0; SPAN * WIDEST];
    let mut largest = [f32::MIN; TOGETHER];
    let mut total = [0.0; TOGETHER];
    out.fill(0.0);
    for (index, page) in pages.enumerate().skip(seen.start / PAGE) {
        let Some(here) = seen.end.checked_sub(index * PAGE).filter(|here| *here > 0) else {
            break;
        };
        let here = here.min(PAGE);
        let first = seen.start.saturating_sub(index * PAGE);
        let (keys, values) = page[offset..][..2 * PAGE * head_dim].split_at(PAGE * head_dim);
        let spans = (first..here).step_by(SPAN);
        let rows = |start: usize| start * head_dim..here.min(start + SPAN) * head_dim;
        // Before the first and beyond the last key: weights that vanish.
        let mut weights = [[f32::MIN; PAGE]; TOGETHER];
        for start in spans.clone() {
            let keys = N::unpacked(&keys[rows(start)], &mut scratch);
            let key = |i: usize| &keys[i * head_dim..][..head_dim];
            let count = keys.len() / head_dim;
            let mut at = 0;
            for queries in queries.chunks(3 * head_dim) {
                let weights = &mut weights[at..];
                let query = |i: usize| &queries[i * head_dim..][..head_dim];
                match (queries.len() / head_dim, D::TILE) {
                    (3, Tile::Wide) => {
                        let queries = [query(0), query(1), query(2)];
                        scores::<D, 3, 4>(queries, key, start..start + count, scale, weights);
                    }
                    (3, Tile::Narrow) => {
                        let queries = [query(0), query(1), query(2)];
                        scores::<D, 3, 2>(queries, key, start..start + count, scale, weights);
                    }
                    (few, _) => {
                        for (i, weights) in (0..few).zip(weights.chunks_mut(1)) {
                            let queries = [query(i)];
                            scores::<D, 1, 4>(queries, key, start..start + count, scale, weights);
                        }
                    }
                }
                at += 3;
            }
        }
        for (i, out) in out.chunks_mut(head_dim).enumerate() {
            let weights = &mut weights[i];
            let before = largest[i];
            largest[i] = before.max(all(weights, f32::max));
            if index > 0 && largest[i] > before {
                let shrink = exp(before - largest[i]);
                total[i] *= shrink;
                out.iter_mut().for_each(|out| *out *= shrink);
            }
            for weight in weights.iter_mut() {
                *weight = exp(*weight - largest[i]);
            }
            // In the browser one after another: links were made there with sums that are rounded so.
            total[i] += match cfg!(target_family = "wasm") {
                true => weights[..here].iter().sum(),
                false => all(weights, |a, b| a + b),
            };
        }
        for start in spans {
            let values = N::unpacked(&values[rows(start)], &mut scratch);
            let count = values.len() / head_dim;
            for (out, weights) in out.chunks_mut(head_dim).zip(&weights) {
                add_weighted(&weights[start..][..count], values, head_dim, out);
            }
        }
    }
    for (out, total) in out.chunks_mut(head_dim).zip(total) {
        let inverse = 1.0 / total;
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}

/// The `join` of all `values`, lane by lane first: one after another would wait for each result.
#[inline(always)]
fn all(values: &[f32; PAGE], join: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let (parts, _) = values.as_chunks::<LANES>();
    let mut lanes = parts[0];
    for part in &parts[1..] {
        for (lane, value) in lanes.iter_mut().zip(part) {
            *lane = join(*lane, *value);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Scaled inner products of `R` queries with the keys of the places `places`, `N` at a time, into those places of
/// `weights` (`[R, PAGE]`). `key` numbers keys from the first of them.
#[inline(always)]
fn scores<'a, D: DotProduct, const R: usize, const N: usize>(
    queries: [&[f32]; R],
    key: impl Fn(usize) -> &'a [f32],
    places: Range<usize>,
    scale: f32,
    weights: &mut [[f32; PAGE]],
) {
    let mut at = 0;
    while at + N <= places.len() {
        let mut keys = [key(at); N];
        for (i, other) in keys.iter_mut().enumerate().skip(1) {
            *other = key(at + i);
        }
        for (weights, scores) in weights.iter_mut().zip(D::f32(queries, keys)) {
            let weights = &mut weights[places.start + at..][..N];
            for (weight, score) in weights.iter_mut().zip(scores) {
                *weight = score * scale;
            }
        }
        at += N;
    }
    for at in at..places.len() {
        for (weights, [score]) in weights.iter_mut().zip(D::f32(queries, [key(at)])) {
            weights[places.start + at] = score * scale;
        }
    }
}

/// `out += Σ weight · value`; `values` is `[weights, head_dim]` or longer.
#[inline(always)]
fn add_weighted(weights: &[f32], values: &[f32], head_dim: usize, out: &mut [f32]) {
    const WIDTH: usize = 32;
    let (chunks, rest) = out.as_chunks_mut::<WIDTH>();
    let in_chunks = chunks.len() * WIDTH;
    for (index, chunk) in chunks.iter_mut().enumerate() {
        let mut sums = *chunk;
        for (weight, value) in weights.iter().zip(values.chunks_exact(head_dim)) {
            let value = &value.as_chunks::<WIDTH>().0[index];
            for (sum, v) in sums.iter_mut().zip(value) {
                *sum += weight * v;
            }
        }
        *chunk = sums;
    }
    for (weight, value) in weights.iter().zip(values.chunks_exact(head_dim)) {
        for (out, v) in rest.iter_mut().zip(&value[in_chunks..]) {
            *out += weight * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_is_unpacked_as_it_is() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let finite: Vec<f16> = all.into_iter().filter(|half| half.is_finite()).collect();
        let mut scratch = vec![0.0; finite.len()];
        let unpacked = Number::unpacked(&finite[..], &mut scratch);
        assert!(
            unpacked
                .iter()
                .zip(&finite)
                .all(|(x, half)| x.to_bits() == half.to_f32().to_bits())
        );
    }

    #[test]
    fn numbers_that_are_too_large_stay_finite() {
        let mut packed = [f16::ZERO; 2];
        Number::pack(&[1e9, -1e9], &mut packed);
        assert_eq!(packed, [f16::MAX, f16::MIN]);
    }
}
