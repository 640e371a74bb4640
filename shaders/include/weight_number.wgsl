// One number of a matrix in tiles (see weights.wgsl), for kernels that bind it as `weights` and `scales`.

// vec4s of a block's data, and words beside it.
const VEC4S: u32 = {{vec4s}};
const BESIDE: u32 = {{beside}};

// Weight `within` of a block, in each form.
fn weight_of(block: Block, within: u32) -> f32 {
    let high = within >= 16u;
    let word = select(block.low, block.high, high)[(within % 16u) / 4u];
    let number = f32(bitcast<i32>(word << (24u - 8u * (within % 4u))) >> 24u);
    return number * select(block.scale.x, block.scale.y, high) + block.scale.z;
}

fn weight_f16(block: array<vec4<u32>, 4>, within: u32) -> f32 {
    var words = block;
    let quarter = words[within / 8u];
    let pair = select(quarter.xy, quarter.zw, (within / 4u) % 2u == 1u);
    return f16_pair(pair.x, pair.y)[within % 4u];
}

fn weight_bf16(block: array<vec4<u32>, 4>, within: u32) -> f32 {
    var words = block;
    let quarter = words[within / 8u];
    let pair = select(quarter.xy, quarter.zw, (within / 4u) % 2u == 1u);
    return bf16_pair(pair.x, pair.y)[within % 4u];
}

fn weight_f32(block: array<vec4<u32>, 8>, within: u32) -> f32 {
    var words = block;
    return bitcast<f32>(words[within / 4u][within % 4u]);
}

fn weight_at(at: u32, lane: u32, within: u32) -> f32 {
    var words: array<vec4<u32>, VEC4S>;
    // unroll
    for (var v = 0u; v < VEC4S; v++) {
        words[v] = weights[(at * VEC4S + v) * 64u + lane];
    }
    var beside: array<u32, max(BESIDE, 1u)>;
    // unroll
    for (var s = 0u; s < BESIDE; s++) {
        beside[s] = scales[(at * BESIDE + s) * 64u + lane];
    }
    return {{read_weight}};
}
