// How fast the adapter reads and how fast it multiplies: what a profile holds the other kernels against.
//
//   matrix   [words] vec4, read from end to end{% if work == "multiply" %} (bound, not read){% endif %}
//   result   [1] f32, written only if the sum is one that it cannot be, so that nothing is left out as unused
//
// {% if work == "read" %}Invocation i reads vec4s i, i + all invocations, …{% else %}Each invocation makes {{ rounds }} × 32 independent multiply-adds.{% endif %} Workgroups of 64.
@group(0) @binding(0) var<storage, read> matrix: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
{%- if work == "read" %}
    var sum = vec4<u32>(0u);
    let stride = groups.x * 64u;
    let count = arrayLength(&matrix);
    for (var at = id.x; at < count; at += stride) {
        sum ^= matrix[at];
    }
    let impossible = all(sum == vec4<u32>(0x12345678u)) && count == 0u;
{%- else %}
    let factor = vec4<f32>(0.5 + f32(id.x % 7u) * 0.0625);
{%- for i in range(8) %}
    var sum{{ i }} = vec4<f32>(f32(id.x) + {{ i }}.0);
{%- endfor %}
    for (var i = 0u; i < {{ rounds }}u; i++) {
{%- for i in range(8) %}
        sum{{ i }} = sum{{ i }} * factor + factor;
{%- endfor %}
    }
    let impossible = dot({% for i in range(8) %}{{ " + " if not loop.first }}sum{{ i }}{% endfor %}, factor) == -1.0;
{%- endif %}
    if (impossible) {
        result[0] = 1.0;
    }
}
