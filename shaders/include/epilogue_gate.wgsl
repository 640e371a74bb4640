// Epilogue of `project.wgsl`: the gated feed-forward part, activation(gate · x) × (up · x). Tile 2t of the matrix holds rows
// 64t .. 64t + 63 of gate, tile 2t + 1 the same of up.
//
//   inputs          not yet divided by the norm; its scale comes from the sums of squares after `input_scales`
//   outputs         [rows, MATRIX_ROWS] activations in blocks, written
//   output_scales   the blocks' scales
@group(0) @binding(5) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> output_scales: array<vec4<f32>>;

const MEMBERS: u32 = 2u;
const EPSILON: f32 = {{epsilon}};
const SQUARES_AT: u32 = 2u * MAX_ROWS * BLOCKS;
const SQUARES: u32 = (BLOCKS + 1u) / 2u;

var<workgroup> numbers: array<f32, TOKENS * 64u>;

// include activate.wgsl
// include encode.wgsl

// The norm's scale.
fn factor_of(row: Place) -> f32 {
    var total = 0.0;
    for (var tile = 0u; tile < SQUARES; tile++) {
        total += input_scales[SQUARES_AT + row.index * SQUARES + tile].x;
    }
    return inverseSqrt(total / f32(BLOCKS * 32u) + EPSILON);
}

fn keep(t: u32, row: Place, column: u32, lane: u32, sums: vec2<f32>) {
    numbers[t * 64u + lane] = activate(sums.x) * sums.y;
}

fn finish(tile: u32, first_row: u32, lane: u32, last: bool) {
    workgroupBarrier();
    // Lane 2t+i writes half i of row t.
    let row = first_row + lane / 2u;
    let half = lane % 2u;
    if (lane < TOKENS * 2u && row < step.rows && tile * 64u + half * 32u < MATRIX_ROWS) {
        let block = encoded(lane * 32u);
        let at = row * (MATRIX_ROWS / 32u) + tile * 2u + half;
        // unroll
        for (var v = 0u; v < INPUT_VEC4S; v++) {
            outputs[at * INPUT_VEC4S + v] = block.words[v];
        }
        output_scales[at * 2u] = block.units;
        output_scales[at * 2u + 1u] = vec4<f32>(block.total, 0.0, 0.0, 0.0);
    }
    if (!last) {
        workgroupBarrier();
    }
}
