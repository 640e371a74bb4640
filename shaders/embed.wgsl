// Embedding lookup: starts the residual stream of every row of the batch, times SCALE, and marks its token as seen.
//
//   weights, scales   TOKENS_HERE rows of the embedding matrix [vocab, d] from FIRST_TOKEN on, in tiles (see weights.wgsl)
//   residual          [rows, d] f32, written
//   seen              [sequences, vocab / 32] bits: tokens that the repetition penalty counts
//   sampled           [sequences] the last sampled token of each
//   records           [rows, RECORD] word 0 of a row: the token it consumed
//
// One invocation a weight; workgroups of 64 along d, one row of them a row of the batch. Where the matrix lies in pieces, each has a
// dispatch, which does the rows of the batch whose tokens it has.
// include step.wgsl
// include weights.wgsl
// include records.wgsl

const D: u32 = {{d}};
const BLOCKS: u32 = D / 32u;
const SEEN_WORDS: u32 = {{seen_words}};
const SCALE: f32 = {{scale}};
const FIRST_TOKEN: u32 = {{first_token}};
const TOKENS_HERE: u32 = {{tokens_here}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read_write> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> seen: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> sampled: array<u32>;
@group(0) @binding(6) var<storage, read_write> records: array<u32>;

// include weight_number.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y;
    let column = group.x * 64u + local;
    if (column >= D) {
        return;
    }
    let sequence = step.row[index].sequence;
    var token = step.row[index].token;
    if (token == SAMPLED) {
        token = sampled[sequence];
    }
    if (token < FIRST_TOKEN || token - FIRST_TOKEN >= TOKENS_HERE) {
        return;
    }
    if (column == 0u) {
        records[index * RECORD + TOKEN] = token;
        atomicOr(&seen[sequence * SEEN_WORDS + token / 32u], 1u << (token % 32u));
    }
    let row = token - FIRST_TOKEN;
    let at = ((row / 64u) * BLOCKS + column / 32u);
    residual[index * D + column] = SCALE * weight_at(at, row % 64u, column % 32u);
}
