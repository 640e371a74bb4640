// Turns the pairs of every head of a value by its row's position: dimension i with i + PAIRS.
//
//   values      the values of a batch, one after another, each [MAX_ROWS, its width] f32; one is changed in place
//   rotations   [context, PAIRS] (cos, sin)
//
// One invocation a pair; workgroups of 64 pairs along x, a row of the batch along y.
// include step.wgsl

const OF_AT: u32 = {{of_at}};
// Numbers of a row, of a head, and pairs of a head: those behind two times as many stay as they are.
const WIDTH: u32 = {{width}};
const HEAD_DIM: u32 = {{head_dim}};
const PAIRS: u32 = {{pairs}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read> rotations: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = group.x * 64u + lane;
    if (pair >= WIDTH / HEAD_DIM * PAIRS) {
        return;
    }
    let first = OF_AT + group.y * WIDTH + pair / PAIRS * HEAD_DIM + pair % PAIRS;
    let second = first + PAIRS;
    let rotation = rotations[step.row[group.y].position * PAIRS + pair % PAIRS];
    let a = values[first];
    let b = values[second];
    values[first] = a * rotation.x - b * rotation.y;
    values[second] = b * rotation.x + a * rotation.y;
}
