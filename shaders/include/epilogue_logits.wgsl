// Epilogue of `project.wgsl`: the output head. Rows along y are head rows, the rows of the batch that ask for it.
//
//   logits   [head rows, MATRIX_ROWS] f32, written
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;

const MEMBERS: u32 = 1u;

fn factor_of(row: Place) -> f32 {
    return {{logits_scale}};
}

fn keep(t: u32, row: Place, entry: u32, lane: u32, sums: vec2<f32>) {
    if (entry < MATRIX_ROWS && row.wanted) {
        logits[row.place * MATRIX_ROWS + entry] = sums.x;
    }
}

fn finish(tile: u32, first_row: u32, lane: u32, last: bool) {
}
