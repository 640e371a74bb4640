// The q, k and v projections of one block with their rotation; k and v go straight into the cache.
//
//   inputs          [rows, d] activations in blocks (see weights.wgsl)
//   weights, scales q, k and v stacked, rows reordered into pairs that rotate together: tile 2t holds the
//                   first, tile 2t+1 the second members of pairs 64t..64t+63{% if bias %}; after the scales: the biases, pair by pair{% endif %}
//   rotations       [context, head_dim / 2] (cos, sin)
//   queries         [rows, heads · head_dim] f32, rotated, written
//   keys            [sequences, kv_heads, head_dim / 4, context] vec4 as f32, rotated, written{% if half_cache %}; as halves, [.., head_dim / 8, context] vec4 of words (see attend.wgsl){% endif %}
//   values          [sequences, kv_heads, context, head_dim] f32, written{% if half_cache %}; as halves, [.., context, head_dim / 2] words{% endif %}
//
// One invocation {{ tiles }} pair{{ "s, 64 apart," if tiles > 1 }} and {{ tokens }} row{{ "s" if tokens > 1 }} of the batch; workgroups of {{ tiles }} × 64 pairs along x, rows along y.
{% import "weights.wgsl" as weights %}
{{ weights.directives(half_products) }}
{% include "step.wgsl" %}
const BLOCKS: u32 = {{ d // 32 }}u;
const HEADS: u32 = {{ heads }}u;
const KV_HEADS: u32 = {{ kv_heads }}u;
const HEAD_DIM: u32 = {{ head_dim }}u;
const HALF: u32 = {{ head_dim // 2 }}u;
const PAIR_TILES: u32 = {{ matrix_tiles // 2 }}u;
const CONTEXT: u32 = {{ context }}u;
const BIAS: u32 = {{ bias_at }}u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> inputs: {{ weights.inputs_type(precision, d // 32, max_rows) }};
@group(0) @binding(2) var<storage, read> input_scales: {{ weights.input_scales_type(d // 32, max_rows) }};
@group(0) @binding(3) var<storage, read> weights: {{ weights.weights_type(form, d // 32, matrix_tiles) }};
@group(0) @binding(4) var<storage, read> scales: {% if bias %}array<u32>{% else %}{{ weights.scales_type(form, d // 32, matrix_tiles) }}{% endif %};
@group(0) @binding(5) var<storage, read> rotations: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> queries: array<f32>;
@group(0) @binding(7) var<storage, read_write> keys: array<{{ "u32" if half_cache else "f32" }}>;
@group(0) @binding(8) var<storage, read_write> values: array<{{ "u32" if half_cache else "f32" }}>;
{{ weights.staging(precision, tokens, staged) }}

{{ weights.functions(half_products) }}

{%- if half_cache %}

// As a half, to the nearest (ties to even) on every adapter, and never infinite; WGSL leaves the rounding to the adapter.
fn rounded(x: f32) -> f32 {
    let bits = bitcast<u32>(clamp(x, -65504.0, 65504.0));
    return bitcast<f32>((bits + 0x0fffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

fn halves(first: f32, second: f32) -> u32 {
    return pack2x16float(vec2<f32>(rounded(first), rounded(second)));
}
{%- endif %}

fn store(index: u32, pair: u32, first: f32, second: f32) {
    let sequence = step.row[index].sequence;
    let position = step.row[index].position;
    let within = pair % HALF;
    let head = pair / HALF;
    if (head >= HEADS + KV_HEADS) {
        let kv_head = head - HEADS - KV_HEADS;
{%- if half_cache %}
        values[((sequence * KV_HEADS + kv_head) * CONTEXT + position) * HALF + within] = halves(first, second);
{%- else %}
        let at = ((sequence * KV_HEADS + kv_head) * CONTEXT + position) * HEAD_DIM + within;
        values[at] = first;
        values[at + HALF] = second;
{%- endif %}
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
{%- if half_cache %}
    let base = (sequence * KV_HEADS + head - HEADS) * (HEAD_DIM / 8u);
    keys[((base + within / 4u) * CONTEXT + position) * 4u + within % 4u] = halves(a, b);
{%- else %}
    let base = (sequence * KV_HEADS + head - HEADS) * (HEAD_DIM / 4u);
    let far = within + HALF;
    keys[((base + within / 4u) * CONTEXT + position) * 4u + within % 4u] = a;
    keys[((base + far / 4u) * CONTEXT + position) * 4u + far % 4u] = b;
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
    var sum_a{{ r }}_{{ t }} = 0.0;
    var sum_b{{ r }}_{{ t }} = 0.0;
    {%- endfor %}
{%- endfor %}
{%- call weights.over_blocks(precision, tokens, staged) %}
{%- for r in range(tiles) %}
{{- weights.load("a" ~ r ~ "_", form, "(min(tile" ~ r ~ ", PAIR_TILES - 1u) * 2u)") }}
{{- weights.load("b" ~ r ~ "_", form, "(min(tile" ~ r ~ ", PAIR_TILES - 1u) * 2u + 1u)") }}
{%- endfor %}
{{- weights.accumulate(row_names, form, precision, tokens, unpacked, staged=staged) }}
{%- endcall %}
{%- for r in range(tiles) %}
    {
        let pair = tile{{ r }} * 64u + lane;
        if (pair < (HEADS + 2u * KV_HEADS) * HALF) {
    {%- if bias %}
            let bias_a = bitcast<f32>(scales[BIAS + pair * 2u]);
            let bias_b = bitcast<f32>(scales[BIAS + pair * 2u + 1u]);
    {%- endif %}
    {%- for t in range(tokens) %}
            if (first_row + {{ t }}u < step.rows) {
                store(row{{ t }}, pair, sum_a{{ r }}_{{ t }}{{ " + bias_a" if bias }}, sum_b{{ r }}_{{ t }}{{ " + bias_b" if bias }});
            }
    {%- endfor %}
        }
    }
{%- endfor %}
}
