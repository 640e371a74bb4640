// For each word of a block's two halves, the sum of the products of its signed bytes.
fn group_dots(a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(
        dot4I8Packed(a.x, b.x) + dot4I8Packed(c.x, d.x),
        dot4I8Packed(a.y, b.y) + dot4I8Packed(c.y, d.y),
        dot4I8Packed(a.z, b.z) + dot4I8Packed(c.z, d.z),
        dot4I8Packed(a.w, b.w) + dot4I8Packed(c.w, d.w),
    );
}
