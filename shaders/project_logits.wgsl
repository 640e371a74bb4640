// The output head, for the rows of the batch that ask for it.
//
//   inputs          [rows, d] activations in blocks (see weights.wgsl), normalised
//   weights, scales [vocab, d] in tiles
//   logits          [head rows, vocab] f32, written
//
// One invocation {{ tiles }} vocabulary entr{{ "ies, 64 apart," if tiles > 1 else "y" }} and {{ tokens }} head row{{ "s" if tokens > 1 }}; workgroups of {{ tiles }} × 64 entries along x, head rows along y.
{% import "weights.wgsl" as weights %}
{{ weights.directives(half_products) }}
{% include "step.wgsl" %}
const VOCAB: u32 = {{ vocab }}u;
const BLOCKS: u32 = {{ d // 32 }}u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> inputs: {{ weights.inputs_type(precision, d // 32, max_rows) }};
@group(0) @binding(2) var<storage, read> input_scales: {{ weights.input_scales_type(d // 32, max_rows) }};
@group(0) @binding(3) var<storage, read> weights: {{ weights.weights_type(form, d // 32, matrix_tiles) }};
@group(0) @binding(4) var<storage, read> scales: {{ weights.scales_type(form, d // 32, matrix_tiles) }};
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;

{{ weights.functions(half_products) }}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.y * {{ tokens }}u;
{%- for t in range(tokens) %}
    let row{{ t }} = step.row[min(first + {{ t }}u, step.head_rows - 1u)].head_row;
{%- endfor %}
{%- for r in range(tiles) %}
    let tile{{ r }} = group.x * {{ tiles }}u + {{ r }}u;
    {%- for t in range(tokens) %}
    var sum_w{{ r }}_{{ t }} = 0.0;
    {%- endfor %}
{%- endfor %}
    for (var block = 0u; block < BLOCKS; block++) {
{%- for r in range(tiles) %}
{{- weights.load("w" ~ r ~ "_", form, "min(tile" ~ r ~ ", " ~ (matrix_tiles - 1) ~ "u)") }}
{%- endfor %}
{{- weights.accumulate(row_names, form, precision, tokens, unpacked) }}
    }
{%- for r in range(tiles) %}
    {
        let entry = tile{{ r }} * 64u + lane;
    {%- for t in range(tokens) %}
        if (entry < VOCAB && first + {{ t }}u < step.head_rows) {
            logits[(first + {{ t }}u) * VOCAB + entry] = sum_w{{ r }}_{{ t }};
        }
    {%- endfor %}
    }
{%- endfor %}
}
