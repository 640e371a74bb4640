// Grouped-query attention of every row over its sequence's cache up to itself, for a batch of many rows.
//
//   queries   [rows, heads · head_dim] f32, rotated
//   keys      [sequences, kv_heads, head_dim / 4, context] vec4 f32, rotated; of halves, [.., head_dim / 8, context] vec4 of two (see attend.wgsl)
//   values    [sequences, kv_heads, context, head_dim / 4] vec4 f32; of halves, [.., context, head_dim / 8] vec4 of two
//   outputs   [rows, heads · head_dim] activations in blocks (see weights.wgsl), written
//
// One workgroup of {{ lanes }} {{ "a head" if together == 1 else together ~ " heads" }} (x) and row (y).
{% import "attend.wgsl" as attend %}
{% import "outputs.wgsl" as outputs %}
{% include "step.wgsl" %}
const HEADS: u32 = {{ heads }}u;
{{ attend.declarations() }}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: {{ attend.types() }};
@group(0) @binding(3) var<storage, read> values: {{ attend.types() }};
@group(0) @binding(4) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> output_scales: array<vec4<f32>>;

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_head = group.x * TOGETHER;
    let index = group.y;
    let count = step.row[index].position + 1u;
    let cache = step.row[index].sequence * KV_HEADS + first_head / (HEADS / KV_HEADS);
{{ attend.over("0u", "count") }}
    for (var block = lane; block < TOGETHER * (HEAD_DIM / 32u); block += {{ lanes }}u) {
{{ outputs.write_block(precision, "result", "block * 32u", "(index * HEADS + first_head) * (HEAD_DIM / 32u) + block") }}
    }
}
