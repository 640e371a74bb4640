//! Encoding of what the kernels read for one batch (`shaders/step.wgsl`), decoding of what they write.

use crate::executor::{Batch, Captured, Head, TokenSource};
use crate::index::TokenId;
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

/// Whether any row of a batch asks for its residual stream, which is then captured of all.
pub fn captures(batch: &Batch) -> bool {
    batch.rows.iter().any(|row| row.want.capture.residual)
}

/// Writes the step into `bytes` (cleared first, so that its allocation is reused) and returns how many
/// rows ask for the head.
pub fn encode(batch: &Batch, directions: usize, bytes: &mut Vec<u8>) -> usize {
    bytes.clear();
    let head_rows = batch
        .rows
        .iter()
        .filter(|row| row.want.head != Head::Skip)
        .count();
    let header = [
        batch.rows.len() as u32,
        head_rows as u32,
        directions as u32,
        u32::from(captures(batch)),
    ];
    bytes.extend_from_slice(bytemuck::bytes_of(&header));
    let mut headed = (0..)
        .zip(&batch.rows)
        .filter(|(_, row)| row.want.head != Head::Skip)
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
        match row.want.head {
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
        let prediction = (row.want.head != Head::Skip).then(|| Prediction {
            chosen: TokenId(words[1]),
            chosen_logprob: number(2),
            target_logprob: if row.want.head.target().is_some() {
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

/// `captured` is `[L+1, max_rows, d]`; returns one entry for each of `rows` rows.
pub fn decode_captured(
    captured: &[f32],
    rows: usize,
    max_rows: usize,
    layer_rows: usize,
    d: usize,
) -> Vec<Captured> {
    let of_row = |row: usize| {
        let mut residual = Vec::with_capacity(layer_rows * d);
        for layer in 0..layer_rows {
            residual.extend_from_slice(&captured[(layer * max_rows + row) * d..][..d]);
        }
        Captured {
            residual,
            ..Captured::default()
        }
    };
    (0..rows).map(of_row).collect()
}
