// What `attention.wgsl` makes of the heads, as the projection after it reads it.
//
//   outputs         [rows, heads · head_dim] activations in blocks (see weights.wgsl), written
//   output_scales   the blocks' scales
@group(0) @binding(5) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> output_scales: array<vec4<f32>>;

// include encode.wgsl

fn write_heads(lane: u32, index: u32, first_head: u32) {
    for (var block = lane; block < TOGETHER * (HEAD_DIM / 32u); block += LANES) {
        let coded = encoded(block * 32u);
        let at = (index * HEADS + first_head) * (HEAD_DIM / 32u) + block;
        // unroll
        for (var v = 0u; v < INPUT_VEC4S; v++) {
            outputs[at * INPUT_VEC4S + v] = coded.words[v];
        }
        output_scales[at * 2u] = coded.units;
        output_scales[at * 2u + 1u] = vec4<f32>(coded.total, 0.0, 0.0, 0.0);
    }
}
