// Activations read where they lie, in `inputs` and `input_scales`.

fn input_word(at: u32) -> vec4<u32> {
    return inputs[at];
}

fn input_scale(at: u32) -> vec4<f32> {
    return input_scales[at];
}
