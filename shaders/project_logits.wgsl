// The output head, for the rows of the batch that ask for it.
//
//   inputs          [rows, d] activations in blocks (see weights.wgsl), normalised
//   weights, scales [vocab, d] in tiles
//   logits          [head rows, vocab] f32, written
//
// One invocation a vocabulary entry and {{ tokens }} head row{{ "s" if tokens > 1 }}; workgroups of 64 entries along x, head rows along y.
{% import "weights.wgsl" as weights %}
{% include "step.wgsl" %}
const VOCAB: u32 = {{ vocab }}u;
const BLOCKS: u32 = {{ d // 32 }}u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> inputs: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> input_scales: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;

{{ weights.functions() }}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let entry = group.x * 64u + lane;
    let first = group.y * {{ tokens }}u;
{%- for t in range(tokens) %}
    let row{{ t }} = step.row[min(first + {{ t }}u, step.head_rows - 1u)].head_row;
    var sum{{ t }} = 0.0;
{%- endfor %}
    for (var block = 0u; block < BLOCKS; block++) {
{{- weights.load("w", form, "group.x") }}
{%- for t in range(tokens) %}
        {
{{- weights.load_input("x", precision, "row" ~ t) }}
            sum{{ t }} += {{ weights.product("w", "x", form, precision) }};
        }
{%- endfor %}
    }
    if (entry >= VOCAB) {
        return;
    }
{%- for t in range(tokens) %}
    if (first + {{ t }}u < step.head_rows) {
        logits[(first + {{ t }}u) * VOCAB + entry] = sum{{ t }};
    }
{%- endfor %}
}
