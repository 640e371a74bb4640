// As `matrix.wgsl`, of a matrix whose tiles from LATER on have another form.

const VEC4S: u32 = {{vec4s}};
const BESIDE: u32 = {{beside}};
const LATER: u32 = {{first_later}};
const LATER_VEC4S: u32 = {{later_vec4s}};
const LATER_BESIDE: u32 = {{later_beside}};
const MATRIX_TILES: u32 = {{matrix_tiles}};
const BLOCKS: u32 = {{blocks}};
const WEIGHT_VEC4S: u32 = {{weight_vec4s}};
const SCALE_WORDS: u32 = {{scale_words}};

fn weights_at(tile: u32, row: u32, block: u32) -> Weights {
    if (tile < LATER) {
        let at = tile * BLOCKS + block;
        var words: array<vec4<u32>, VEC4S>;
        // unroll
        for (var v = 0u; v < VEC4S; v++) {
            words[v] = weights[(at * VEC4S + v) * 64u + row];
        }
        var beside: array<u32, BESIDE>;
        // unroll
        for (var s = 0u; s < BESIDE; s++) {
            beside[s] = scales[(at * BESIDE + s) * 64u + row];
        }
        return {{read_weights}};
    }
    let at = (tile - LATER) * BLOCKS + block;
    var words: array<vec4<u32>, LATER_VEC4S>;
    // unroll
    for (var v = 0u; v < LATER_VEC4S; v++) {
        words[v] = weights[(LATER * BLOCKS * VEC4S + at * LATER_VEC4S + v) * 64u + row];
    }
    var beside: array<u32, LATER_BESIDE>;
    // unroll
    for (var s = 0u; s < LATER_BESIDE; s++) {
        beside[s] = scales[(LATER * BLOCKS * BESIDE + at * LATER_BESIDE + s) * 64u + row];
    }
    return {{read_later_weights}};
}
