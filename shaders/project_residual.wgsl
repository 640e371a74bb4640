// A projection added to the residual stream: the attention's output (o) or the feed-forward part's (down){% if norm %},
// followed by the gain of the next norm. The norm's own scale needs the whole row, so each workgroup leaves
// its sum of squares behind and the next projection divides (a norm commutes with a projection){% endif %}.
//
//   inputs          [rows, cols] activations in blocks (see weights.wgsl)
//   weights, scales [d, cols] in tiles
//   residual        [rows, d] f32, added to
{%- if norm %}
//   gain            [d] f32
//   outputs         [rows, d] activations in blocks: residual · gain, not yet divided by the norm
//   output_scales   the blocks' scales; after them [rows, tiles] (sum of squares, 0)
{%- endif %}
//
// One invocation {{ tiles }} matrix row{{ "s, 64 apart," if tiles > 1 }} and {{ tokens }} row{{ "s" if tokens > 1 }} of the batch; workgroups of {{ tiles }} tile{{ "s" if tiles > 1 }} of 64 matrix rows along x, batch rows along y.
{% import "weights.wgsl" as weights %}
{% import "outputs.wgsl" as outputs %}
{{ weights.directives(half_products) }}
{% include "step.wgsl" %}
const D: u32 = {{ d }}u;
const BLOCKS: u32 = {{ cols // 32 }}u;
const TILES: u32 = {{ (d + 63) // 64 }}u;
const SQUARES: u32 = {{ 2 * max_rows * (d // 32) }}u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> inputs: {{ weights.inputs_type(precision, cols // 32, max_rows) }};
@group(0) @binding(2) var<storage, read> input_scales: {{ weights.input_scales_type(cols // 32, max_rows) }};
@group(0) @binding(3) var<storage, read> weights: {{ weights.weights_type(form, cols // 32, matrix_tiles) }};
@group(0) @binding(4) var<storage, read> scales: {{ weights.scales_type(form, cols // 32, matrix_tiles) }};
@group(0) @binding(5) var<storage, read_write> residual: array<f32>;
{%- if norm %}
@group(0) @binding(6) var<storage, read> gain: array<f32>;
@group(0) @binding(7) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> output_scales: array<vec4<f32>>;

var<workgroup> gained: array<f32, {{ tokens * 64 }}>;
var<workgroup> squares: array<f32, {{ tokens * 64 }}>;
{%- endif %}
{{ weights.staging(precision, tokens, staged) }}

{{ weights.functions(half_products) }}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * {{ tokens }}u;
{%- for t in range(tokens) %}
    let row{{ t }} = min(first_row + {{ t }}u, step.rows - 1u);
{%- endfor %}
{%- for r in range(tiles) %}
    let tile{{ r }} = group.x * {{ tiles }}u + {{ r }}u;
    {%- for t in range(tokens) %}
    var sum_w{{ r }}_{{ t }} = 0.0;
    {%- endfor %}
{%- endfor %}
{%- call weights.over_blocks(precision, tokens, staged) %}
{%- for r in range(tiles) %}
{{- weights.load("w" ~ r ~ "_", form, "min(tile" ~ r ~ ", TILES - 1u)") }}
{%- endfor %}
{{- weights.accumulate(row_names, form, precision, tokens, unpacked, staged=staged) }}
{%- endcall %}
{%- for r in range(tiles) %}
    {%- for t in range(tokens) %}
    {
        let column = tile{{ r }} * 64u + lane;
        var value = 0.0;
        if (column < D && first_row + {{ t }}u < step.rows) {
            value = residual[row{{ t }} * D + column] + sum_w{{ r }}_{{ t }};
            residual[row{{ t }} * D + column] = value;
        }
    {%- if norm %}
        gained[{{ t * 64 }}u + lane] = value * gain[min(column, D - 1u)];
        squares[{{ t * 64 }}u + lane] = value * value;
    {%- endif %}
    }
    {%- endfor %}
    {%- if norm %}
    workgroupBarrier();
    // Lane 2t+i writes half i of row t.
    if (lane < {{ tokens * 2 }}u) {
        let row = first_row + lane / 2u;
        let half = lane % 2u;
        if (row < step.rows && tile{{ r }} * 64u + half * 32u < D) {
{{ outputs.write_block(precision, "gained", "lane * 32u", "row * (D / 32u) + tile" ~ r ~ " * 2u + half") }}
            if (half == 0u) {
                var total = 0.0;
                for (var i = 0u; i < 64u; i++) {
                    total += squares[(lane / 2u) * 64u + i];
                }
                output_scales[SQUARES + row * TILES + tile{{ r }}] = vec4<f32>(total, 0.0, 0.0, 0.0);
            }
        }
    }
        {%- if not loop.last %}
    workgroupBarrier();
        {%- endif %}
    {%- endif %}
{%- endfor %}
}
