// The place of `boundary.wgsl` between two blocks: the residual stream, normalised for what comes next.
// include {{residual}}.wgsl

const PLACE: u32 = 0u;
// Whether the row is kept where it came from.
const KEPT: bool = true;
const HANDED_ON: bool = true;
const AT: u32 = 0u;

fn slot_of(index: u32) -> u32 {
    return step.row[index].change;
}

fn hand_on(index: u32, lane: u32, squares: f32) {
    let scale = inverseSqrt(squares / f32(D) + EPSILON);
    for (var i = lane; i < D; i += LANES) {
        numbers[i] *= scale * gain[i];
    }
    workgroupBarrier();
}
