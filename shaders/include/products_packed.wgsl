// Products of bytes, four at once: integer weights and fast activations only.
// include dots_{{dots}}.wgsl

// Signed bytes of a block's two halves.
struct Weights {
    low: vec4<u32>,
    high: vec4<u32>,
    scale: vec2<f32>,
}

fn weights_q4(words: array<vec4<u32>, 1>, scale: vec2<f32>) -> Weights {
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    return Weights(words[0] & nibbles, (words[0] >> vec4<u32>(4u)) & nibbles, scale);
}

fn weights_q8(words: array<vec4<u32>, 2>, scale: vec2<f32>) -> Weights {
    return Weights(words[0], words[1], scale);
}

// Bytes lie in the same order in every form.
const PLACES_q4: u32 = 0u;
const PLACES_q8: u32 = 0u;

struct Input {
    low: vec4<u32>,
    high: vec4<u32>,
    units: vec4<f32>,
    total: f32,
}

// Block `at` of the activations.
fn input_at(at: u32, places: u32) -> Input {
    return Input(input_word(at * 2u), input_word(at * 2u + 1u), input_scale(at * 2u), input_scale(at * 2u + 1u).x);
}

fn product(w: Weights, x: Input) -> f32 {
    return w.scale.x * dot(x.units, vec4<f32>(group_dots(w.low, x.low, w.high, x.high))) + w.scale.y * x.total;
}
