// Grouped-query attention and its output projection, for a batch of few rows. A head's output meets only the matrix's columns
// of that head, so each workgroup attends and leaves one part of the projection behind (see parts.wgsl).
//
//   queries          [rows, heads · head_dim] f32, rotated
//   keys, values     the cache (see cache.wgsl); pages: which of its pages a sequence holds
//   weights, scales  [d, heads · head_dim] in tiles (see weights.wgsl)
//   residual         [rows, d] f32, unchanged; behind it the parts, written
//
// One workgroup of LANES for TOGETHER heads and a split of their keys (x) and a row (y). After attention a lane is a matrix row
// of every strip (see strips.wgsl), STRIPS of them at once.
// include step.wgsl
// include weights.wgsl

const D: u32 = {{d}};
const LANES: u32 = {{lanes}};
const STRIPS: u32 = {{strips}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> pages: array<u32>;
@group(0) @binding(5) var<storage, read> weights: array<vec4<u32>, WEIGHT_VEC4S>;
@group(0) @binding(6) var<storage, read> scales: array<u32, SCALE_WORDS>;
@group(0) @binding(7) var<storage, read_write> residual: array<f32>;

// Blocks of a workgroup's heads.
const HEAD_BLOCKS: u32 = TOGETHER * HEAD_DIM / 32u;

// The heads' outputs, as a projection reads them.
var<workgroup> inputs: array<vec4<u32>, HEAD_BLOCKS * INPUT_VEC4S>;
var<workgroup> input_scales: array<vec4<f32>, HEAD_BLOCKS * 2u>;

// include parts.wgsl
// include attend.wgsl
// include encode.wgsl
// include inputs_direct.wgsl
// include products_{{products}}.wgsl
// include {{matrix}}.wgsl
// include strips.wgsl

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head_group = group.x % GROUPS;
    let first_head = head_group * TOGETHER;
    let split = group.x / GROUPS;
    let index = group.y;
    let position = step.row[index].position;
    let splits = splits_at(position);
    if (split >= splits) {
        return;
    }
    let keys_each = (position + splits) / splits;
    let first = split * keys_each;
    let log_total = attend(lane, first_head, index, first, min(first + keys_each, position + 1u));
    for (var block = lane; block < HEAD_BLOCKS; block += LANES) {
        let coded = encoded(block * 32u);
        // unroll
        for (var v = 0u; v < INPUT_VEC4S; v++) {
            inputs[block * INPUT_VEC4S + v] = coded.words[v];
        }
        input_scales[block * 2u] = coded.units;
        input_scales[block * 2u + 1u] = vec4<f32>(coded.total, 0.0, 0.0, 0.0);
    }
    if (SPLITS > 1u && lane == 0u) {
        residual[SUMS_AT + (index * SPLITS + split) * GROUPS + head_group] = log_total;
    }
    workgroupBarrier();
    let part = PARTS_AT + (index * PARTS + split * GROUPS + head_group) * D;
    for (var strip = 0u; strip < MATRIX_TILES * TILE_STRIPS; strip += STRIPS) {
        var places: array<vec2<u32>, STRIPS>;
        var sums: array<f32, STRIPS>;
        // unroll
        for (var r = 0u; r < STRIPS; r++) {
            places[r] = place_in(min(strip + r, MATRIX_TILES * TILE_STRIPS - 1u), lane);
            sums[r] = 0.0;
        }
        for (var block = 0u; block < HEAD_BLOCKS; block++) {
            var row_weights: array<Weights, STRIPS>;
            // unroll
            for (var r = 0u; r < STRIPS; r++) {
                row_weights[r] = weights_at(places[r].x, places[r].y, head_group * HEAD_BLOCKS + block);
            }
            let input = input_at(block, {{places}});
            // unroll
            for (var r = 0u; r < STRIPS; r++) {
                sums[r] += product(row_weights[r], input);
            }
        }
        // unroll
        for (var r = 0u; r < STRIPS; r++) {
            let column = (strip + r) * LANES + lane;
            if (column < D) {
                residual[part + column] = sums[r];
            }
        }
    }
}
