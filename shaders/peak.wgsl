// How fast the adapter reads and how fast it multiplies: what a profile holds the other kernels against.
//
//   matrix   [words] vec4, read from end to end by `reads`, bound and not read by `multiplies`
//   result   [1] f32, written only if the sum is one that it cannot be, so that nothing is left out as unused
//
// Workgroups of 64. Of `reads`, invocation i has vec4s i, i + all invocations, …; of `multiplies`, each makes ROUNDS × 32
// independent multiply-adds.
@group(0) @binding(0) var<storage, read> matrix: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

const ROUNDS: u32 = {{rounds}};

fn reads(id: u32, invocations: u32) -> bool {
    var sum = vec4<u32>(0u);
    let count = arrayLength(&matrix);
    for (var at = id; at < count; at += invocations) {
        sum ^= matrix[at];
    }
    return all(sum == vec4<u32>(0x12345678u)) && count == 0u;
}

fn multiplies(id: u32, invocations: u32) -> bool {
    let factor = vec4<f32>(0.5 + f32(id % 7u) * 0.0625);
    var sums: array<vec4<f32>, 8>;
    // unroll
    for (var i = 0u; i < 8; i++) {
        sums[i] = vec4<f32>(f32(id + i));
    }
    for (var round = 0u; round < ROUNDS; round++) {
        // unroll
        for (var i = 0u; i < 8; i++) {
            sums[i] = sums[i] * factor + factor;
        }
    }
    var sum = vec4<f32>(0.0);
    // unroll
    for (var i = 0u; i < 8; i++) {
        sum += sums[i];
    }
    return dot(sum, factor) == -1.0;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    if ({{work}}(id.x, groups.x * 64u)) {
        result[0] = 1.0;
    }
}
