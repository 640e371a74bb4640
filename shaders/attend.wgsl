{#-
Attention of `together` heads that share keys and values over some of their sequence's cache, for `attention.wgsl` and
`attention_output.wgsl`.

The kernel binds `queries`, `keys` and `values` as in `attention.wgsl` and knows HEADS. A lane is a key while scores are made, and
four or eight dimensions of every SUBSETS-th key while values are summed; a key or value that was loaded serves every head. Keys
come in chunks of CHUNK, with a running softmax over them: few barriers and few loads, since a software adapter pays for each.

A cache of halves has pairs of dimensions i (low) and i + head_dim / 2 (high) in a word, as `project_qkv.wgsl` makes them together.
-#}
{%- macro types() -%}
    array<vec4<{{ "u32" if half_cache else "f32" }}>>
{%- endmacro %}

{%- macro declarations() %}
const KV_HEADS: u32 = {{ kv_heads }}u;
const HEAD_DIM: u32 = {{ head_dim }}u;
const QUARTER: u32 = {{ head_dim // 4 }}u;
// Heads of a workgroup, and workgroups that a row's heads take.
const TOGETHER: u32 = {{ together }}u;
const GROUPS: u32 = {{ heads // together }}u;
// Vectors of a key or value.
const VECTORS: u32 = {{ head_dim // (8 if half_cache else 4) }}u;
const SUBSETS: u32 = {{ 64 // (head_dim // (8 if half_cache else 4)) }}u;
const CONTEXT: u32 = {{ context }}u;
const SCALE: f32 = {{ attention_scale }};
const CHUNK: u32 = {{ chunk }}u;
const LOWEST: f32 = -3.0e38;

var<workgroup> scores: array<f32, {{ together * chunk }}>;
var<workgroup> lane_numbers: array<f32, {{ together * 64 }}>;
var<workgroup> lane_sums: array<vec4<f32>, {{ together * 64 * (2 if half_cache else 1) }}>;
// Head by head.
var<workgroup> result: array<f32, {{ together * head_dim }}>;
{%- if half_cache %}

fn low_halves(words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x).x, unpack2x16float(words.y).x, unpack2x16float(words.z).x, unpack2x16float(words.w).x);
}

fn high_halves(words: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x).y, unpack2x16float(words.y).y, unpack2x16float(words.z).y, unpack2x16float(words.w).y);
}
{%- endif %}
{%- endmacro %}

{#- Leaves in `result` each head's weighted mean of the values over the keys `first` .. `end`, and declares `largest{g}` and `total{g}`
    of the g-th: the largest score and the sum of exp(score − largest). Needs `lane`, `first_head`, `index` (the row) and `cache` (the
    sequence's key/value head). -#}
{%- macro over(first, end) %}
    {%- set halves = 2 if half_cache else 1 %}
    let query = (index * HEADS + first_head) * QUARTER;
{%- for g in range(together) %}
    var largest{{ g }} = LOWEST;
    var own_total{{ g }} = 0.0;
    {%- for h in range(halves) %}
    var sum{{ g }}_{{ h }} = vec4<f32>(0.0);
    {%- endfor %}
{%- endfor %}
    for (var start = {{ first }}; start < {{ end }}; start += CHUNK) {
        let here = min(CHUNK, {{ end }} - start);
{%- for g in range(together) %}
        var own{{ g }} = LOWEST;
{%- endfor %}
        for (var at = 0u; at < here; at += 128u) {
            let near = start + min(at + lane, here - 1u);
            let far = start + min(at + lane + 64u, here - 1u);
{%- for g in range(together) %}
            var near_product{{ g }} = 0.0;
            var far_product{{ g }} = 0.0;
{%- endfor %}
            for (var i = 0u; i < VECTORS; i++) {
                let key = (cache * VECTORS + i) * CONTEXT;
                let near_key = keys[key + near];
                let far_key = keys[key + far];
{%- if half_cache %}
                let near_low = low_halves(near_key);
                let near_high = high_halves(near_key);
                let far_low = low_halves(far_key);
                let far_high = high_halves(far_key);
    {%- for g in range(together) %}
                {
                    let low = queries[query + {{ g }}u * QUARTER + i];
                    let high = queries[query + {{ g }}u * QUARTER + VECTORS + i];
                    near_product{{ g }} += dot(low, near_low) + dot(high, near_high);
                    far_product{{ g }} += dot(low, far_low) + dot(high, far_high);
                }
    {%- endfor %}
{%- else %}
    {%- for g in range(together) %}
                {
                    let q = queries[query + {{ g }}u * QUARTER + i];
                    near_product{{ g }} += dot(q, near_key);
                    far_product{{ g }} += dot(q, far_key);
                }
    {%- endfor %}
{%- endif %}
            }
{%- for g in range(together) %}
            scores[{{ g }}u * CHUNK + at + lane] = near_product{{ g }} * SCALE;
            scores[{{ g }}u * CHUNK + at + lane + 64u] = far_product{{ g }} * SCALE;
            own{{ g }} = max(own{{ g }}, max(near_product{{ g }}, far_product{{ g }}) * SCALE);
{%- endfor %}
        }
{%- for g in range(together) %}
        lane_numbers[{{ g * 64 }}u + lane] = own{{ g }};
{%- endfor %}
        workgroupBarrier();
{%- for g in range(together) %}
        var chunk_largest{{ g }} = largest{{ g }};
{%- endfor %}
        for (var i = 0u; i < min(here, 64u); i++) {
{%- for g in range(together) %}
            chunk_largest{{ g }} = max(chunk_largest{{ g }}, lane_numbers[{{ g * 64 }}u + i]);
{%- endfor %}
        }
{%- for g in range(together) %}
        let shrink{{ g }} = exp(largest{{ g }} - chunk_largest{{ g }});
        largest{{ g }} = chunk_largest{{ g }};
        own_total{{ g }} *= shrink{{ g }};
{%- endfor %}
        for (var at = lane; at < here; at += 64u) {
{%- for g in range(together) %}
            let weight{{ g }} = exp(scores[{{ g }}u * CHUNK + at] - largest{{ g }});
            own_total{{ g }} += weight{{ g }};
            scores[{{ g }}u * CHUNK + at] = weight{{ g }};
{%- endfor %}
        }
        workgroupBarrier();
{%- for g in range(together) %}
    {%- for h in range(halves) %}
        sum{{ g }}_{{ h }} *= shrink{{ g }};
    {%- endfor %}
{%- endfor %}
        if (lane < VECTORS * SUBSETS) {
            for (var i = lane / VECTORS; i < here; i += SUBSETS) {
                let value = values[(cache * CONTEXT + start + i) * VECTORS + lane % VECTORS];
{%- if half_cache %}
                let low = low_halves(value);
                let high = high_halves(value);
{%- endif %}
{%- for g in range(together) %}
    {%- if half_cache %}
                let weight{{ g }} = scores[{{ g }}u * CHUNK + i];
                sum{{ g }}_0 += weight{{ g }} * low;
                sum{{ g }}_1 += weight{{ g }} * high;
    {%- else %}
                sum{{ g }}_0 += scores[{{ g }}u * CHUNK + i] * value;
    {%- endif %}
{%- endfor %}
            }
        }
        workgroupBarrier();
    }
{%- for g in range(together) %}
    lane_numbers[{{ g * 64 }}u + lane] = own_total{{ g }};
    {%- for h in range(halves) %}
    lane_sums[{{ (g * halves + h) * 64 }}u + lane] = sum{{ g }}_{{ h }};
    {%- endfor %}
    var total{{ g }} = 0.0;
{%- endfor %}
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) {
{%- for g in range(together) %}
        total{{ g }} += lane_numbers[{{ g * 64 }}u + i];
{%- endfor %}
    }
    for (var dimension = lane; dimension < HEAD_DIM; dimension += 64u) {
        let half = dimension / (VECTORS * 4u);
        let within = dimension % (VECTORS * 4u);
{%- for g in range(together) %}
        {
            var value = 0.0;
            for (var subset = 0u; subset < SUBSETS; subset++) {
                value += lane_sums[({{ g * halves }}u + half) * 64u + subset * VECTORS + within / 4u][within % 4u];
            }
            result[{{ g * head_dim }}u + dimension] = value / total{{ g }};
        }
{%- endfor %}
    }
    workgroupBarrier();
{%- endmacro %}
