// A place where a plan acts: steers what lies there, reads its directions, captures it, and hands it on to what comes next. One
// kernel, because all of it needs the whole row. Each place (`include/place_*.wgsl`: residual, after_attention, heads) says where its
// numbers lie and how they go on. Only the first is passed by every batch; the others by those of which something is wanted there.
//
//   residual       [rows, d] f32, changed in place: where it lies in parts (see parts.wgsl) they are added, then steering acts;
//                  behind it what lies at the other places (see between.wgsl)
//   changes        [slots, L+1] of CHANGE words: additions?, clamps, -, -, add[w], then MAX_CLAMPS of low, high, direction[w],
//                  w the width of the place
//   directions     [L+1, w, 4] vec4 of f32, sixteen directions of unit length along w
//   gain           [d] f32, of the norm that follows
//   outputs        [rows, w] activations in blocks (see weights.wgsl), normalised where a norm follows
//   records        [rows, RECORD] f32 bits: word READINGS + 16 l + k is the reading of direction k
//   captured       [L+1, MAX_ROWS, w] f32, written when asked for
//
// One workgroup of LANES a row; a lane has every LANES-th column.
// include step.wgsl
// include weights.wgsl
// include records.wgsl

struct LayerIndex {
    layer: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

// What is added up over a workgroup.
struct Sums {
    four: vec4<f32>,
    one: f32,
}

const D: u32 = {{d}};
const LANES: u32 = {{lanes}};
// Rows of a workgroup.
const PART_ROWS: u32 = 1u;
// Width of the place.
const WIDTH: u32 = {{width}};
const BLOCKS: u32 = WIDTH / 32u;
const LAYER_ROWS: u32 = {{layer_rows}};
const CHANGE: u32 = {{change_words}};
const MAX_CLAMPS: u32 = {{max_clamps}};
const EPSILON: f32 = {{epsilon}};
// Lanes that add up in a first step; none where there are few enough for one.
const ADDERS: u32 = {{adders}};

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> here: LayerIndex;
@group(0) @binding(2) var<storage, read_write> residual: array<f32>;
@group(0) @binding(3) var<storage, read> changes: array<f32>;
@group(0) @binding(4) var<storage, read> directions: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> gain: array<f32>;
@group(0) @binding(6) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> output_scales: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> records: array<u32>;
@group(0) @binding(9) var<storage, read_write> captured: array<f32>;

// The row.
var<workgroup> numbers: array<f32, WIDTH>;
var<workgroup> lane_sums: array<Sums, LANES>;
var<workgroup> subtotals: array<Sums, max(ADDERS, 1u)>;

// include place_{{place}}.wgsl
// include encode.wgsl

// The sums of every lane's own, for all of them.
fn over_workgroup(lane: u32, four: vec4<f32>, one: f32) -> Sums {
    // Somebody may still be reading the last ones.
    workgroupBarrier();
    lane_sums[lane] = Sums(four, one);
    workgroupBarrier();
    var total = Sums(vec4<f32>(0.0), 0.0);
    if (ADDERS > 0u) {
        if (lane < ADDERS) {
            for (var i = lane; i < LANES; i += ADDERS) {
                total.four += lane_sums[i].four;
                total.one += lane_sums[i].one;
            }
            subtotals[lane] = total;
        }
        workgroupBarrier();
        total = Sums(vec4<f32>(0.0), 0.0);
        for (var i = 0u; i < ADDERS; i++) {
            total.four += subtotals[i].four;
            total.one += subtotals[i].one;
        }
    } else {
        for (var i = 0u; i < LANES; i++) {
            total.four += lane_sums[i].four;
            total.one += lane_sums[i].one;
        }
    }
    return total;
}

fn record(index: u32, lane: u32, quad: u32, readings: vec4<f32>) {
    let direction = quad * 4u + lane;
    if (lane < 4u && ((step.read[PLACE] >> direction) & 1u) != 0u) {
        records[index * RECORD + READINGS + here.layer * 16u + direction] = bitcast<u32>(readings[lane]);
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = group.x;
    let position = step.row[index].position;
    let slot = slot_of(index);
    let change = ((max(slot, 1u) - 1u) * LAYER_ROWS + here.layer) * CHANGE;
    let adds = slot != 0u && changes[change] != 0.0;
    // Ablation and clamping leave the first token alone.
    let clamps = select(0u, u32(changes[change + 1u]), slot != 0u && position != 0u);

    let splits = splits_at(position);
    if (splits > 1u) {
        weigh_splits(lane, 0u, index, splits);
        workgroupBarrier();
    }
    for (var first = lane; first < WIDTH; first += COLUMNS * LANES) {
        // Asked for before the parts, so that they come meanwhile.
        var added: array<f32, COLUMNS>;
        // unroll
        for (var c = 0u; c < COLUMNS; c++) {
            added[c] = 0.0;
        }
        if (adds) {
            // unroll
            for (var c = 0u; c < COLUMNS; c++) {
                added[c] = changes[change + 4u + min(first + c * LANES, WIDTH - 1u)];
            }
        }
        let sums = columns_of(first, 0u, index, splits, true);
        // unroll
        for (var c = 0u; c < COLUMNS; c++) {
            if (first + c * LANES < WIDTH) {
                numbers[first + c * LANES] = sums[c] + added[c];
            }
        }
    }
    workgroupBarrier();

    if (clamps > 0u) {
        // All components are measured before any is changed.
        let at = change + 4u + WIDTH;
        var own = vec4<f32>(0.0);
        for (var i = lane; i < WIDTH; i += LANES) {
            // unroll
            for (var c = 0u; c < MAX_CLAMPS; c++) {
                if (c < clamps) {
                    own[c] += numbers[i] * changes[at + c * (WIDTH + 2u) + 2u + i];
                }
            }
        }
        let components = over_workgroup(lane, own, 0.0).four;
        for (var c = 0u; c < clamps; c++) {
            let bounds = at + c * (WIDTH + 2u);
            let shift = clamp(components[c], changes[bounds], changes[bounds + 1u]) - components[c];
            for (var i = lane; i < WIDTH; i += LANES) {
                numbers[i] += shift * changes[bounds + 2u + i];
            }
        }
        workgroupBarrier();
    }

    let captures = ((step.capture >> PLACE) & 1u) != 0u;
    if (captures || (KEPT && (IN_PARTS || slot != 0u))) {
        for (var i = lane; i < WIDTH; i += LANES) {
            if (KEPT) {
                residual[AT + index * WIDTH + i] = numbers[i];
            }
            if (captures) {
                captured[(here.layer * MAX_ROWS + index) * WIDTH + i] = numbers[i];
            }
        }
    }

    // Four directions at once, as they lie together; the first of them with the row's length.
    var squares = 0.0;
    var own = vec4<f32>(0.0);
    for (var i = lane; i < WIDTH; i += LANES) {
        let value = numbers[i];
        squares += value * value;
        if (step.read[PLACE] != 0u) {
            own += value * directions[(here.layer * WIDTH + i) * 4u];
        }
    }
    let sums = over_workgroup(lane, own, squares);
    record(index, lane, 0u, sums.four);
    for (var quad = 1u; (step.read[PLACE] >> (quad * 4u)) != 0u; quad++) {
        own = vec4<f32>(0.0);
        for (var i = lane; i < WIDTH; i += LANES) {
            own += numbers[i] * directions[(here.layer * WIDTH + i) * 4u + quad];
        }
        record(index, lane, quad, over_workgroup(lane, own, 0.0).four);
    }
    hand_on(index, lane, sums.one);
    for (var block = lane; HANDED_ON && block < BLOCKS; block += LANES) {
        let coded = encoded(block * 32u);
        let at = index * BLOCKS + block;
        // unroll
        for (var v = 0u; v < INPUT_VEC4S; v++) {
            outputs[at * INPUT_VEC4S + v] = coded.words[v];
        }
        output_scales[at * 2u] = coded.units;
        output_scales[at * 2u + 1u] = vec4<f32>(coded.total, 0.0, 0.0, 0.0);
    }
}
