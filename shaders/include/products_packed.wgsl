// Products of bytes, four at once: integer weights and fast activations only.
// include dots_{{dots}}.wgsl

// Whether some blocks have a scale for each half.
const SPLIT: bool = {{split}};

alias Weights = Block;

fn weights_q4(words: array<vec4<u32>, 1>, beside: array<u32, 1>) -> Weights {
    return block_q4(words, beside);
}

fn weights_of(block: Block) -> Weights {
    return block;
}

// Bytes lie in the same order in every form.
const PLACES_q4: u32 = 0u;
const PLACES_bytes: u32 = 0u;

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
    if (SPLIT) {
        let low = dot(x.units, vec4<f32>(word_dots(w.low, x.low)));
        let high = dot(x.units, vec4<f32>(word_dots(w.high, x.high)));
        return w.scale.x * low + w.scale.y * high + w.scale.z * x.total;
    }
    let dots = word_dots(w.low, x.low) + word_dots(w.high, x.high);
    return w.scale.x * dot(x.units, vec4<f32>(dots)) + w.scale.z * x.total;
}
