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

const MEMBERS: u32 = 2u;
const HALF: u32 = HEAD_DIM / 2u;
const BIASED: bool = {{biased}};
const BIASES_AT: u32 = {{biases_at}};

// As a half, to the nearest (ties to even) on every adapter, and never infinite; WGSL leaves the rounding to the adapter.
fn rounded(x: f32) -> f32 {
    let bits = bitcast<u32>(clamp(x, -65504.0, 65504.0));
    return bitcast<f32>((bits + 0x0fffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

fn halves(first: f32, second: f32) -> u32 {
    return pack2x16float(vec2<f32>(rounded(first), rounded(second)));
}

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
    let page = step.row[row.index].page * KV_HEADS;
    let position = step.row[row.index].position;
    let slot = position % PAGE;
    let within = pair % HALF;
    let head = pair / HALF;
    if (head >= HEADS + KV_HEADS) {
        let at = ((page + head - HEADS - KV_HEADS) * PAGE + slot) * (VECTORS * 4u) + within;
        if (HALF_CACHE) {
            values[at] = halves(first, second);
        } else {
            values[at] = bitcast<u32>(first);
            values[at + HALF] = bitcast<u32>(second);
        }
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
    let base = (page + head - HEADS) * VECTORS;
    let at = ((base + within / 4u) * PAGE + slot) * 4u + within % 4u;
    if (HALF_CACHE) {
        keys[at] = halves(a, b);
    } else {
        let far = within + HALF;
        keys[at] = bitcast<u32>(a);
        keys[((base + far / 4u) * PAGE + slot) * 4u + far % 4u] = bitcast<u32>(b);
    }
}

fn finish(tile: u32, first_row: u32, lane: u32, last: bool) {
}
