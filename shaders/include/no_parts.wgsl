// As `sum_of_parts.wgsl`, where the residual stream lies in one piece.

const COLUMNS: u32 = {{columns}};
const IN_PARTS: bool = false;

fn splits_at(position: u32) -> u32 {
    return 1u;
}

fn weigh_splits(lane: u32, place: u32, row: u32, splits: u32) {
}

fn columns_of(first: u32, place: u32, row: u32, splits: u32, whole: bool) -> array<f32, COLUMNS> {
    var sum: array<f32, COLUMNS>;
    // unroll
    for (var c = 0u; c < COLUMNS; c++) {
        sum[c] = residual[row * D + min(first + c * LANES, D - 1u)];
    }
    return sum;
}
