// A block of 32 numbers from the workgroup memory `numbers`, as the next projection reads it (see weights.wgsl).

// A block has the first INPUT_VEC4S of these words.
struct Encoded {
    words: array<vec4<u32>, 8>,
    units: vec4<f32>,
    total: f32,
}

fn four_numbers(at: u32) -> vec4<f32> {
    return vec4<f32>(numbers[at], numbers[at + 1u], numbers[at + 2u], numbers[at + 3u]);
}

fn packed_bytes(rounded: vec4<i32>) -> u32 {
    let bytes = bitcast<vec4<u32>>(rounded) & vec4<u32>(255u);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

// numbers[first .. first + 32].
fn encoded(first: u32) -> Encoded {
    var words: array<vec4<u32>, 8>;
    var units = vec4<f32>(0.0);
    var total = 0.0;
    if (FAST) {
        // Word j of both halves is a group with a scale of its own.
        var low = vec4<u32>(0u);
        var high = vec4<u32>(0u);
        for (var word = 0u; word < 4u; word++) {
            let a = four_numbers(first + word * 4u);
            let b = four_numbers(first + word * 4u + 16u);
            let most = max(abs(a), abs(b));
            let largest = max(max(most.x, most.y), max(most.z, most.w));
            // The CPU executor's arithmetic, so that both round the same numbers the same way.
            let unit = largest / 127.0;
            // A group of zeros has no scale; its bytes are zero whatever this is.
            let inverse = select(0.0, 127.0 / largest, largest > 0.0);
            let a_rounded = vec4<i32>(round(a * inverse));
            let b_rounded = vec4<i32>(round(b * inverse));
            let sum = a_rounded + b_rounded;
            units[word] = unit;
            total += unit * f32(sum.x + sum.y + sum.z + sum.w);
            low[word] = packed_bytes(a_rounded);
            high[word] = packed_bytes(b_rounded);
        }
        words[0] = low;
        words[1] = high;
    } else {
        // unroll
        for (var v = 0u; v < 8; v++) {
            let values = four_numbers(first + v * 4u);
            total += values.x + values.y + values.z + values.w;
            words[v] = bitcast<vec4<u32>>(values);
        }
    }
    return Encoded(words, units, total);
}
