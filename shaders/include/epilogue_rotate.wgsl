// Epilogue of `project.wgsl`: q, k and v of one block with biases and rotation; k and v go straight into the cache. Rows of the
// matrix are reordered into pairs that rotate together: tile 2t holds the first, tile 2t + 1 the second members of pairs
// 64t .. 64t + 63 of q, k and v in turn. After the scales lie the biases, pair by pair.
//
//   rotations       [context, head_dim / 2] (cos, sin)
//   queries         [rows, heads · head_dim] f32, rotated, written
//   keys, values    the cache (see cache.wgsl), written
@group(0) @binding(5) var<storage, read> rotations: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> queries: array<f32>;
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;

// include cache.wgsl
// include cache_write.wgsl

const MEMBERS: u32 = 2u;
const BIASED: bool = {{biased}};
const BIASES_AT: u32 = {{biases_at}};

fn factor_of(row: Place) -> f32 {
    return 1.0;
}

fn keep(t: u32, row: Place, pair: u32, lane: u32, sums: vec2<f32>) {
    if (pair >= (HEADS + 2u * KV_HEADS) * HALF || !row.wanted) {
        return;
    }
    var first = sums.x;
    var second = sums.y;
    if (BIASED) {
        first += bitcast<f32>(scales[BIASES_AT + pair * 2u]);
        second += bitcast<f32>(scales[BIASES_AT + pair * 2u + 1u]);
    }
    let position = step.row[row.index].position;
    let within = pair % HALF;
    let head = pair / HALF;
    if (head >= HEADS + KV_HEADS) {
        write_value(row.index, head - HEADS - KV_HEADS, within, first, second);
        return;
    }
    let rotation = rotations[position * HALF + within];
    let a = first * rotation.x - second * rotation.y;
    let b = second * rotation.x + first * rotation.y;
    if (head < HEADS) {
        let at = (row.index * HEADS + head) * HEAD_DIM + within;
        queries[at] = a;
        queries[at + HALF] = b;
        return;
    }
    write_key(row.index, head - HEADS, within, a, b);
}

fn finish(tile: u32, first_row: u32, lane: u32, last: bool) {
}
