// One block of one row of the kernel's matrix `weights` with what lies beside it in `scales`, ready for `product`.

// vec4s of a block's data, and words beside it.
const VEC4S: u32 = {{vec4s}};
const BESIDE: u32 = {{beside}};
// Tiles of the matrix, blocks of its rows, vec4s of `weights` and words of `scales`.
const MATRIX_TILES: u32 = {{matrix_tiles}};
const BLOCKS: u32 = {{blocks}};
const WEIGHT_VEC4S: u32 = {{weight_vec4s}};
const SCALE_WORDS: u32 = {{scale_words}};

fn weights_at(tile: u32, row: u32, block: u32) -> Weights {
    let at = tile * BLOCKS + block;
    var words: array<vec4<u32>, VEC4S>;
    // unroll
    for (var v = 0u; v < VEC4S; v++) {
        words[v] = weights[(at * VEC4S + v) * 64u + row];
    }
    var beside: array<u32, max(BESIDE, 1u)>;
    // unroll
    for (var s = 0u; s < BESIDE; s++) {
        beside[s] = scales[(at * BESIDE + s) * 64u + row];
    }
    return {{read_weights}};
}
