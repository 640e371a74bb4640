// Epilogue of `project.wgsl`: as `epilogue_add.wgsl`, followed by the gain of the next norm. The norm's own scale needs the whole
// row, so each workgroup leaves its sum of squares behind and the next projection divides (a norm commutes with a projection).
//
//   residual        [rows, MATRIX_ROWS] f32, added to
//   gain            [MATRIX_ROWS] f32
//   outputs         [rows, MATRIX_ROWS] activations in blocks: residual · gain, not yet divided by the norm
//   output_scales   the blocks' scales; after them the sums of squares (see weights.wgsl)
@group(0) @binding(5) var<storage, read_write> residual: array<f32>;
@group(0) @binding(6) var<storage, read> gain: array<f32>;
@group(0) @binding(7) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> output_scales: array<vec4<f32>>;

const MEMBERS: u32 = 1u;
const SQUARES_AT: u32 = 2u * MAX_ROWS * (MATRIX_ROWS / 32u);

var<workgroup> numbers: array<f32, TOKENS * 64u>;
var<workgroup> squares: array<f32, TOKENS * 64u>;

// include encode.wgsl

fn factor_of(row: Place) -> f32 {
    return 1.0;
}

fn keep(t: u32, row: Place, column: u32, lane: u32, sums: vec2<f32>) {
    var value = 0.0;
    if (column < MATRIX_ROWS && row.wanted) {
        value = residual[row.index * MATRIX_ROWS + column] + sums.x;
        residual[row.index * MATRIX_ROWS + column] = value;
    }
    numbers[t * 64u + lane] = value * gain[min(column, MATRIX_ROWS - 1u)];
    squares[t * 64u + lane] = value * value;
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
        if (half == 0u) {
            var total = 0.0;
            for (var i = 0u; i < 64u; i++) {
                total += squares[(lane / 2u) * 64u + i];
            }
            output_scales[SQUARES_AT + row * MATRIX_TILES + tile] = vec4<f32>(total, 0.0, 0.0, 0.0);
        }
    }
    if (!last) {
        workgroupBarrier();
    }
}
