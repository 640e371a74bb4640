// The gated feed-forward part: activation(gate · x) × (up · x).
//
//   inputs          [rows, d] activations in blocks (see weights.wgsl), not yet divided by the norm
//   input_scales    the blocks' scales; after them [rows, d / 64] (sum of squares, 0), from which the norm's scale
//   weights, scales gate and up stacked: tile 2t holds rows 64t..64t+63 of gate, tile 2t+1 the same of up
//   outputs         [rows, ffn] activations in blocks, written
//
// One invocation {{ tiles }} pair{{ "s" if tiles > 1 }} of matrix rows and {{ tokens }} row{{ "s" if tokens > 1 }} of the batch; workgroups of {{ tiles }} × 64 pairs along x, batch rows along y.
{% import "weights.wgsl" as weights %}
{% import "outputs.wgsl" as outputs %}
{{ weights.directives(half_products) }}
{% include "step.wgsl" %}
const D: u32 = {{ d }}u;
const FFN: u32 = {{ ffn }}u;
const BLOCKS: u32 = {{ d // 32 }}u;
const TILES: u32 = {{ (d + 63) // 64 }}u;
const SQUARES: u32 = {{ 2 * max_rows * (d // 32) }}u;
const PAIR_TILES: u32 = {{ matrix_tiles // 2 }}u;
const EPSILON: f32 = {{ epsilon }};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> inputs: {{ weights.inputs_type(precision, d // 32, max_rows) }};
@group(0) @binding(2) var<storage, read> input_scales: {{ weights.input_scales_type(d // 32, max_rows, max_rows * ((d + 63) // 64)) }};
@group(0) @binding(3) var<storage, read> weights: {{ weights.weights_type(form, d // 32, matrix_tiles) }};
@group(0) @binding(4) var<storage, read> scales: {{ weights.scales_type(form, d // 32, matrix_tiles) }};
@group(0) @binding(5) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> output_scales: array<vec4<f32>>;

var<workgroup> gated: array<f32, {{ tokens * 64 }}>;
{{ weights.staging(precision, tokens, staged) }}

{{ weights.functions(half_products) }}

fn norm_scale(row: u32) -> f32 {
    var total = 0.0;
    for (var tile = 0u; tile < TILES; tile++) {
        total += input_scales[SQUARES + row * TILES + tile].x;
    }
    return inverseSqrt(total / f32(D) + EPSILON);
}

fn activate(x: f32) -> f32 {
{%- if activation == "silu" %}
    return x / (1.0 + exp(-x));
{%- else %}
    // tanh overflows on some adapters beyond this.
    let inner = clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -20.0, 20.0);
    return 0.5 * x * (1.0 + tanh(inner));
{%- endif %}
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * {{ tokens }}u;
{%- for t in range(tokens) %}
    let row{{ t }} = min(first_row + {{ t }}u, step.rows - 1u);
{%- endfor %}
{%- for r in range(tiles) %}
    let tile{{ r }} = group.x * {{ tiles }}u + {{ r }}u;
    {%- for t in range(tokens) %}
    var sum_gate{{ r }}_{{ t }} = 0.0;
    var sum_up{{ r }}_{{ t }} = 0.0;
    {%- endfor %}
{%- endfor %}
{%- call weights.over_blocks(precision, tokens, staged) %}
{%- for r in range(tiles) %}
{{- weights.load("gate" ~ r ~ "_", form, "(min(tile" ~ r ~ ", PAIR_TILES - 1u) * 2u)") }}
{{- weights.load("up" ~ r ~ "_", form, "(min(tile" ~ r ~ ", PAIR_TILES - 1u) * 2u + 1u)") }}
{%- endfor %}
{{- weights.accumulate(row_names, form, precision, tokens, unpacked, staged=staged) }}
{%- endcall %}
{%- for t in range(tokens) %}
    let scale{{ t }} = norm_scale(row{{ t }});
{%- endfor %}
{%- for r in range(tiles) %}
    {%- for t in range(tokens) %}
    gated[{{ t * 64 }}u + lane] = activate(sum_gate{{ r }}_{{ t }} * scale{{ t }}) * (sum_up{{ r }}_{{ t }} * scale{{ t }});
    {%- endfor %}
    workgroupBarrier();
    // Lane 2t+i writes half i of row t.
    if (lane < {{ tokens * 2 }}u) {
        let row = first_row + lane / 2u;
        let half = lane % 2u;
        if (row < step.rows && tile{{ r }} * 64u + half * 32u < FFN) {
{{ outputs.write_block(precision, "gated", "lane * 32u", "row * (FFN / 32u) + tile" ~ r ~ " * 2u + half") }}
        }
    }
    {%- if not loop.last %}
    workgroupBarrier();
    {%- endif %}
{%- endfor %}
}
