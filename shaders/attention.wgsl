// Grouped-query attention of every row over its sequence's cache up to itself, with a running softmax.
//
//   queries   [rows, heads · head_dim] f32, rotated
//   keys      [sequences, kv_heads, head_dim / 4, context] vec4 f32, rotated
//   values    [sequences, kv_heads, context, head_dim] f32
//   outputs   [rows, heads · head_dim] activations in blocks (see weights.wgsl), written
//
// One workgroup of 64 a head (x) and row (y): a lane is a key while scores are made, a dimension while values are summed.
{% import "outputs.wgsl" as outputs %}
{% include "step.wgsl" %}
const HEADS: u32 = {{ heads }}u;
const KV_HEADS: u32 = {{ kv_heads }}u;
const HEAD_DIM: u32 = {{ head_dim }}u;
const CONTEXT: u32 = {{ context }}u;
const SCALE: f32 = {{ attention_scale }};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> output_scales: array<vec2<f32>>;

var<workgroup> scores: array<f32, 64>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> result: array<f32, HEAD_DIM>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let index = group.y;
    let count = step.row[index].position + 1u;
    let cache = step.row[index].sequence * KV_HEADS + head / (HEADS / KV_HEADS);
    let query = (index * HEADS + head) * (HEAD_DIM / 4u);
    var largest = -3.0e38;
    var total = 0.0;
{%- for part in range((head_dim + 63) // 64) %}
    var sum{{ part }} = 0.0;
{%- endfor %}
    for (var start = 0u; start < count; start += 64u) {
        let key = start + lane;
        var score = -3.0e38;
        if (key < count) {
            var product = 0.0;
            for (var i = 0u; i < HEAD_DIM / 4u; i++) {
                product += dot(queries[query + i], keys[(cache * (HEAD_DIM / 4u) + i) * CONTEXT + key]);
            }
            score = product * SCALE;
        }
        scores[lane] = score;
        workgroupBarrier();
        var chunk_largest = largest;
        for (var i = 0u; i < 64u; i++) {
            chunk_largest = max(chunk_largest, scores[i]);
        }
        weights[lane] = select(0.0, exp(score - chunk_largest), key < count);
        workgroupBarrier();
        let shrink = exp(largest - chunk_largest);
        largest = chunk_largest;
        total *= shrink;
        let here = min(64u, count - start);
        for (var i = 0u; i < here; i++) {
            total += weights[i];
        }
{%- for part in range((head_dim + 63) // 64) %}
        sum{{ part }} *= shrink;
        {
            let dimension = min(lane + {{ part * 64 }}u, HEAD_DIM - 1u);
            for (var i = 0u; i < here; i++) {
                sum{{ part }} += weights[i] * values[(cache * CONTEXT + start + i) * HEAD_DIM + dimension];
            }
        }
{%- endfor %}
        workgroupBarrier();
    }
{%- for part in range((head_dim + 63) // 64) %}
    if (lane + {{ part * 64 }}u < HEAD_DIM) {
        result[lane + {{ part * 64 }}u] = sum{{ part }} / total;
    }
{%- endfor %}
    workgroupBarrier();
    if (lane < HEAD_DIM / 32u) {
{{ outputs.write_block(precision, "result", "lane * 32u", "(index * HEADS + head) * (HEAD_DIM / 32u) + lane") }}
    }
}
