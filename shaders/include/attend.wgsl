// Attention of TOGETHER heads that share keys and values over some of their sequence's cache, by a workgroup of LANES.
//
// The kernel binds `queries`, `keys`, `values` and `pages`, the table of the pages that a sequence holds,
// [sequences, SEQUENCE_PAGES]. A lane is a few keys while scores are made, and the dimensions of a vec4 of
// every SUBSETS-th key while values are summed; a key or value that was loaded serves every head, a query every key of its
// lane. Keys come in chunks of CHUNK, with a running softmax over them: few barriers and few loads, since a software adapter
// pays for each.
// include cache.wgsl

// Heads of a workgroup, and keys that a lane scores at once.
const TOGETHER: u32 = {{together}};
const LANE_KEYS: u32 = {{lane_keys}};
const SUBSETS: u32 = max(LANES / VECTORS, 1u);
const SCALE: f32 = {{attention_scale}};
const CHUNK: u32 = {{chunk}};
const LOWEST: f32 = -3.0e38;

var<workgroup> scores: array<f32, TOGETHER * CHUNK>;
var<workgroup> lane_numbers: array<f32, TOGETHER * LANES>;
var<workgroup> lane_sums: array<vec4<f32>, TOGETHER * SPREAD * LANES>;
// The result, head by head: each head's weighted mean of the values.
var<workgroup> numbers: array<f32, TOGETHER * HEAD_DIM>;

// The dimensions in a vec4 of the cache; of halves first the lower ones.
fn cached(words: vec4<u32>) -> array<vec4<f32>, SPREAD> {
    var dimensions: array<vec4<f32>, SPREAD>;
    if (HALF_CACHE) {
        let x = unpack2x16float(words.x);
        let y = unpack2x16float(words.y);
        let z = unpack2x16float(words.z);
        let w = unpack2x16float(words.w);
        dimensions[SPREAD - 1u] = vec4<f32>(x.y, y.y, z.y, w.y);
        dimensions[0] = vec4<f32>(x.x, y.x, z.x, w.x);
    } else {
        dimensions[0] = bitcast<vec4<f32>>(words);
    }
    return dimensions;
}

fn along(a: array<vec4<f32>, SPREAD>, b: array<vec4<f32>, SPREAD>) -> f32 {
    if (HALF_CACHE) {
        return dot(a[0], b[0]) + dot(a[SPREAD - 1u], b[SPREAD - 1u]);
    }
    return dot(a[0], b[0]);
}

