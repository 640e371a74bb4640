// One block of one row of the kernel's matrix `weights` with its `scales`, ready for `product`.

// vec4s of a block's data, and whether blocks have scales.
const VEC4S: u32 = {{vec4s}};
const SCALED: bool = {{scaled}};
// Tiles of the matrix, blocks of its rows, and words of `scales`.
const MATRIX_TILES: u32 = {{matrix_tiles}};
const BLOCKS: u32 = {{blocks}};
const SCALE_WORDS: u32 = {{scale_words}};

fn weights_at(tile: u32, row: u32, block: u32) -> Weights {
    let at = tile * BLOCKS + block;
    var words: array<vec4<u32>, VEC4S>;
    // unroll
    for (var v = 0u; v < VEC4S; v++) {
        words[v] = weights[(at * VEC4S + v) * 64u + row];
    }
    var scale = vec2<f32>(1.0, 0.0);
    if (SCALED) {
        scale = unpack2x16float(scales[at * 64u + row]);
    }
    return weights_{{form}}(words, scale);
}
