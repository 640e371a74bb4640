//! Encoding of what the kernels read for one batch (`shaders/include/step.wgsl`), decoding of the records that they write (`shaders/include/records.wgsl`).

use crate::executor::{Batch, Captured, Head, Row, TokenSource};
use crate::index::{Place, TokenId};
use crate::record::{ALTERNATIVES, MAX_DIRECTIONS, Prediction, Readings, TokenRecord};
use bytemuck::{Pod, Zeroable};

const SAMPLED: u32 = u32::MAX;
/// Words of a record where the most likely tokens and the readings begin.
const LIKELIEST_AT: usize = 5;
pub const READINGS_AT: usize = LIKELIEST_AT + 2 * ALTERNATIVES;

/// `Row` of `shaders/include/step.wgsl`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct StepRow {
    pub sequence: u32,
    pub position: u32,
    pub token: u32,
    pub change: u32,
    pub head: u32,
    pub wanted: u32,
    pub seed: u32,
    pub top_k: u32,
    pub temperature: f32,
    pub top_p: f32,
    pub repetition_penalty: f32,
    pub head_row: u32,
    pub page: u32,
    pub inside: u32,
    pub pad0: u32,
    pub pad1: u32,
}

/// Bytes before the rows.
pub const STEP_HEADER: usize = 32;

/// The directions that are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Directions {
    pub count: usize,
    /// A bit for each, of each place: whether it is read there.
    pub at: [u32; 3],
}

/// A bit for each place: whether any row of a batch asks for what lies there, which is then captured of all.
pub fn captures(batch: &Batch) -> u32 {
    let places = Place::ALL.iter().filter(|place| {
        let mut rows = batch.rows.iter();
        rows.any(|row| row.want.capture.wants(**place))
    });
    places.fold(0, |bits, place| bits | 1 << *place as u32)
}

/// Writes the step into `bytes` (cleared first, so that its allocation is reused) and returns how many
/// rows ask for the head. `found` says in which page of the cache a row's position lies, and whether its change acts inside blocks.
pub fn encode(
    batch: &Batch,
    directions: Directions,
    found: impl Fn(&Row) -> (u32, bool),
    bytes: &mut Vec<u8>,
) -> usize {
    bytes.clear();
    let head_rows = batch
        .rows
        .iter()
        .filter(|row| row.want.head != Head::Skip)
        .count();
    let [residual, after_attention, heads] = directions.at;
    let header = [
        batch.rows.len() as u32,
        head_rows as u32,
        captures(batch),
        // A vector of four lies at a multiple of its size.
        0,
        residual,
        after_attention,
        heads,
        0,
    ];
    bytes.extend_from_slice(bytemuck::bytes_of(&header));
    let mut headed = (0..)
        .zip(&batch.rows)
        .filter(|(_, row)| row.want.head != Head::Skip)
        .map(|(index, _)| index);
    for row in &batch.rows {
        let (page, inside) = found(row);
        let change = row.change.map_or(0, |slot| slot.0 + 1);
        let mut step = StepRow {
            sequence: row.sequence.0,
            position: row.position.0,
            token: match row.token {
                TokenSource::Id(token) => token.0,
                TokenSource::Sampled => SAMPLED,
            },
            change,
            inside: if inside { change } else { 0 },
            head_row: headed.next().unwrap_or(0),
            page,
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
            Head::Score(target) => {
                step.head = 2;
                step.wanted = target.0;
            }
            Head::Compare(target) => {
                step.head = 3;
                step.wanted = target.0;
            }
        }
        bytes.extend_from_slice(bytemuck::bytes_of(&step));
    }
    head_rows
}

/// The records of `batch` from the words that the kernels wrote, `[rows, stride]`.
pub fn decode(
    batch: &Batch,
    words: &[u32],
    directions: Directions,
    stride: usize,
) -> Vec<TokenRecord> {
    let layer_rows = (stride - READINGS_AT) / MAX_DIRECTIONS;
    let rows = batch.rows.iter().zip(words.chunks(stride));
    rows.map(|(row, words)| {
        let number = |word: usize| f32::from_bits(words[word]);
        let mut values = vec![0.0; directions.count * layer_rows];
        for direction in 0..directions.count {
            // Before the first block there is a residual stream and nothing else.
            let first = usize::from((directions.at[0] >> direction) & 1 == 0);
            for layer in first..layer_rows {
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
            divergence: matches!(row.want.head, Head::Compare(_)).then(|| number(4)),
            alternatives: std::array::from_fn(|place| {
                let at = LIKELIEST_AT + place;
                (TokenId(words[at]), number(at + ALTERNATIVES))
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

/// What each row of `batch` asked for, from what was captured of all: for each place that any asks for, in their order,
/// `[L+1, max_rows, width]` of `widths`.
pub fn decode_captured(
    batch: &Batch,
    captured: &[f32],
    max_rows: usize,
    layer_rows: usize,
    widths: [usize; 3],
) -> Vec<Captured> {
    let mut rows = vec![Captured::default(); batch.rows.len()];
    let (bits, mut rest) = (captures(batch), captured);
    for (place, width) in Place::ALL.into_iter().zip(widths) {
        if (bits >> place as u32) & 1 == 0 {
            continue;
        }
        let (of_place, after) = rest.split_at(layer_rows * max_rows * width);
        rest = after;
        let first = usize::from(place != Place::Residual);
        for (index, (row, captured)) in batch.rows.iter().zip(&mut rows).enumerate() {
            if row.want.capture.wants(place) {
                let layers = of_place.chunks(max_rows * width).skip(first);
                let numbers = layers.flat_map(|layer| &layer[index * width..][..width]);
                *captured.at_mut(place) = numbers.copied().collect();
            }
        }
    }
    rows
}
