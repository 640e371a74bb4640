//! Encoding of what the kernels read for one batch (`shaders/step.wgsl`), decoding of what they write.

use crate::executor::{Batch, Head, TokenSource};
use crate::index::{Layer, TokenId};
use crate::record::{ALTERNATIVES, MAX_DIRECTIONS, Prediction, Readings, TokenRecord};
use bytemuck::{Pod, Zeroable};

const SAMPLED: u32 = u32::MAX;
/// Word of a record where its readings begin.
pub const READINGS_AT: usize = 4 + 2 * ALTERNATIVES;

/// `Row` of `shaders/step.wgsl`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct StepRow {
    sequence: u32,
    position: u32,
    token: u32,
    change: u32,
    head: u32,
    wanted: u32,
    seed: u32,
    top_k: u32,
    temperature: f32,
    top_p: f32,
    repetition_penalty: f32,
    head_row: u32,
}

/// Bytes before the rows.
pub const STEP_HEADER: usize = 16;

/// Bytes of the uniform buffer for `rows` rows.
pub const fn step_bytes(rows: usize) -> usize {
    STEP_HEADER + rows * size_of::<StepRow>()
}

/// Words of one row's record.
pub const fn record_words(layer_rows: usize) -> usize {
    READINGS_AT + MAX_DIRECTIONS * layer_rows
}

/// Writes the step into `bytes` (cleared first, so that its allocation is reused) and returns how many
/// rows ask for the head.
pub fn encode(batch: &Batch, directions: usize, bytes: &mut Vec<u8>) -> usize {
    bytes.clear();
    let head_rows = batch
        .rows
        .iter()
        .filter(|row| row.head != Head::Skip)
        .count();
    let header = [
        batch.rows.len() as u32,
        head_rows as u32,
        directions as u32,
        u32::from(batch.capture),
    ];
    bytes.extend_from_slice(bytemuck::bytes_of(&header));
    let mut headed = (0..)
        .zip(&batch.rows)
        .filter(|(_, row)| row.head != Head::Skip)
        .map(|(index, _)| index);
    for row in &batch.rows {
        let mut step = StepRow {
            sequence: row.sequence.0,
            position: row.position.0,
            token: match row.token {
                TokenSource::Id(token) => token.0,
                TokenSource::Sampled => SAMPLED,
            },
            change: row.change.map_or(0, |slot| slot.0 + 1),
            head_row: headed.next().unwrap_or(0),
            ..StepRow::default()
        };
        match row.head {
            Head::Skip => {}
            Head::Sample(sampler) => {
                step.head = 1;
                step.seed = sampler.seed;
                step.top_k = sampler.top_k;
                step.temperature = sampler.divisor();
                step.top_p = sampler.top_p;
                step.repetition_penalty = sampler.repetition_penalty;
            }
            Head::Score(target) | Head::Compare(target) => {
                step.head = 2;
                step.wanted = target.0;
            }
        }
        bytes.extend_from_slice(bytemuck::bytes_of(&step));
    }
    head_rows
}

/// The records of `batch` from the words that the kernels wrote, `[rows, record_words]`.
pub fn decode(
    batch: &Batch,
    words: &[u32],
    directions: usize,
    layer_rows: usize,
) -> Vec<TokenRecord> {
    let stride = record_words(layer_rows);
    let rows = batch.rows.iter().zip(words.chunks(stride));
    rows.map(|(row, words)| {
        let number = |word: usize| f32::from_bits(words[word]);
        let mut values = vec![0.0; directions * layer_rows];
        for direction in 0..directions {
            for layer in 0..layer_rows {
                values[direction * layer_rows + layer] =
                    number(READINGS_AT + layer * MAX_DIRECTIONS + direction);
            }
        }
        let prediction = (row.head != Head::Skip).then(|| Prediction {
            chosen: TokenId(words[1]),
            chosen_logprob: number(2),
            target_logprob: if row.head.target().is_some() {
                number(3)
            } else {
                f32::NAN
            },
            divergence: None,
            alternatives: std::array::from_fn(|place| {
                (TokenId(words[4 + place]), number(4 + ALTERNATIVES + place))
            }),
        });
        TokenRecord {
            sequence: row.sequence,
            position: row.position,
            token: TokenId(words[0]),
            readings: Readings { values, layer_rows },
            prediction,
        }
    })
    .collect()
}

/// `captured` is `[L+1, max_rows, d]`; returns `[rows, L+1, d]`.
pub fn decode_captured(
    captured: &[f32],
    rows: usize,
    max_rows: usize,
    layer_rows: usize,
    d: usize,
) -> Vec<f32> {
    let mut residual = Vec::with_capacity(rows * layer_rows * d);
    for row in 0..rows {
        for layer in 0..layer_rows {
            let layer = Layer(layer as u32);
            residual.extend_from_slice(&captured[(layer.index() * max_rows + row) * d..][..d]);
        }
    }
    residual
}
