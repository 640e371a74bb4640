// The place of `boundary.wgsl` after attention: the output of W_o, which is then added to the residual stream and goes on times the
// gain of the next norm, as `epilogue_add_gain.wgsl` leaves it.
// include in_between.wgsl

const PLACE: u32 = 1u;
const KEPT: bool = false;
const HANDED_ON: bool = true;
const AT: u32 = 0u;
const TILES: u32 = (D + 63u) / 64u;
const SQUARES_AT: u32 = 2u * MAX_ROWS * BLOCKS;

fn slot_of(index: u32) -> u32 {
    return step.row[index].inside;
}

fn hand_on(index: u32, lane: u32, squares: f32) {
    var own = 0.0;
    for (var i = lane; i < D; i += LANES) {
        let value = residual[index * D + i] + numbers[i];
        residual[index * D + i] = value;
        numbers[i] = value * gain[i];
        own += value * value;
    }
    let total = over_workgroup(lane, vec4<f32>(0.0), own).one;
    // The reader adds up the sums of all tiles.
    for (var tile = lane; tile < TILES; tile += LANES) {
        output_scales[SQUARES_AT + index * TILES + tile] = vec4<f32>(select(0.0, total, tile == 0u), 0.0, 0.0, 0.0);
    }
}
