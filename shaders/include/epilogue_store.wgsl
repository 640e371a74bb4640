// Epilogue of `project.wgsl`: the product as it is, with a bias where there is one, for what comes between it and the next projection.
// After the scales lie the biases.
//
//   residual   behind its rows, [rows, MATRIX_ROWS] f32, written (see between.wgsl)
@group(0) @binding(5) var<storage, read_write> residual: array<f32>;

// include between.wgsl

const MEMBERS: u32 = 1u;
const BIASED: bool = {{biased}};
const BIASES_AT: u32 = {{biases_at}};

fn factor_of(row: Place) -> f32 {
    return 1.0;
}

fn keep(t: u32, row: Place, column: u32, lane: u32, sums: vec2<f32>) {
    if (column < MATRIX_ROWS && row.wanted) {
        let at = BETWEEN_AT + row.index * MATRIX_ROWS + column;
        residual[at] = sums.x;
        if (BIASED) {
            residual[at] += bitcast<f32>(scales[BIASES_AT + column]);
        }
    }
}

fn finish(tile: u32, first_row: u32, lane: u32, last: bool) {
}
