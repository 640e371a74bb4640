// The place of `boundary.wgsl` before W_o: what attention made of each head. No norm follows.
// include in_between.wgsl

const PLACE: u32 = 2u;
const KEPT: bool = false;

fn slot_of(index: u32) -> u32 {
    return step.row[index].inside;
}

fn hand_on(index: u32, lane: u32, squares: f32) {
}
