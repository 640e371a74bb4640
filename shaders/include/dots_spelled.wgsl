// As `dots_packed.wgsl`, where the browser's WGSL has no `dot4I8Packed`.
fn word_dots(a: vec4<u32>, b: vec4<u32>) -> vec4<i32> {
    var sum = vec4<i32>(0);
    for (var shift = 0u; shift < 32u; shift += 8u) {
        let up = vec4<u32>(24u - shift);
        let down = vec4<u32>(24u);
        sum += (bitcast<vec4<i32>>(a << up) >> down) * (bitcast<vec4<i32>>(b << up) >> down);
    }
    return sum;
}
