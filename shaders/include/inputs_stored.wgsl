// The activations of a projection, read by each invocation for itself.
// include inputs_direct.wgsl

// Blocks of activations from one look at them to the next: all.
const STAGE: u32 = BLOCKS;

fn stage(lane: u32, first_row: u32, first: u32) {
}

// Where block `block` of row `row`, the t-th of this workgroup, lies.
fn input_place(t: u32, row: u32, block: u32, first: u32) -> u32 {
    return row * BLOCKS + block;
}
