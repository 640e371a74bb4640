// What `attention.wgsl` makes of the heads, as it is, for the boundary before the projection.
//
//   residual   behind its rows, [rows, heads · head_dim] f32, written (see between.wgsl)
@group(0) @binding(5) var<storage, read_write> residual: array<f32>;

// include between.wgsl

fn write_heads(lane: u32, index: u32, first_head: u32) {
    for (var i = lane; i < TOGETHER * HEAD_DIM; i += LANES) {
        residual[BETWEEN_AT + (index * HEADS + first_head) * HEAD_DIM + i] = numbers[i];
    }
}
