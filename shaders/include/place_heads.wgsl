// The place of `boundary.wgsl` before W_o: what attention made of each head. No norm follows.
// include in_between.wgsl

const PLACE: u32 = 2u;
const KEPT: bool = false;
const HANDED_ON: bool = true;
const AT: u32 = 0u;

fn slot_of(index: u32) -> u32 {
    return step.row[index].inside;
}

fn hand_on(index: u32, lane: u32, squares: f32) {
}
