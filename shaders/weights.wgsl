{#-
Macros for one block of 32 weights of one matrix row, in each stored form.

A matrix [rows, cols] lies in tiles of 64 rows: tile, block, vec4, lane. Lane i of a workgroup owns row
64 · tile + i, so that neighbouring invocations read neighbouring vec4s.

    q4    1 vec4: byte j holds weight j (low nibble) and weight j + 16 (high nibble)
    q8    2 vec4: signed bytes in order
    f16   4 vec4: halves in order        bf16  4 vec4: likewise        f32  8 vec4

Quantised forms have one u32 a block beside them: f16 scale (low) and f16 minimum (high), w = scale · q + minimum.

Activations have the same blocks: fast ones 2 vec4 of signed bytes, exact ones 8 vec4 of f32; beside
them a vec2 a block: (scale, scale · sum of bytes), for exact ones (1, sum).
-#}
{%- set vec4s = {"q4": 1, "q8": 2, "f16": 4, "bf16": 4, "f32": 8} %}

{#- Declares variables {name}0.. with the block's words, and {name}_scale where the form has one. -#}
{%- macro load(name, form, tile) %}
    {%- for v in range(vec4s[form]) %}
        let {{ name }}{{ v }} = weights[(({{ tile }} * BLOCKS + block) * {{ vec4s[form] }}u + {{ v }}u) * 64u + lane];
    {%- endfor %}
    {%- if form in ["q4", "q8"] %}
        let {{ name }}_scale = unpack2x16float(scales[({{ tile }} * BLOCKS + block) * 64u + lane]);
    {%- endif %}
{%- endmacro %}

{#- Declares {name}0.. with the activations of row `row` in this block, and {name}_scale. -#}
{%- macro load_input(name, precision, row) %}
    {%- set count = 2 if precision == "fast" else 8 %}
            let {{ name }}_at = {{ row }} * BLOCKS + block;
            let {{ name }}_scale = input_scales[{{ name }}_at];
    {%- for v in range(count) %}
            let {{ name }}{{ v }} = {% if precision == "fast" %}inputs{% else %}bitcast<vec4<f32>>(inputs{% endif %}[{{ name }}_at * {{ count }}u + {{ v }}u]{% if precision != "fast" %}){% endif %};
    {%- endfor %}
{%- endmacro %}

{#- The products' sum over the block, an f32 expression. -#}
{%- macro product(w, x, form, precision) -%}
    {%- if precision == "fast" and form == "q4" -%}
        {{ w }}_scale.x * {{ x }}_scale.x * f32(dot_words({{ w }}0 & vec4<u32>(0x0f0f0f0fu), {{ x }}0) + dot_words(({{ w }}0 >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu), {{ x }}1)) + {{ w }}_scale.y * {{ x }}_scale.y
    {%- elif precision == "fast" and form == "q8" -%}
        {{ w }}_scale.x * {{ x }}_scale.x * f32(dot_words({{ w }}0, {{ x }}0) + dot_words({{ w }}1, {{ x }}1))
    {%- elif form == "q4" -%}
        {{ w }}_scale.x * (
            {%- for v in range(4) %}{{ " + " if not loop.first }}dot(low_nibbles({{ w }}0[{{ v }}]), {{ x }}{{ v }}) + dot(low_nibbles({{ w }}0[{{ v }}] >> 4u), {{ x }}{{ v + 4 }}){% endfor -%}
        ) + {{ w }}_scale.y * {{ x }}_scale.y
    {%- elif form == "q8" -%}
        {{ w }}_scale.x * (
            {%- for v in range(8) %}{{ " + " if not loop.first }}dot(signed_bytes({{ w }}{{ v // 4 }}[{{ v % 4 }}]), {{ x }}{{ v }}){% endfor -%}
        )
    {%- elif form in ["f16", "bf16"] -%}
        {%- for v in range(8) %}{{ " + " if not loop.first }}dot({{ form }}_pair({{ w }}{{ v // 2 }}.{{ ["xy", "zw"][v % 2] }}), {{ x }}{{ v }}){% endfor -%}
    {%- else -%}
        {%- for v in range(8) %}{{ " + " if not loop.first }}dot(bitcast<vec4<f32>>({{ w }}{{ v }}), {{ x }}{{ v }}){% endfor -%}
    {%- endif -%}
{%- endmacro %}

{#- The functions that `product` and `element` call. -#}
{%- macro functions() %}
// Sum of the products of sixteen signed bytes.
fn dot_words(a: vec4<u32>, b: vec4<u32>) -> i32 {
{%- if packed_dot %}
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
{%- else %}
    var sum = vec4<i32>(0);
    for (var shift = 0u; shift < 32u; shift += 8u) {
        let left = bitcast<vec4<i32>>(a << vec4<u32>(24u - shift)) >> vec4<u32>(24u);
        let right = bitcast<vec4<i32>>(b << vec4<u32>(24u - shift)) >> vec4<u32>(24u);
        sum += left * right;
    }
    return sum.x + sum.y + sum.z + sum.w;
{%- endif %}
}

fn low_nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u));
}

fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

fn f16_pair(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn bf16_pair(words: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
{%- endmacro %}
