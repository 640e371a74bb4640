// A value as the projection after it reads it: in blocks of 32 (see weights.wgsl).
//
//   values          the values of a batch, one after another, each [MAX_ROWS, its width] f32
//   outputs         [rows, WIDTH] activations in blocks, written
//   output_scales   the blocks' scales
//
// One invocation a block; workgroups of 64 blocks along x, a row of the batch along y.
// include weights.wgsl

const BLOCKS: u32 = {{width}} / 32u;
const OF_AT: u32 = {{of_at}};

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> output_scales: array<vec4<f32>>;

var<private> numbers: array<f32, 32>;

// include encode.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let block = group.x * 64u + lane;
    if (block >= BLOCKS) {
        return;
    }
    let at = group.y * BLOCKS + block;
    for (var i = 0u; i < 32u; i++) {
        numbers[i] = values[OF_AT + at * 32u + i];
    }
    let coded = encoded(0u);
    // unroll
    for (var v = 0u; v < INPUT_VEC4S; v++) {
        outputs[at * INPUT_VEC4S + v] = coded.words[v];
    }
    output_scales[at * 2u] = coded.units;
    output_scales[at * 2u + 1u] = vec4<f32>(coded.total, 0.0, 0.0, 0.0);
}
