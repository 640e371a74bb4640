// A place of `boundary.wgsl` where each operation has a kernel of its own: what lies there is changed where it lies, and what
// comes next reads it there.

const PLACE: u32 = {{place_number}};
const KEPT: bool = true;
const HANDED_ON: bool = false;
const AT: u32 = {{of_at}};
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
        sum[c] = residual[AT + row * WIDTH + min(first + c * LANES, WIDTH - 1u)];
    }
    return sum;
}

fn slot_of(index: u32) -> u32 {
    return step.row[index].{{slot}};
}

fn hand_on(index: u32, lane: u32, squares: f32) {
}
