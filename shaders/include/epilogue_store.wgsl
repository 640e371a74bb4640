// Epilogue of `project.wgsl`: attention's output as it is, for the boundary between it and the residual stream.
//
//   residual   behind its rows, [rows, MATRIX_ROWS] f32, written (see between.wgsl)
@group(0) @binding(5) var<storage, read_write> residual: array<f32>;

// include between.wgsl

const MEMBERS: u32 = 1u;

fn factor_of(row: Place) -> f32 {
    return 1.0;
}

fn keep(t: u32, row: Place, column: u32, lane: u32, sums: vec2<f32>) {
    if (column < MATRIX_ROWS && row.wanted) {
        residual[BETWEEN_AT + row.index * MATRIX_ROWS + column] = sums.x;
    }
}

fn finish(tile: u32, first_row: u32, lane: u32, last: bool) {
}
