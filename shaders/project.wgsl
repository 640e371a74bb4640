// A product of a matrix with every row of the batch. An epilogue (`include/epilogue_*.wgsl`: add, add_gain, gate, rotate, logits)
// keeps the sums of each matrix row, or of a pair of them where MEMBERS is 2, times a factor of the row of the batch, and
// finishes each tile; its bindings are 5 and following.
//
//   inputs          [rows, 32 · BLOCKS] activations in blocks (see weights.wgsl)
//   input_scales    the blocks' scales; after them [rows, tiles] sums of squares
//   weights, scales [MATRIX_ROWS, 32 · BLOCKS] in tiles; of pairs tile 2t holds the first, tile 2t + 1 the second members
//
// One invocation computes TILES matrix rows (or pairs), 64 apart, for TOKENS rows of the batch; workgroups of 64 · TILES matrix
// rows (or pairs) along x, of TOKENS rows of the batch along y.
// include step.wgsl
// include weights.wgsl

const TOKENS: u32 = {{tokens}};
const TILES: u32 = {{tiles}};
// Matrix rows of an invocation, TILES · MEMBERS; rows of the whole matrix (or pairs of them).
const ROWS: u32 = {{rows}};
const MATRIX_ROWS: u32 = {{matrix_rows}};
// Whether rows along y are head rows.
const HEAD_ROWS: bool = {{head_rows}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> inputs: array<vec4<u32>, MAX_ROWS * BLOCKS * INPUT_VEC4S>;
@group(0) @binding(2) var<storage, read> input_scales: array<vec4<f32>, MAX_ROWS * (2u * BLOCKS + (BLOCKS + 1u) / 2u)>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>, WEIGHT_VEC4S>;
@group(0) @binding(4) var<storage, read> scales: array<u32, SCALE_WORDS>;

// A row along y: its number there, the row of the batch that it is, and whether it is one at all.
struct Place {
    place: u32,
    index: u32,
    wanted: bool,
}

fn place_of(place: u32) -> Place {
    if (HEAD_ROWS) {
        return Place(place, step.row[min(place, step.head_rows - 1u)].head_row, place < step.head_rows);
    }
    return Place(place, min(place, step.rows - 1u), place < step.rows);
}

// include inputs_{{inputs}}.wgsl
// include products_{{products}}.wgsl
// include {{matrix}}.wgsl
// include epilogue_{{epilogue}}.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TOKENS;
    let first_tile = group.x * TILES;
    var places: array<Place, TOKENS>;
    // unroll
    for (var t = 0u; t < TOKENS; t++) {
        places[t] = place_of(first_row + t);
    }
    var sums: array<f32, ROWS * TOKENS>;
    for (var first = 0u; first < BLOCKS; first += STAGE) {
        stage(lane, first_row, first);
        let end = min(first + STAGE, BLOCKS);
        for (var block = first; block < end; block++) {
            var row_weights: array<Weights, ROWS>;
            // unroll
            for (var r = 0u; r < ROWS; r++) {
                let tile = min(first_tile + r / MEMBERS, MATRIX_TILES / MEMBERS - 1u) * MEMBERS + r % MEMBERS;
                row_weights[r] = weights_at(tile, lane, block);
            }
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                let input = input_at(input_place(t, places[t].index, block, first), {{places}});
                // unroll
                for (var r = 0u; r < ROWS; r++) {
                    sums[r * TOKENS + t] += product(row_weights[r], input);
                }
            }
        }
    }
    var factors: array<f32, TOKENS>;
    // unroll
    for (var t = 0u; t < TOKENS; t++) {
        factors[t] = factor_of(places[t]);
    }
    // unroll
    for (var tile = 0u; tile < TILES; tile++) {
        // unroll
        for (var t = 0u; t < TOKENS; t++) {
            let pair = vec2<f32>(sums[tile * MEMBERS * TOKENS + t], sums[(tile * MEMBERS + MEMBERS - 1u) * TOKENS + t]);
            keep(t, places[t], (first_tile + tile) * 64u + lane, lane, pair * factors[t]);
        }
        finish(first_tile + tile, first_row, lane, tile + 1u == TILES);
    }
}
