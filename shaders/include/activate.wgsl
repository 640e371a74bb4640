// The activation of the gated feed-forward part.
const SILU: bool = {{silu}};

fn activate(x: f32) -> f32 {
    if (SILU) {
        return x / (1.0 + exp(-x));
    }
    // tanh overflows on some adapters beyond this.
    let inner = clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -20.0, 20.0);
    return 0.5 * x * (1.0 + tanh(inner));
}
