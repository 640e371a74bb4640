// Adds to the residual stream of every row of the batch what the model learnt for its position.
//
//   weights, scales   [positions, d] in tiles (see weights.wgsl)
//   residual          [rows, d] f32, added to
//
// One invocation a number; workgroups of 64 along d, one row of them a row of the batch.
// include step.wgsl
// include weights.wgsl

const D: u32 = {{d}};
const BLOCKS: u32 = D / 32u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read_write> residual: array<f32>;

// include weight_number.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = group.x * 64u + local;
    if (column < D) {
        let position = step.row[group.y].position;
        let at = position / 64u * BLOCKS + column / 32u;
        residual[group.y * D + column] += weight_at(at, position % 64u, column % 32u);
    }
}