// Leaves the means over the keys `first` .. `end` of the row's sequence in `numbers`, for the heads from `first_head` on of row
// `index`. Returns the logarithm of the first head's sum of exp(score).
fn attend(lane: u32, first_head: u32, index: u32, first: u32, end: u32) -> f32 {
    let table = step.row[index].sequence * SEQUENCE_PAGES;
    let kv_head = first_head / (HEADS / KV_HEADS);
    let query = (index * HEADS + first_head) * (HEAD_DIM / 4u);
    var largest: array<f32, TOGETHER>;
    var own_total: array<f32, TOGETHER>;
    var sum: array<vec4<f32>, TOGETHER * SPREAD>;
    // unroll
    for (var g = 0u; g < TOGETHER; g++) {
        largest[g] = LOWEST;
    }
    for (var start = first; start < end; start += CHUNK) {
        let here = min(CHUNK, end - start);
        var own_largest: array<f32, TOGETHER>;
        // unroll
        for (var g = 0u; g < TOGETHER; g++) {
            own_largest[g] = LOWEST;
        }
        for (var at = 0u; at < here; at += LANES * LANE_KEYS) {
            var key: array<u32, LANE_KEYS>;
            // unroll
            for (var k = 0u; k < LANE_KEYS; k++) {
                let position = start + min(at + lane + k * LANES, here - 1u);
                let page = pages[table + position / PAGE];
                key[k] = (page * KV_HEADS + kv_head) * (VECTORS * PAGE) + position % PAGE;
            }
            var sum_of_products: array<f32, TOGETHER * LANE_KEYS>;
            // unroll
            for (var g = 0u; g < TOGETHER; g++) {
                // unroll
                for (var k = 0u; k < LANE_KEYS; k++) {
                    sum_of_products[g * LANE_KEYS + k] = 0.0;
                }
            }
            for (var i = 0u; i < VECTORS; i++) {
                var dimensions: array<array<vec4<f32>, SPREAD>, LANE_KEYS>;
                // unroll
                for (var k = 0u; k < LANE_KEYS; k++) {
                    dimensions[k] = cached(keys[key[k] + i * PAGE]);
                }
                // unroll
                for (var g = 0u; g < TOGETHER; g++) {
                    var q: array<vec4<f32>, SPREAD>;
                    // unroll
                    for (var half = 0u; half < SPREAD; half++) {
                        q[half] = queries[query + g * (HEAD_DIM / 4u) + half * VECTORS + i];
                    }
                    // unroll
                    for (var k = 0u; k < LANE_KEYS; k++) {
                        sum_of_products[g * LANE_KEYS + k] += along(q, dimensions[k]);
                    }
                }
            }
            // unroll
            for (var g = 0u; g < TOGETHER; g++) {
                // unroll
                for (var k = 0u; k < LANE_KEYS; k++) {
                    let score = sum_of_products[g * LANE_KEYS + k] * SCALE;
                    scores[g * CHUNK + at + lane + k * LANES] = score;
                    own_largest[g] = max(own_largest[g], score);
                }
            }
        }
        // unroll
        for (var g = 0u; g < TOGETHER; g++) {
            lane_numbers[g * LANES + lane] = own_largest[g];
        }
        workgroupBarrier();
        var chunk_largest = largest;
        for (var i = 0u; i < min(here, LANES); i++) {
            // unroll
            for (var g = 0u; g < TOGETHER; g++) {
                chunk_largest[g] = max(chunk_largest[g], lane_numbers[g * LANES + i]);
            }
        }
        // unroll
        for (var g = 0u; g < TOGETHER; g++) {
            let shrink = exp(largest[g] - chunk_largest[g]);
            largest[g] = chunk_largest[g];
            own_total[g] *= shrink;
            // unroll
            for (var half = 0u; half < SPREAD; half++) {
                sum[g * SPREAD + half] *= shrink;
            }
        }
        for (var at = lane; at < here; at += LANES) {
            // unroll
            for (var g = 0u; g < TOGETHER; g++) {
                let weight = exp(scores[g * CHUNK + at] - largest[g]);
                own_total[g] += weight;
                scores[g * CHUNK + at] = weight;
            }
        }
        workgroupBarrier();
        if (lane < VECTORS * SUBSETS) {
            var begin = start;
            while (begin < start + here) {
                // Positions of one page, so that it is looked up once.
                let stop = min((begin / PAGE + 1u) * PAGE, start + here);
                let page = pages[table + begin / PAGE];
                let first_value = ((page * KV_HEADS + kv_head) * PAGE + begin % PAGE) * VECTORS + lane % VECTORS;
                for (var i = lane / VECTORS; i < stop - begin; i += SUBSETS) {
                    let value = cached(values[first_value + i * VECTORS]);
                    // unroll
                    for (var g = 0u; g < TOGETHER; g++) {
                        let weight = scores[g * CHUNK + begin - start + i];
                        // unroll
                        for (var half = 0u; half < SPREAD; half++) {
                            sum[g * SPREAD + half] += weight * value[half];
                        }
                    }
                }
                begin = stop;
            }
        }
        workgroupBarrier();
    }
    // unroll
    for (var g = 0u; g < TOGETHER; g++) {
        lane_numbers[g * LANES + lane] = own_total[g];
        // unroll
        for (var half = 0u; half < SPREAD; half++) {
            lane_sums[(g * SPREAD + half) * LANES + lane] = sum[g * SPREAD + half];
        }
    }
    workgroupBarrier();
    var total: array<f32, TOGETHER>;
    for (var i = 0u; i < LANES; i++) {
        // unroll
        for (var g = 0u; g < TOGETHER; g++) {
            total[g] += lane_numbers[g * LANES + i];
        }
    }
    for (var dimension = lane; dimension < HEAD_DIM; dimension += LANES) {
        let half = dimension / (VECTORS * 4u);
        let within = dimension % (VECTORS * 4u);
        // unroll
        for (var g = 0u; g < TOGETHER; g++) {
            var value = 0.0;
            for (var subset = 0u; subset < SUBSETS; subset++) {
                value += lane_sums[(g * SPREAD + half) * LANES + subset * VECTORS + within / 4u][within % 4u];
            }
            numbers[g * HEAD_DIM + dimension] = value / total[g];
        }
    }
    workgroupBarrier();
    return largest[0] + log(total[0]);
}
