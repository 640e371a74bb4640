{#-
Macros for one block of 32 weights of one matrix row, in each stored form.

A matrix [rows, cols] lies in tiles of 64 rows: tile, block, vec4, lane. Lane i of a workgroup owns row
64 · tile + i, so that neighbouring invocations read neighbouring vec4s. Where a workgroup has fewer lanes, a tile is
several strips of as many rows.

    q4    1 vec4: byte j holds weight j (low nibble) and weight j + 16 (high nibble)
    q8    2 vec4: signed bytes in order
    f16   4 vec4: halves in order        bf16  4 vec4: likewise        f32  8 vec4

Quantised forms have one u32 a block beside them: f16 scale (low) and f16 minimum (high), w = scale · q + minimum.

Activations have the same blocks: fast ones 2 vec4 of signed bytes, exact ones 8 vec4 of f32; beside them two vec4 a block.
Fast ones have a scale for every eight bytes (word j of both halves), as the CPU executor has: the first vec4. The second
begins with the block's sum.
-#}
{%- set vec4s = {"q4": 1, "q8": 2, "f16": 4, "bf16": 4, "f32": 8} %}

{#- Declares {name}_tile and {name}_row, where the lane's row of `strip` lies: outside of loops, for what divisions cost. -#}
{%- macro place(name, strip) %}
    {%- if lanes == 64 %}
        let {{ name }}_tile = {{ strip }};
        let {{ name }}_row = lane;
    {%- else %}
        let {{ name }}_tile = {{ strip }} / {{ 64 // lanes }}u;
        let {{ name }}_row = {{ strip }} % {{ 64 // lanes }}u * {{ lanes }}u + lane;
    {%- endif %}
{%- endmacro %}

{#- Declares variables {name}0.. with the words of block `block` of `blocks` of the tile's row `row`, and {name}_scale where the form
    has one. -#}
{%- macro load(name, form, tile, block="block", blocks="BLOCKS", weights="weights", scales="scales", row="lane") %}
    {%- for v in range(vec4s[form]) %}
        let {{ name }}{{ v }} = {{ weights }}[(({{ tile }} * {{ blocks }} + {{ block }}) * {{ vec4s[form] }}u + {{ v }}u) * 64u + {{ row }}];
    {%- endfor %}
    {%- if form in ["q4", "q8"] %}
        let {{ name }}_scale = unpack2x16float({{ scales }}[({{ tile }} * {{ blocks }} + {{ block }}) * 64u + {{ row }}]);
    {%- endif %}
{%- endmacro %}

{#- Declares {name}0.. with the activations of block `at` of `inputs`, {name}_total, and of fast ones {name}_units. -#}
{%- macro load_input(name, precision, at, inputs="inputs") %}
    {%- set count = 2 if precision == "fast" else 8 %}
    {%- set scales = inputs[:-1] ~ "_scales" %}
            let {{ name }}_at = {{ at }};
            let {{ name }}_total = {{ scales }}[{{ name }}_at * 2u + 1u].x;
    {%- if precision == "fast" %}
            let {{ name }}_units = {{ scales }}[{{ name }}_at * 2u];
    {%- endif %}
    {%- for v in range(count) %}
            let {{ name }}{{ v }} = {% if precision == "fast" %}{{ inputs }}{% else %}bitcast<vec4<f32>>({{ inputs }}{% endif %}[{{ name }}_at * {{ count }}u + {{ v }}u]{% if precision != "fast" %}){% endif %};
    {%- endfor %}
{%- endmacro %}

{#- Declares {name}f0..7, the eight vec4s of f32 (without scale and minimum, integers times their places) of what `load` has read. -#}
{%- macro unpack(name, form) %}
    {%- for v in range(8) %}
        let {{ name }}f{{ v }} =
        {%- if form == "q4" %} {{ ["low", "high"][v // 4] }}_nibbles({{ name }}0[{{ v % 4 }}])
        {%- elif form == "q8" %} signed_bytes({{ name }}{{ v // 4 }}[{{ v % 4 }}])
        {%- elif form in ["f16", "bf16"] %} {{ form }}_pair({{ name }}{{ v // 2 }}.{{ ["xy", "zw"][v % 2] }})
        {%- else %} bitcast<vec4<f32>>({{ name }}{{ v }})
        {%- endif %};
    {%- endfor %}
{%- endmacro %}

{#- Declares {name}f0..7 of the activations that `load_input` has read, divided by the places of weights in `form` and their own. -#}
{%- macro unpack_input(name, precision, form) %}
    {%- for v in range(8) %}
        {%- set places = "HIGH_PLACES" if form == "q4" and v >= 4 else "PLACES" %}
            let {{ name }}f{{ v }} =
        {%- if precision == "fast" %} {{ name }}_units.{{ "xyzw"[v % 4] }} * (signed_bytes({{ name }}{{ v // 4 }}[{{ v % 4 }}]) * ({{ places }} * PLACES))
        {%- elif form in ["q4", "q8"] %} {{ name }}{{ v }} * {{ places }}
        {%- else %} {{ name }}{{ v }}
        {%- endif %};
    {%- endfor %}
{%- endmacro %}

{#- The products' sum over the block of what was unpacked, an f32 expression. -#}
{%- macro unpacked_product(w, x, form) -%}
    {%- if form in ["q4", "q8"] %}{{ w }}_scale.x * {% endif -%}
    ({% for v in range(8) %}{{ " + " if not loop.first }}dot({{ w }}f{{ v }}, {{ x }}f{{ v }}){% endfor %})
    {%- if form == "q4" %} + {{ w }}_scale.y * {{ x }}_total{% endif -%}
{%- endmacro %}

{#- Adds the block's products of matrix rows `names` with `tokens` rows of activations to `sum` ~ name ~ token. With `unpacked`
    every number becomes an f32 once and is used for all products; else, which is for fast activations, words of bytes are multiplied
    as they are. Block `block` of row t of the activations is block `row{t} · stride + block` of `inputs`; within `over_blocks`, one of
    the `staged` ones. -#}
{%- macro accumulate(names, form, precision, tokens, unpacked, block="block", stride="BLOCKS", inputs="inputs", staged=0) %}
    {%- if unpacked %}{% for name in names %}{{ unpack(name, form) }}{% endfor %}{% endif %}
    {%- for t in range(tokens) %}
        {
    {%- if staged %}
    {{- load_input("x", precision, t * staged ~ "u + within", "staged_inputs") }}
    {%- else %}
    {{- load_input("x", precision, "row" ~ t ~ " * " ~ stride ~ " + " ~ block, inputs) }}
    {%- endif %}
    {%- if unpacked %}{{ unpack_input("x", precision, form) }}{% endif %}
    {%- for name in names %}
            sum_{{ name }}{{ t }} += {% if unpacked %}{{ unpacked_product(name, "x", form) }}{% else %}{{ product(name, "x", form) }}{% endif %};
    {%- endfor %}
        }
    {%- endfor %}
{%- endmacro %}

{#- Workgroup memory for `staged` blocks of `tokens` rows of activations, if any are to be staged. -#}
{%- macro staging(precision, tokens, staged) %}
    {%- if staged %}
var<workgroup> staged_inputs: array<vec4<u32>, {{ tokens * staged * (2 if precision == "fast" else 8) }}>;
var<workgroup> staged_input_scales: array<vec4<f32>, {{ tokens * staged * 2 }}>;
    {%- endif %}
{%- endmacro %}

{#- The body for each `block` of BLOCKS. With `staged`, a workgroup first copies so many blocks of its rows of activations to
    workgroup memory, where each of its 64 lanes finds them for all of its products; `within` counts among them. -#}
{%- macro over_blocks(precision, tokens, staged) %}
    {%- if staged %}
        {%- set staged_arrays = [("inputs", 2 if precision == "fast" else 8), ("input_scales", 2)] %}
        {%- for array, words in staged_arrays %}
    const {{ array | upper }}_STAGED: u32 = {{ staged * words }}u;
        {%- endfor %}
    for (var first = 0u; first < BLOCKS; first += {{ staged }}u) {
        workgroupBarrier();
        {%- for array, words in staged_arrays %}
        for (var i = lane; i < {{ tokens * staged * words }}u; i += 64u) {
            let row = min(first_row + i / {{ array | upper }}_STAGED, step.rows - 1u);
            let word = first * {{ words }}u + i % {{ array | upper }}_STAGED;
            if (word < BLOCKS * {{ words }}u) {
                staged_{{ array }}[i] = {{ array }}[row * (BLOCKS * {{ words }}u) + word];
            }
        }
        {%- endfor %}
        workgroupBarrier();
        for (var within = 0u; within < min({{ staged }}u, BLOCKS - first); within++) {
            let block = first + within;
{{ caller() }}
        }
    }
    {%- else %}
    for (var block = 0u; block < BLOCKS; block++) {
{{- caller() }}
    }
    {%- endif %}
{%- endmacro %}

{#- The types of the four arrays of a projection from `blocks` blocks of `tiles` tiles, with their lengths, so that no access
    has to ask for the buffer's size. `extra` scales follow those of the blocks. -#}
{%- macro inputs_type(precision, blocks, max_rows) -%}
    array<vec4<u32>, {{ max_rows * blocks * (2 if precision == "fast" else 8) }}>
{%- endmacro %}
{%- macro input_scales_type(blocks, max_rows, extra=0) -%}
    array<vec4<f32>, {{ 2 * max_rows * blocks + extra }}>
{%- endmacro %}
{%- macro weights_type(form, blocks, tiles) -%}
    array<vec4<u32>, {{ tiles * blocks * vec4s[form] * 64 }}>
{%- endmacro %}
{%- macro scales_type(form, blocks, tiles, extra=0) -%}
    {%- if form in ["q4", "q8"] %}array<u32, {{ tiles * blocks * 64 + extra }}>{% else %}array<u32>{% endif -%}
{%- endmacro %}

{#- The products' sum over the block of bytes, an f32 expression. -#}
{%- macro product(w, x, form) -%}
    {%- if form == "q4" -%}
        {{ w }}_scale.x * dot({{ x }}_units, vec4<f32>(group_dots({{ w }}0 & vec4<u32>(0x0f0f0f0fu), {{ x }}0, ({{ w }}0 >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu), {{ x }}1))) + {{ w }}_scale.y * {{ x }}_total
    {%- else -%}
        {{ w }}_scale.x * dot({{ x }}_units, vec4<f32>(group_dots({{ w }}0, {{ x }}0, {{ w }}1, {{ x }}1)))
    {%- endif -%}
{%- endmacro %}

{#- What stands before everything else in a kernel with `accumulate`. -#}
{%- macro directives(half_products) %}
    {%- if half_products %}
enable f16;
    {%- endif %}
{%- endmacro %}

{#- The functions that `accumulate` calls. With `half_products` (`shader-f16`), words of bytes are multiplied as four halves, and sums of
    four such products become f32: at most 4 · 128 · 127, which is a half still; it is off by one part in 2048 at most. -#}
{%- macro functions(half_products=false) %}
{%- if half_products %}
fn halves_of(word: u32) -> vec4<f16> {
    return vec4<f16>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// For each word of a block's two parts, the sum of the products of its signed bytes.
fn group_dots(a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(
    {%- for x in ["x", "y", "z", "w"] %}
        f32(dot(halves_of(a.{{ x }}), halves_of(b.{{ x }}))) + f32(dot(halves_of(c.{{ x }}), halves_of(d.{{ x }}))),
    {%- endfor %}
    );
}
{%- else %}
// For each word of a block's two halves, the sum of the products of its signed bytes.
fn group_dots(a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> vec4<i32> {
{%- if packed_dot %}
    return vec4<i32>(
        dot4I8Packed(a.x, b.x) + dot4I8Packed(c.x, d.x),
        dot4I8Packed(a.y, b.y) + dot4I8Packed(c.y, d.y),
        dot4I8Packed(a.z, b.z) + dot4I8Packed(c.z, d.z),
        dot4I8Packed(a.w, b.w) + dot4I8Packed(c.w, d.w),
    );
{%- else %}
    var sum = vec4<i32>(0);
    for (var shift = 0u; shift < 32u; shift += 8u) {
        let up = vec4<u32>(24u - shift);
        let down = vec4<u32>(24u);
        sum += (bitcast<vec4<i32>>(a << up) >> down) * (bitcast<vec4<i32>>(b << up) >> down);
        sum += (bitcast<vec4<i32>>(c << up) >> down) * (bitcast<vec4<i32>>(d << up) >> down);
    }
    return sum;
{%- endif %}
}
{%- endif %}

// The integers of a word become f32 where they lie, so that none is shifted, which software adapters do one invocation at a
// time: byte i is 256^i times too large, and a high nibble 16 times more. Activations are divided by that, which is exact.
const PLACES = vec4<f32>(1.0, 0.00390625, 1.52587890625e-5, 5.9604644775390625e-8);
const HIGH_PLACES = PLACES * 0.0625;

fn low_nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>(
        f32(i32(word & 0xfu)),
        f32(i32(word & 0xf00u)),
        f32(i32(word & 0xf0000u)),
        f32(i32(word & 0xf000000u)),
    );
}

// The highest bit is the sign of what is converted.
fn high_nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>(
        f32(i32(word & 0xf0u)),
        f32(i32(word & 0xf000u)),
        f32(i32(word & 0xf00000u)),
        f32(i32((word & 0xf0000000u) ^ 0x80000000u)) + 2147483648.0,
    );
}

fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(
        f32(i32((word & 0xffu) ^ 0x80u) - 0x80),
        f32(i32((word & 0xff00u) ^ 0x8000u) - 0x8000),
        f32(i32((word & 0xff0000u) ^ 0x800000u) - 0x800000),
        f32(i32(word & 0xff000000u)),
    );
}

fn f16_pair(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn bf16_pair(words: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
{%- endmacro %}
