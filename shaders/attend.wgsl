{#-
Attention of `together` heads that share keys and values over some of their sequence's cache, for `attention.wgsl` and
`attention_output.wgsl`.

The kernel binds `queries`, `keys` and `values` as in `attention.wgsl` and knows HEADS. A lane is a few keys while scores are made, and
four or eight dimensions of every SUBSETS-th key while values are summed; a key or value that was loaded serves every head, a query
every key of its lane. Keys come in chunks of CHUNK, with a running softmax over them: few barriers and few loads, since a software
adapter pays for each.

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
const SUBSETS: u32 = {{ [lanes // (head_dim // (8 if half_cache else 4)), 1] | max }}u;
const CONTEXT: u32 = {{ context }}u;
const SCALE: f32 = {{ attention_scale }};
const CHUNK: u32 = {{ chunk }}u;
const LOWEST: f32 = -3.0e38;

var<workgroup> scores: array<f32, {{ together * chunk }}>;
var<workgroup> lane_numbers: array<f32, {{ together * lanes }}>;
var<workgroup> lane_sums: array<vec4<f32>, {{ together * lanes * (2 if half_cache else 1) }}>;
// Head by head.
var<workgroup> result: array<f32, {{ together * head_dim }}>;
{%- endmacro %}

{#- Declares `low` ~ name and `high` ~ name, the dimensions of `words`. -#}
{%- macro halves(name, words) %}
    {%- for c in "xyzw" %}
                let {{ c }}{{ name }} = unpack2x16float({{ words }}.{{ c }});
    {%- endfor %}
                let low{{ name }} = vec4<f32>(x{{ name }}.x, y{{ name }}.x, z{{ name }}.x, w{{ name }}.x);
                let high{{ name }} = vec4<f32>(x{{ name }}.y, y{{ name }}.y, z{{ name }}.y, w{{ name }}.y);
{%- endmacro %}

{#- Leaves in `result` each head's weighted mean of the values over the keys `first` .. `end`, and declares `largest{g}` and `total{g}`
    of the g-th: the largest score and the sum of exp(score − largest). Needs `lane`, `first_head`, `index` (the row) and `cache` (the
    sequence's key/value head). -#}
{%- macro over(first, end) %}
    {%- set parts_of_word = 2 if half_cache else 1 %}
    let query = (index * HEADS + first_head) * QUARTER;
{%- for g in range(together) %}
    var largest{{ g }} = LOWEST;
    var own_total{{ g }} = 0.0;
    {%- for h in range(parts_of_word) %}
    var sum{{ g }}_{{ h }} = vec4<f32>(0.0);
    {%- endfor %}
{%- endfor %}
    for (var start = {{ first }}; start < {{ end }}; start += CHUNK) {
        let here = min(CHUNK, {{ end }} - start);
{%- for g in range(together) %}
        var own{{ g }} = LOWEST;
{%- endfor %}
        for (var at = 0u; at < here; at += {{ lanes * lane_keys }}u) {
{%- for k in range(lane_keys) %}
            let key{{ k }} = start + min(at + lane + {{ k * lanes }}u, here - 1u);
    {%- for g in range(together) %}
            var product{{ g }}_{{ k }} = 0.0;
    {%- endfor %}
{%- endfor %}
            for (var i = 0u; i < VECTORS; i++) {
                let first_key = (cache * VECTORS + i) * CONTEXT;
{%- for k in range(lane_keys) %}
                let words{{ k }} = keys[first_key + key{{ k }}];
    {%- if half_cache %}{{ halves(k, "words" ~ k) }}{% endif %}
{%- endfor %}
{%- for g in range(together) %}
                {
    {%- if half_cache %}
                    let low = queries[query + {{ g }}u * QUARTER + i];
                    let high = queries[query + {{ g }}u * QUARTER + VECTORS + i];
        {%- for k in range(lane_keys) %}
                    product{{ g }}_{{ k }} += dot(low, low{{ k }}) + dot(high, high{{ k }});
        {%- endfor %}
    {%- else %}
                    let q = queries[query + {{ g }}u * QUARTER + i];
        {%- for k in range(lane_keys) %}
                    product{{ g }}_{{ k }} += dot(q, words{{ k }});
        {%- endfor %}
    {%- endif %}
                }
{%- endfor %}
            }
{%- for g in range(together) %}
    {%- for k in range(lane_keys) %}
            let score{{ g }}_{{ k }} = product{{ g }}_{{ k }} * SCALE;
            scores[{{ g }}u * CHUNK + at + lane + {{ k * lanes }}u] = score{{ g }}_{{ k }};
            own{{ g }} = max(own{{ g }}, score{{ g }}_{{ k }});
    {%- endfor %}
{%- endfor %}
        }
{%- for g in range(together) %}
        lane_numbers[{{ g * lanes }}u + lane] = own{{ g }};
{%- endfor %}
        workgroupBarrier();
{%- for g in range(together) %}
        var chunk_largest{{ g }} = largest{{ g }};
{%- endfor %}
        for (var i = 0u; i < min(here, {{ lanes }}u); i++) {
{%- for g in range(together) %}
            chunk_largest{{ g }} = max(chunk_largest{{ g }}, lane_numbers[{{ g * lanes }}u + i]);
{%- endfor %}
        }
{%- for g in range(together) %}
        let shrink{{ g }} = exp(largest{{ g }} - chunk_largest{{ g }});
        largest{{ g }} = chunk_largest{{ g }};
        own_total{{ g }} *= shrink{{ g }};
{%- endfor %}
        for (var at = lane; at < here; at += {{ lanes }}u) {
{%- for g in range(together) %}
            let weight{{ g }} = exp(scores[{{ g }}u * CHUNK + at] - largest{{ g }});
            own_total{{ g }} += weight{{ g }};
            scores[{{ g }}u * CHUNK + at] = weight{{ g }};
{%- endfor %}
        }
        workgroupBarrier();
{%- for g in range(together) %}
    {%- for h in range(parts_of_word) %}
        sum{{ g }}_{{ h }} *= shrink{{ g }};
    {%- endfor %}
{%- endfor %}
        if (lane < VECTORS * SUBSETS) {
            for (var i = lane / VECTORS; i < here; i += SUBSETS) {
                let value = values[(cache * CONTEXT + start + i) * VECTORS + lane % VECTORS];
{%- if half_cache %}{{ halves("_half", "value") }}{% endif %}
{%- for g in range(together) %}
    {%- if half_cache %}
                let weight{{ g }} = scores[{{ g }}u * CHUNK + i];
                sum{{ g }}_0 += weight{{ g }} * low_half;
                sum{{ g }}_1 += weight{{ g }} * high_half;
    {%- else %}
                sum{{ g }}_0 += scores[{{ g }}u * CHUNK + i] * value;
    {%- endif %}
{%- endfor %}
            }
        }
        workgroupBarrier();
    }
{%- for g in range(together) %}
    lane_numbers[{{ g * lanes }}u + lane] = own_total{{ g }};
    {%- for h in range(parts_of_word) %}
    lane_sums[{{ (g * parts_of_word + h) * lanes }}u + lane] = sum{{ g }}_{{ h }};
    {%- endfor %}
    var total{{ g }} = 0.0;
{%- endfor %}
    workgroupBarrier();
    for (var i = 0u; i < {{ lanes }}u; i++) {
{%- for g in range(together) %}
        total{{ g }} += lane_numbers[{{ g * lanes }}u + i];
{%- endfor %}
    }
    for (var dimension = lane; dimension < HEAD_DIM; dimension += {{ lanes }}u) {
        let half = dimension / (VECTORS * 4u);
        let within = dimension % (VECTORS * 4u);
{%- for g in range(together) %}
        {
            var value = 0.0;
            for (var subset = 0u; subset < SUBSETS; subset++) {
                value += lane_sums[({{ g * parts_of_word }}u + half) * {{ lanes }}u + subset * VECTORS + within / 4u][within % 4u];
            }
            result[{{ g * head_dim }}u + dimension] = value / total{{ g }};
        }
{%- endfor %}
    }
    workgroupBarrier();
{%- endmacro %}
