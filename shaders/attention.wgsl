// Grouped-query attention of every row over its sequence's cache up to itself, for a batch of many rows.
//
//   queries         [rows, heads · head_dim] f32, rotated
//   keys, values    the cache (see cache.wgsl); pages: which of its pages a sequence holds
//
// What becomes of it is in `include/heads_*.wgsl`; its bindings are 5 and following.
//
// One workgroup of LANES for TOGETHER heads (x) and a row (y).
// include step.wgsl
// include weights.wgsl

const LANES: u32 = {{lanes}};
// Keys that a row sees, its own among them; 0: all.
const WINDOW: u32 = {{window}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> pages: array<u32>;

// include attend.wgsl
// include heads_{{outputs}}.wgsl

fn first_seen(count: u32) -> u32 {
    if (WINDOW > 0u) {
        return count - min(count, WINDOW);
    }
    return 0u;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_head = group.x * TOGETHER;
    let index = group.y;
    let count = step.row[index].position + 1u;
    let log_total = attend(lane, first_head, index, first_seen(count), count);
    write_heads(lane, index, first_head);
}
