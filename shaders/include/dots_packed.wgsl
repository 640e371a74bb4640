// For each word, the sum of the products of its signed bytes.
fn word_dots(a: vec4<u32>, b: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(a.x, b.x), dot4I8Packed(a.y, b.y), dot4I8Packed(a.z, b.z), dot4I8Packed(a.w, b.w));
}
