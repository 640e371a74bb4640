// The whole feed-forward part, for a batch of few rows: down · (activation(gate · x) × (up · x)), x the normalised residual.
// Its hidden values meet only the down matrix's columns of their own, so each workgroup makes some of them and leaves one part
// of the sum behind (see parts.wgsl). The norm's scale multiplies results, not inputs, which therefore need not wait for it.
//
//   residual                [rows, d] f32, unchanged; behind it the parts of attention, read, and of this, written
//   gain                    [d] f32, of the norm before
//   weights, scales         gate and up stacked: tile 2t holds rows 64t..64t+63 of gate, tile 2t+1 the same of up
//   down, down_scales       [d, ffn] in tiles (see weights.wgsl)
//
// Workgroups of LANES along x, one for TILES tiles of gate and as many of up; batch rows in groups of TOKENS along y. A lane is a
// pair of matrix rows of gate and up in each strip of them (see strips.wgsl), STRIPS of them at once, then a matrix row of every
// strip of down, DOWN_STRIPS at once.
// include step.wgsl
// include weights.wgsl

const D: u32 = {{d}};
const LANES: u32 = {{lanes}};
const TOKENS: u32 = {{tokens}};
const PART_ROWS: u32 = {{tokens}};
const TILES: u32 = {{tiles}};
const STRIPS: u32 = {{strips}};
const DOWN_STRIPS: u32 = {{down_strips}};
const DOWN_VEC4S: u32 = {{down_vec4s}};
const DOWN_BESIDE: u32 = {{down_beside}};
const DOWN_TILES: u32 = {{down_tiles}};
const DOWN_BLOCKS: u32 = {{down_blocks}};
const DOWN_SCALE_WORDS: u32 = {{down_scale_words}};
const EPSILON: f32 = {{epsilon}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read_write> residual: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>, WEIGHT_VEC4S>;
@group(0) @binding(4) var<storage, read> scales: array<u32, SCALE_WORDS>;
@group(0) @binding(5) var<storage, read> down: array<vec4<u32>, DOWN_TILES * DOWN_BLOCKS * DOWN_VEC4S * 64u>;
@group(0) @binding(6) var<storage, read> down_scales: array<u32, DOWN_SCALE_WORDS>;

// Blocks of hidden values that a workgroup makes.
const OWN_BLOCKS: u32 = TILES * 2u;

// The residual times the gain, then the hidden values; either in blocks.
var<workgroup> numbers: array<f32, TOKENS * 32u * max(BLOCKS, OWN_BLOCKS)>;
var<workgroup> inputs: array<vec4<u32>, TOKENS * INPUT_VEC4S * max(BLOCKS, OWN_BLOCKS)>;
var<workgroup> input_scales: array<vec4<f32>, TOKENS * 2u * max(BLOCKS, OWN_BLOCKS)>;
var<workgroup> squares: array<f32, TOKENS * LANES>;
var<workgroup> norms: array<f32, TOKENS>;

// include sum_of_parts.wgsl
// include encode.wgsl
// include inputs_direct.wgsl
// include products_{{products}}.wgsl
// include {{matrix}}.wgsl
// include strips.wgsl
// include activate.wgsl

// As `weights_at`, of the down matrix.
fn down_at(tile: u32, row: u32, block: u32) -> Weights {
    let at = tile * DOWN_BLOCKS + block;
    var words: array<vec4<u32>, DOWN_VEC4S>;
    // unroll
    for (var v = 0u; v < DOWN_VEC4S; v++) {
        words[v] = down[(at * DOWN_VEC4S + v) * 64u + row];
    }
    var beside: array<u32, max(DOWN_BESIDE, 1u)>;
    // unroll
    for (var s = 0u; s < DOWN_BESIDE; s++) {
        beside[s] = down_scales[(at * DOWN_BESIDE + s) * 64u + row];
    }
    return {{read_down_weights}};
}

// Makes `inputs` of the first `blocks` blocks of `numbers`.
fn encode_all(lane: u32, blocks: u32) {
    for (var block = lane; block < blocks; block += LANES) {
        let coded = encoded(block * 32u);
        // unroll
        for (var v = 0u; v < INPUT_VEC4S; v++) {
            inputs[block * INPUT_VEC4S + v] = coded.words[v];
        }
        input_scales[block * 2u] = coded.units;
        input_scales[block * 2u + 1u] = vec4<f32>(coded.total, 0.0, 0.0, 0.0);
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TOKENS;
    var any_splits = false;
    var source: array<u32, TOKENS>;
    var splits: array<u32, TOKENS>;
    // unroll
    for (var t = 0u; t < TOKENS; t++) {
        source[t] = min(first_row + t, step.rows - 1u);
        splits[t] = splits_at(step.row[source[t]].position);
        any_splits = any_splits || splits[t] > 1u;
    }
    if (any_splits) {
        // unroll
        for (var t = 0u; t < TOKENS; t++) {
            weigh_splits(lane, t, source[t], splits[t]);
        }
        workgroupBarrier();
    }
    // unroll
    for (var t = 0u; t < TOKENS; t++) {
        var square = 0.0;
        for (var first = lane; first < D; first += COLUMNS * LANES) {
            let sums = columns_of(first, t, source[t], splits[t], false);
            // unroll
            for (var c = 0u; c < COLUMNS; c++) {
                let column = first + c * LANES;
                if (column < D) {
                    numbers[t * D + column] = sums[c] * gain[column];
                    square += sums[c] * sums[c];
                }
            }
        }
        squares[t * LANES + lane] = square;
    }
    workgroupBarrier();
    encode_all(lane, TOKENS * BLOCKS);
    if (lane < TOKENS) {
        var total = 0.0;
        for (var i = 0u; i < LANES; i++) {
            total += squares[lane * LANES + i];
        }
        norms[lane] = inverseSqrt(total / f32(D) + EPSILON);
    }
    workgroupBarrier();
    // Numbers were last read before the barrier above; blocks are still being read by slower lanes.
    for (var strip = 0u; strip < TILES * TILE_STRIPS; strip += STRIPS) {
        var places: array<vec2<u32>, STRIPS>;
        var gate: array<f32, STRIPS * TOKENS>;
        var up: array<f32, STRIPS * TOKENS>;
        // unroll
        for (var r = 0u; r < STRIPS; r++) {
            let own = group.x * TILES * TILE_STRIPS + strip + r;
            places[r] = place_in(min(own, MATRIX_TILES / 2u * TILE_STRIPS - 1u), lane);
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                gate[r * TOKENS + t] = 0.0;
                up[r * TOKENS + t] = 0.0;
            }
        }
        for (var block = 0u; block < BLOCKS; block++) {
            var gate_weights: array<Weights, STRIPS>;
            var up_weights: array<Weights, STRIPS>;
            // unroll
            for (var r = 0u; r < STRIPS; r++) {
                gate_weights[r] = weights_at(places[r].x * 2u, places[r].y, block);
                up_weights[r] = weights_at(places[r].x * 2u + 1u, places[r].y, block);
            }
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                let input = input_at(t * BLOCKS + block, {{places}});
                // unroll
                for (var r = 0u; r < STRIPS; r++) {
                    gate[r * TOKENS + t] += product(gate_weights[r], input);
                    up[r * TOKENS + t] += product(up_weights[r], input);
                }
            }
        }
        // unroll
        for (var t = 0u; t < TOKENS; t++) {
            let norm = norms[t];
            // unroll
            for (var r = 0u; r < STRIPS; r++) {
                if (strip + r < TILES * TILE_STRIPS) {
                    let at = t * OWN_BLOCKS * 32u + (strip + r) * LANES + lane;
                    numbers[at] = activate(gate[r * TOKENS + t] * norm) * (up[r * TOKENS + t] * norm);
                }
            }
        }
    }
    workgroupBarrier();
    encode_all(lane, TOKENS * OWN_BLOCKS);
    workgroupBarrier();
    let first_block = group.x * OWN_BLOCKS;
    let blocks = min(OWN_BLOCKS, DOWN_BLOCKS - min(first_block, DOWN_BLOCKS));
    for (var strip = 0u; strip < DOWN_TILES * TILE_STRIPS; strip += DOWN_STRIPS) {
        var places: array<vec2<u32>, DOWN_STRIPS>;
        var sums: array<f32, DOWN_STRIPS * TOKENS>;
        // unroll
        for (var r = 0u; r < DOWN_STRIPS; r++) {
            places[r] = place_in(min(strip + r, DOWN_TILES * TILE_STRIPS - 1u), lane);
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                sums[r * TOKENS + t] = 0.0;
            }
        }
        for (var block = 0u; block < blocks; block++) {
            var down_weights: array<Weights, DOWN_STRIPS>;
            // unroll
            for (var r = 0u; r < DOWN_STRIPS; r++) {
                down_weights[r] = down_at(places[r].x, places[r].y, first_block + block);
            }
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                let input = input_at(t * OWN_BLOCKS + block, {{down_places}});
                // unroll
                for (var r = 0u; r < DOWN_STRIPS; r++) {
                    sums[r * TOKENS + t] += product(down_weights[r], input);
                }
            }
        }
        // unroll
        for (var r = 0u; r < DOWN_STRIPS; r++) {
            let column = (strip + r) * LANES + lane;
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                if (column < D && first_row + t < step.rows) {
                    residual[PARTS_AT + (source[t] * PARTS + FEED_FORWARD + group.x) * D + column] = sums[r * TOKENS + t];
                }
            }
        }
    }
}
