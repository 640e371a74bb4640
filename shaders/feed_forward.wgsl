// The whole feed-forward part, for a batch of few rows: down · (activation(gate · x) × (up · x)), x the normalised residual.
// Its hidden values meet only the down matrix's columns of their own, so each workgroup makes some of them and leaves one part
// of the sum behind (see parts.wgsl). The norm's scale multiplies results, not inputs, which therefore need not wait for it.
//
//   residual                [rows, d] f32, unchanged; behind it the parts of attention, read, and of this, written
//   gain                    [d] f32, of the norm before
//   weights, scales         gate and up stacked: tile 2t holds rows 64t..64t+63 of gate, tile 2t+1 the same of up
//   down, down_scales       [d, ffn] in tiles (see weights.wgsl)
//
// Workgroups of {{ lanes }} along x, one for {{ tiles }} tile{{ "s" if tiles > 1 }} of gate and as many of up; batch rows in {{ tokens }}s along y. A lane is a pair of matrix rows of
// gate and up in each strip of them (see weights.wgsl), then a matrix row of every strip of down.
{% import "parts.wgsl" as residual_parts %}
{% import "weights.wgsl" as weights %}
{% import "outputs.wgsl" as outputs %}
{{ weights.directives(half_products) }}
{% include "step.wgsl" %}
const D: u32 = {{ d }}u;
{{ residual_parts.declarations() }}
const FFN: u32 = {{ ffn }}u;
const BLOCKS: u32 = {{ d // 32 }}u;
{%- set tile_strips = 64 // lanes %}
// Pairs of strips, all and of a workgroup; strips of down.
const PAIR_STRIPS: u32 = {{ matrix_tiles // 2 * tile_strips }}u;
const OWN_STRIPS: u32 = {{ tiles * tile_strips }}u;
const DOWN_STRIPS: u32 = {{ (d + 63) // 64 * tile_strips }}u;
const DOWN_BLOCKS: u32 = {{ ffn // 32 }}u;
// Blocks of hidden values that a workgroup makes.
const OWN_BLOCKS: u32 = {{ tiles * 2 }}u;
const EPSILON: f32 = {{ epsilon }};
const TOKENS: u32 = {{ tokens }}u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read_write> residual: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> weights: {{ weights.weights_type(form, d // 32, matrix_tiles) }};
@group(0) @binding(4) var<storage, read> scales: {{ weights.scales_type(form, d // 32, matrix_tiles) }};
@group(0) @binding(5) var<storage, read> down: {{ weights.weights_type(down_form, ffn // 32, (d + 63) // 64) }};
@group(0) @binding(6) var<storage, read> down_scales: {{ weights.scales_type(down_form, ffn // 32, (d + 63) // 64) }};

{%- set block_words = 2 if precision == "fast" else 8 %}
// The residual times the gain, then the hidden values.
var<workgroup> numbers: array<f32, {{ tokens * [d, tiles * 64] | max }}>;
var<workgroup> squares: array<f32, {{ tokens * lanes }}>;
var<workgroup> norms: array<f32, {{ tokens }}>;
// Of either, in blocks.
var<workgroup> own_inputs: array<vec4<u32>, {{ tokens * block_words * [d // 32, tiles * 2] | max }}>;
var<workgroup> own_input_scales: array<vec4<f32>, {{ 2 * tokens * [d // 32, tiles * 2] | max }}>;
{{ residual_parts.reading(tokens) }}

{{ weights.functions(half_products) }}

fn activate(x: f32) -> f32 {
{%- if activation == "silu" %}
    return x / (1.0 + exp(-x));
{%- else %}
    // tanh overflows on some adapters beyond this.
    let inner = clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -20.0, 20.0);
    return 0.5 * x * (1.0 + tanh(inner));
{%- endif %}
}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TOKENS;
    var any_splits = false;
{%- for t in range(tokens) %}
    let source{{ t }} = min(first_row + {{ t }}u, step.rows - 1u);
    let splits{{ t }} = splits_at(step.row[source{{ t }}].position);
    any_splits = any_splits || splits{{ t }} > 1u;
{%- endfor %}
    if (any_splits) {
{%- for t in range(tokens) %}
        weigh_splits(lane, {{ t }}u, source{{ t }}, splits{{ t }});
{%- endfor %}
        workgroupBarrier();
    }
{%- for t in range(tokens) %}
    {
        var square = 0.0;
        for (var first = lane; first < D; first += {{ columns * lanes }}u) {
{{- residual_parts.columns_of(t ~ "u", "source" ~ t, "splits" ~ t, columns, false) }}
    {%- for c in range(columns) %}
            {% if d % (lanes * columns) != 0 %}if (first + {{ c * lanes }}u < D) {% endif %}{
                numbers[{{ t }}u * D + column{{ c }}] = value{{ c }} * gain[column{{ c }}];
                square += value{{ c }} * value{{ c }};
            }
    {%- endfor %}
        }
        squares[{{ t * lanes }}u + lane] = square;
    }
{%- endfor %}
    workgroupBarrier();
    for (var block = lane; block < TOKENS * BLOCKS; block += {{ lanes }}u) {
{{ outputs.write_block(precision, "numbers", "block * 32u", "block", "own_inputs") }}
    }
    if (lane < TOKENS) {
        var total = 0.0;
        for (var i = 0u; i < {{ lanes }}u; i++) {
            total += squares[lane * {{ lanes }}u + i];
        }
        norms[lane] = inverseSqrt(total / f32(D) + EPSILON);
    }
    workgroupBarrier();
{%- for t in range(tokens) %}
    let row{{ t }} = {{ t }}u;
{%- endfor %}
    // Numbers were last read before the barrier above; blocks are still being read by slower lanes.
    for (var strip = 0u; strip < OWN_STRIPS; strip += {{ strips }}u) {
{%- for r in range(strips) %}
{{- weights.place("pair" ~ r, "min(group.x * OWN_STRIPS + strip + " ~ r ~ "u, PAIR_STRIPS - 1u)") }}
    {%- for t in range(tokens) %}
        var sum_gate{{ r }}_{{ t }} = 0.0;
        var sum_up{{ r }}_{{ t }} = 0.0;
    {%- endfor %}
{%- endfor %}
        for (var block = 0u; block < BLOCKS; block++) {
{%- for r in range(strips) %}
{{- weights.load("gate" ~ r ~ "_", form, "(pair" ~ r ~ "_tile * 2u)", row="pair" ~ r ~ "_row") }}
{{- weights.load("up" ~ r ~ "_", form, "(pair" ~ r ~ "_tile * 2u + 1u)", row="pair" ~ r ~ "_row") }}
{%- endfor %}
{{- weights.accumulate(row_names, form, precision, tokens, unpacked, inputs="own_inputs") }}
        }
{%- for t in range(tokens) %}
        let norm{{ t }} = norms[{{ t }}];
    {%- for r in range(strips) %}
        if (strip + {{ r }}u < OWN_STRIPS) {
            numbers[{{ t }}u * OWN_BLOCKS * 32u + (strip + {{ r }}u) * {{ lanes }}u + lane] = activate(sum_gate{{ r }}_{{ t }} * norm{{ t }}) * (sum_up{{ r }}_{{ t }} * norm{{ t }});
        }
    {%- endfor %}
{%- endfor %}
    }
    workgroupBarrier();
    for (var block = lane; block < TOKENS * OWN_BLOCKS; block += {{ lanes }}u) {
{{ outputs.write_block(precision, "numbers", "block * 32u", "block", "own_inputs") }}
    }
    workgroupBarrier();
    let first_block = group.x * OWN_BLOCKS;
    let blocks = min(OWN_BLOCKS, DOWN_BLOCKS - min(first_block, DOWN_BLOCKS));
    for (var strip = 0u; strip < DOWN_STRIPS; strip += {{ down_strips }}u) {
{%- for name in down_names %}
{{- weights.place("down" ~ loop.index0, "min(strip + " ~ loop.index0 ~ "u, DOWN_STRIPS - 1u)") }}
    {%- for t in range(tokens) %}
        var sum_{{ name }}{{ t }} = 0.0;
    {%- endfor %}
{%- endfor %}
        for (var block = 0u; block < blocks; block++) {
{%- for name in down_names %}
    {%- set own = "down" ~ loop.index0 %}
{{- weights.load(name, down_form, own ~ "_tile", "(first_block + block)", "DOWN_BLOCKS", "down", "down_scales", own ~ "_row") }}
{%- endfor %}
{{- weights.accumulate(down_names, down_form, precision, tokens, unpacked, stride="OWN_BLOCKS", inputs="own_inputs") }}
        }
{%- for name in down_names %}
        {
            let column = (strip + {{ loop.index0 }}u) * {{ lanes }}u + lane;
    {%- for t in range(tokens) %}
            if (column < D && first_row + {{ t }}u < step.rows) {
                residual[PARTS_AT + (source{{ t }} * PARTS + FEED_FORWARD + group.x) * D + column] = sum_{{ name }}{{ t }};
            }
    {%- endfor %}
        }
{%- endfor %}
    }
}
