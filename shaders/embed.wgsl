// Embedding lookup: starts the residual stream of every row of the batch, and marks its token as seen.
//
//   weights, scales   the embedding matrix [vocab, d] in tiles (see weights.wgsl)
//   residual          [rows, d] f32, written
//   seen              [sequences, vocab / 32] bits: tokens that the repetition penalty counts
//   sampled           [sequences] the last sampled token of each
//   records           [rows, RECORD] word 0 of a row: the token it consumed
//
// One invocation a weight; workgroups of 64 along d, one row of them a row of the batch.
// include step.wgsl
// include weights.wgsl
// include records.wgsl

const D: u32 = {{d}};
const BLOCKS: u32 = D / 32u;
const SEEN_WORDS: u32 = {{seen_words}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read_write> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> seen: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> sampled: array<u32>;
@group(0) @binding(6) var<storage, read_write> records: array<u32>;

// vec4s of a block's data, and words beside it.
const VEC4S: u32 = {{vec4s}};
const BESIDE: u32 = {{beside}};

// Weight `within` of a block, in each form.
fn weight_of(block: Block, within: u32) -> f32 {
    let high = within >= 16u;
    let word = select(block.low, block.high, high)[(within % 16u) / 4u];
    let number = f32(bitcast<i32>(word << (24u - 8u * (within % 4u))) >> 24u);
    return number * select(block.scale.x, block.scale.y, high) + block.scale.z;
}

fn weight_f16(block: array<vec4<u32>, 4>, within: u32) -> f32 {
    var words = block;
    let quarter = words[within / 8u];
    let pair = select(quarter.xy, quarter.zw, (within / 4u) % 2u == 1u);
    return f16_pair(pair.x, pair.y)[within % 4u];
}

fn weight_bf16(block: array<vec4<u32>, 4>, within: u32) -> f32 {
    var words = block;
    let quarter = words[within / 8u];
    let pair = select(quarter.xy, quarter.zw, (within / 4u) % 2u == 1u);
    return bf16_pair(pair.x, pair.y)[within % 4u];
}

fn weight_f32(block: array<vec4<u32>, 8>, within: u32) -> f32 {
    var words = block;
    return bitcast<f32>(words[within / 4u][within % 4u]);
}

fn weight_at(at: u32, lane: u32, within: u32) -> f32 {
    var words: array<vec4<u32>, VEC4S>;
    // unroll
    for (var v = 0u; v < VEC4S; v++) {
        words[v] = weights[(at * VEC4S + v) * 64u + lane];
    }
    var beside: array<u32, max(BESIDE, 1u)>;
    // unroll
    for (var s = 0u; s < BESIDE; s++) {
        beside[s] = scales[(at * BESIDE + s) * 64u + lane];
    }
    return {{read_weight}};
}

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
    if (column == 0u) {
        records[index * RECORD + TOKEN] = token;
        atomicOr(&seen[sequence * SEEN_WORDS + token / 32u], 1u << (token % 32u));
    }
    let at = ((token / 64u) * BLOCKS + column / 32u);
    residual[index * D + column] = weight_at(at, token % 64u, column % 32u);
}
