// The activation of the feed-forward part, gate = activation(gate), and where GATED times up.
//
//   values   the values of a batch, one after another, each [MAX_ROWS, its width] f32
//
// One invocation a number; workgroups of 64 along x, a row of the batch along y.

const WIDTH: u32 = {{width}};
const GATE_AT: u32 = {{gate_at}};
const UP_AT: u32 = {{up_at}};
const GATED: bool = {{gated}};

@group(0) @binding(0) var<storage, read_write> values: array<f32>;

// include activate.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * 64u + lane;
    if (column >= WIDTH) {
        return;
    }
    let at = group.y * WIDTH + column;
    var x = activate(values[GATE_AT + at]);
    if (GATED) {
        x *= values[UP_AT + at];
    }
    values[GATE_AT + at] = x;
}
