enable f16;
// As `dots_packed.wgsl`, by `shader-f16`: words of bytes are multiplied as four halves, and sums of four such products become
// f32: at most 4 · 128 · 127, which is a half still; it is off by one part in 2048 at most.
fn halves_of(word: u32) -> vec4<f16> {
    return vec4<f16>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

fn half_dot(a: u32, b: u32) -> f32 {
    return f32(dot(halves_of(a), halves_of(b)));
}

fn word_dots(a: vec4<u32>, b: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(half_dot(a.x, b.x), half_dot(a.y, b.y), half_dot(a.z, b.z), half_dot(a.w, b.w));
}
