// A row of WIDTH numbers that lies between two operations of a block (see between.wgsl), as `no_parts.wgsl` has the residual stream.
// include between.wgsl

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
        sum[c] = residual[BETWEEN_AT + row * WIDTH + min(first + c * LANES, WIDTH - 1u)];
    }
    return sum;
}
