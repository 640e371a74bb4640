// Adds a value, times SCALE, to the residual stream.
//
//   values   the values of a batch, one after another, each [MAX_ROWS, its width] f32; the residual stream is the first
//
// One invocation a number; workgroups of 64 along x, a row of the batch along y.

const D: u32 = {{d}};
const OF_AT: u32 = {{of_at}};
const SCALE: f32 = {{scale}};

@group(0) @binding(0) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * 64u + lane;
    if (column < D) {
        let at = group.y * D + column;
        values[at] += SCALE * values[OF_AT + at];
    }
}
