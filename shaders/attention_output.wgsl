// Grouped-query attention and its output projection, for a batch of few rows. A head's output meets only the matrix's columns
// of that head, so each workgroup attends and leaves one part of the projection behind (see parts.wgsl).
//
//   queries, keys, values  as in attention.wgsl
//   weights, scales        [d, heads · head_dim] in tiles (see weights.wgsl)
//   residual               [rows, d] f32, unchanged; behind it the parts, written
//
// One workgroup of {{ lanes }} {{ "a head" if together == 1 else together ~ " heads" }} and split of its keys (x) and row (y). After attention a lane is a matrix row of every strip (see weights.wgsl).
{% import "attend.wgsl" as attend %}
{% import "parts.wgsl" as residual_parts %}
{% import "weights.wgsl" as weights %}
{% import "outputs.wgsl" as outputs %}
{{ weights.directives(half_products) }}
{% include "step.wgsl" %}
const D: u32 = {{ d }}u;
const HEADS: u32 = {{ heads }}u;
{{ residual_parts.declarations() }}
{{ attend.declarations() }}
const STRIPS: u32 = {{ (d + 63) // 64 * (64 // lanes) }}u;
const BLOCKS: u32 = {{ heads * head_dim // 32 }}u;
// Blocks of a workgroup's heads.
const HEAD_BLOCKS: u32 = {{ together * head_dim // 32 }}u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: {{ attend.types() }};
@group(0) @binding(3) var<storage, read> values: {{ attend.types() }};
@group(0) @binding(4) var<storage, read> weights: {{ weights.weights_type(form, heads * head_dim // 32, matrix_tiles) }};
@group(0) @binding(5) var<storage, read> scales: {{ weights.scales_type(form, heads * head_dim // 32, matrix_tiles) }};
@group(0) @binding(6) var<storage, read_write> residual: array<f32>;

var<workgroup> head_inputs: array<vec4<u32>, {{ together * head_dim // 32 * (2 if precision == "fast" else 8) }}>;
var<workgroup> head_input_scales: array<vec4<f32>, {{ 2 * together * (head_dim // 32) }}>;

{{ weights.functions(half_products) }}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head_group = group.x % GROUPS;
    let first_head = head_group * TOGETHER;
    let split = group.x / GROUPS;
    let index = group.y;
    let position = step.row[index].position;
    let splits = splits_at(position);
    if (split >= splits) {
        return;
    }
    let keys_each = (position + splits) / splits;
    let first = split * keys_each;
    let end = min(first + keys_each, position + 1u);
    let cache = step.row[index].sequence * KV_HEADS + first_head / (HEADS / KV_HEADS);
{{ attend.over("first", "end") }}
    for (var block = lane; block < HEAD_BLOCKS; block += {{ lanes }}u) {
{{ outputs.write_block(precision, "result", "block * 32u", "block", "head_inputs") }}
    }
{%- if parts.splits > 1 %}
    if (lane == 0u) {
        residual[SUMS_AT + (index * SPLITS + split) * GROUPS + head_group] = largest0 + log(total0);
    }
{%- endif %}
    workgroupBarrier();
    let row0 = 0u;
    let part = PARTS_AT + (index * PARTS + split * GROUPS + head_group) * D;
    for (var strip = 0u; strip < STRIPS; strip += {{ strips }}u) {
{%- for r in range(strips) %}
{{- weights.place("w" ~ r, "min(strip + " ~ r ~ "u, STRIPS - 1u)") }}
        var sum_w{{ r }}_0 = 0.0;
{%- endfor %}
        for (var block = 0u; block < HEAD_BLOCKS; block++) {
{%- for r in range(strips) %}
{{- weights.load("w" ~ r ~ "_", form, "w" ~ r ~ "_tile", "(head_group * HEAD_BLOCKS + block)", row="w" ~ r ~ "_row") }}
{%- endfor %}
{{- weights.accumulate(row_names, form, precision, 1, unpacked, inputs="head_inputs") }}
        }
{%- for r in range(strips) %}
        if ((strip + {{ r }}u) * {{ lanes }}u + lane < D) {
            residual[part + (strip + {{ r }}u) * {{ lanes }}u + lane] = sum_w{{ r }}_0;
        }
{%- endfor %}
    }
}
