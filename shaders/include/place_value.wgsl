// A place of `boundary.wgsl` where each operation has a kernel of its own: what lies there is changed where it lies, and what
// comes next reads it there.
// include in_between.wgsl

const PLACE: u32 = {{place_number}};
const KEPT: bool = true;
const HANDED_ON: bool = false;
const AT: u32 = BETWEEN_AT;
fn slot_of(index: u32) -> u32 {
    return step.row[index].{{slot}};
}

fn hand_on(index: u32, lane: u32, squares: f32) {
}
