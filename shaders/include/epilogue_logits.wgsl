// Epilogue of `project.wgsl`: the output head. Rows along y are head rows, the rows of the batch that ask for it.
//
//   logits   [head rows, VOCAB] f32, of which those from FIRST_ENTRY on are written, as many as the matrix has rows
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;

const MEMBERS: u32 = 1u;
const VOCAB: u32 = {{vocab}};
const FIRST_ENTRY: u32 = {{first_entry}};

fn factor_of(row: Place) -> f32 {
    return {{logits_scale}};
}

fn keep(t: u32, row: Place, entry: u32, lane: u32, sums: vec2<f32>) {
    if (entry < MATRIX_ROWS && row.wanted) {
        logits[row.place * VOCAB + FIRST_ENTRY + entry] = sums.x;
    }
}

fn finish(tile: u32, first_row: u32, lane: u32, last: bool) {
}
