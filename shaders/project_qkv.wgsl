// The q, k and v projections of one block with their rotation; k and v go straight into the cache.
//
//   inputs          [rows, d] activations in blocks (see weights.wgsl)
//   weights, scales q, k and v stacked, rows reordered into pairs that rotate together: tile 2t holds the
//                   first, tile 2t+1 the second members of pairs 64t..64t+63{% if bias %}; after the scales: the biases, pair by pair{% endif %}
//   rotations       [context, head_dim / 2] (cos, sin)
//   queries         [rows, heads · head_dim] f32, rotated, written
//   keys            [sequences, kv_heads, head_dim / 4, context] vec4 as f32, rotated, written
//   values          [sequences, kv_heads, context, head_dim] f32, written
//
// One invocation a pair and {{ tokens }} row{{ "s" if tokens > 1 }} of the batch; workgroups of 64 pairs along x, rows along y.
{% import "weights.wgsl" as weights %}
{% include "step.wgsl" %}
const BLOCKS: u32 = {{ d // 32 }}u;
const HEADS: u32 = {{ heads }}u;
const KV_HEADS: u32 = {{ kv_heads }}u;
const HEAD_DIM: u32 = {{ head_dim }}u;
const HALF: u32 = {{ head_dim // 2 }}u;
const CONTEXT: u32 = {{ context }}u;
const BIAS: u32 = {{ bias_at }}u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> inputs: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> input_scales: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read> rotations: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> queries: array<f32>;
@group(0) @binding(7) var<storage, read_write> keys: array<f32>;
@group(0) @binding(8) var<storage, read_write> values: array<f32>;

{{ weights.functions() }}

fn store(index: u32, pair: u32, first: f32, second: f32) {
    let sequence = step.row[index].sequence;
    let position = step.row[index].position;
    let within = pair % HALF;
    let head = pair / HALF;
    if (head >= HEADS + KV_HEADS) {
        let kv_head = head - HEADS - KV_HEADS;
        let at = ((sequence * KV_HEADS + kv_head) * CONTEXT + position) * HEAD_DIM + within;
        values[at] = first;
        values[at + HALF] = second;
        return;
    }
    let rotation = rotations[position * HALF + within];
    let a = first * rotation.x - second * rotation.y;
    let b = second * rotation.x + first * rotation.y;
    if (head < HEADS) {
        let at = (index * HEADS + head) * HEAD_DIM + within;
        queries[at] = a;
        queries[at + HALF] = b;
        return;
    }
    let base = (sequence * KV_HEADS + head - HEADS) * (HEAD_DIM / 4u);
    let far = within + HALF;
    keys[((base + within / 4u) * CONTEXT + position) * 4u + within % 4u] = a;
    keys[((base + far / 4u) * CONTEXT + position) * 4u + far % 4u] = b;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = group.x * 64u + lane;
    let first_row = group.y * {{ tokens }}u;
{%- for t in range(tokens) %}
    let row{{ t }} = min(first_row + {{ t }}u, step.rows - 1u);
    var a{{ t }} = 0.0;
    var b{{ t }} = 0.0;
{%- endfor %}
    for (var block = 0u; block < BLOCKS; block++) {
{{- weights.load("wa", form, "(group.x * 2u)") }}
{{- weights.load("wb", form, "(group.x * 2u + 1u)") }}
{%- for t in range(tokens) %}
        {
{{- weights.load_input("x", precision, "row" ~ t) }}
            a{{ t }} += {{ weights.product("wa", "x", form, precision) }};
            b{{ t }} += {{ weights.product("wb", "x", form, precision) }};
        }
{%- endfor %}
    }
    if (pair >= (HEADS + 2u * KV_HEADS) * HALF) {
        return;
    }
{%- if bias %}
    let bias_a = bitcast<f32>(scales[BIAS + pair * 2u]);
    let bias_b = bitcast<f32>(scales[BIAS + pair * 2u + 1u]);
{%- for t in range(tokens) %}
    a{{ t }} += bias_a;
    b{{ t }} += bias_b;
{%- endfor %}
{%- endif %}
{%- for t in range(tokens) %}
    if (first_row + {{ t }}u < step.rows) {
        store(row{{ t }}, pair, a{{ t }}, b{{ t }});
    }
{%- endfor %}
}
