// Hands queries, keys and values of a batch to attention: the former as they are, the latter into the cache.
//
//   projected      the values of a batch, one after another, each [MAX_ROWS, its width] f32
//   queries        [rows, heads · head_dim] f32, written
//   keys, values   the cache (see cache.wgsl), written
//
// One invocation for two dimensions, half a head apart; workgroups of 64 along x, a row of the batch along y.
// include step.wgsl

const QUERIES_AT: u32 = {{queries_at}};
const KEYS_AT: u32 = {{keys_at}};
const VALUES_AT: u32 = {{values_at}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> projected: array<f32>;
@group(0) @binding(2) var<storage, read_write> queries: array<f32>;
@group(0) @binding(3) var<storage, read_write> keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> values: array<u32>;

// include cache.wgsl
// include cache_write.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = group.x * 64u + lane;
    let row = group.y;
    let within = pair % HALF;
    let head = pair / HALF;
    if (head < HEADS) {
        let at = (row * HEADS + head) * HEAD_DIM + within;
        queries[at] = projected[QUERIES_AT + at];
        queries[at + HALF] = projected[QUERIES_AT + at + HALF];
    } else if (head < HEADS + KV_HEADS) {
        let at = KEYS_AT + (row * KV_HEADS + head - HEADS) * HEAD_DIM + within;
        write_key(row, head - HEADS, within, projected[at], projected[at + HALF]);
    } else if (head < HEADS + 2u * KV_HEADS) {
        let at = VALUES_AT + (row * KV_HEADS + head - HEADS - KV_HEADS) * HEAD_DIM + within;
        write_value(row, head - HEADS - KV_HEADS, within, projected[at], projected[at + HALF]);
    }
}
