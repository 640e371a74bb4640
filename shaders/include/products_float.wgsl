// Products in f32: every number of a block becomes an f32 once and serves all of its products.

// Whether some blocks have a scale for each half.
const SPLIT: bool = {{split}};

// Eight vec4s without scales and minimum, integers times their places.
struct Weights {
    numbers: array<vec4<f32>, 8>,
    scale: vec3<f32>,
}

// Nibbles where they lie.
fn weights_q4(words: array<vec4<u32>, 1>, beside: array<u32, 1>) -> Weights {
    let a = words[0];
    return Weights(array<vec4<f32>, 8>(
        low_nibbles(a.x), low_nibbles(a.y), low_nibbles(a.z), low_nibbles(a.w),
        high_nibbles(a.x), high_nibbles(a.y), high_nibbles(a.z), high_nibbles(a.w),
    ), one_scale(beside[0]));
}

fn weights_of(block: Block) -> Weights {
    let a = block.low;
    let b = block.high;
    return Weights(array<vec4<f32>, 8>(
        signed_bytes(a.x), signed_bytes(a.y), signed_bytes(a.z), signed_bytes(a.w),
        signed_bytes(b.x), signed_bytes(b.y), signed_bytes(b.z), signed_bytes(b.w),
    ), block.scale);
}

fn weights_f16(words: array<vec4<u32>, 4>) -> Weights {
    var numbers: array<vec4<f32>, 8>;
    // unroll
    for (var v = 0u; v < 4; v++) {
        numbers[2u * v] = f16_pair(words[v].x, words[v].y);
        numbers[2u * v + 1u] = f16_pair(words[v].z, words[v].w);
    }
    return Weights(numbers, vec3<f32>(1.0, 1.0, 0.0));
}

fn weights_bf16(words: array<vec4<u32>, 4>) -> Weights {
    var numbers: array<vec4<f32>, 8>;
    // unroll
    for (var v = 0u; v < 4; v++) {
        numbers[2u * v] = bf16_pair(words[v].x, words[v].y);
        numbers[2u * v + 1u] = bf16_pair(words[v].z, words[v].w);
    }
    return Weights(numbers, vec3<f32>(1.0, 1.0, 0.0));
}

fn weights_f32(words: array<vec4<u32>, 8>) -> Weights {
    var numbers: array<vec4<f32>, 8>;
    // unroll
    for (var v = 0u; v < 8; v++) {
        numbers[v] = bitcast<vec4<f32>>(words[v]);
    }
    return Weights(numbers, vec3<f32>(1.0, 1.0, 0.0));
}

// What activations are multiplied by for weights that are read so: low and high half of a block.
const PLACES_q4 = array<vec4<f32>, 2>(PLACES, HIGH_PLACES);
const PLACES_bytes = array<vec4<f32>, 2>(PLACES, PLACES);
const PLACES_float = array<vec4<f32>, 2>(vec4<f32>(1.0), vec4<f32>(1.0));

struct Input {
    numbers: array<vec4<f32>, 8>,
    total: f32,
}

// Block `at` of the activations for weights with these `places`.
fn input_at(at: u32, places: array<vec4<f32>, 2>) -> Input {
    let total = input_scale(at * 2u + 1u).x;
    var numbers: array<vec4<f32>, 8>;
    if (FAST) {
        let units = input_scale(at * 2u);
        let low = input_word(at * 2u);
        let high = input_word(at * 2u + 1u);
        // unroll
        for (var v = 0u; v < 4; v++) {
            numbers[v] = units[v] * (signed_bytes(low[v]) * (places[0] * PLACES));
            numbers[v + 4u] = units[v] * (signed_bytes(high[v]) * (places[1] * PLACES));
        }
    } else {
        // unroll
        for (var v = 0u; v < 4; v++) {
            numbers[v] = bitcast<vec4<f32>>(input_word(at * 8u + v)) * places[0];
            numbers[v + 4u] = bitcast<vec4<f32>>(input_word(at * 8u + v + 4u)) * places[1];
        }
    }
    return Input(numbers, total);
}

fn product(w: Weights, x: Input) -> f32 {
    var sum = dot(w.numbers[0], x.numbers[0]);
    if (SPLIT) {
        // unroll
        for (var v = 0u; v < 3; v++) {
            sum += dot(w.numbers[v + 1u], x.numbers[v + 1u]);
        }
        var high = dot(w.numbers[4], x.numbers[4]);
        // unroll
        for (var v = 0u; v < 3; v++) {
            high += dot(w.numbers[v + 5u], x.numbers[v + 5u]);
        }
        return w.scale.x * sum + w.scale.y * high + w.scale.z * x.total;
    }
    // unroll
    for (var v = 0u; v < 7; v++) {
        sum += dot(w.numbers[v + 1u], x.numbers[v + 1u]);
    }
    return w.scale.x * sum + w.scale.z * x.total;
}
