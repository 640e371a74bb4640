// A norm of every WIDTH neighbouring numbers of a value by themselves: by their root mean square, or as a layer norm around their
// mean; then a gain, and a bias where there is one.
//
//   values   the values of a batch, one after another, each [MAX_ROWS, its width] f32: one is read, one (perhaps the same) written
//   gain     [WIDTH] f32
//   bias     [WIDTH] f32, read where BIASED
//
// One workgroup of LANES for WIDTH numbers (x) of a row (y); a lane has every LANES-th of them.

const LANES: u32 = 64u;
const WIDTH: u32 = {{width}};
// Numbers of a row, and where the value that is read and the one that is written begin.
const ROW_WIDTH: u32 = {{row_width}};
const OF_AT: u32 = {{of_at}};
const TO_AT: u32 = {{to_at}};
const CENTRED: bool = {{centred}};
const BIASED: bool = {{biased}};
const EPSILON: f32 = {{epsilon}};

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read> gain: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;

var<workgroup> lane_sums: array<f32, LANES>;

// The sum of every lane's own, for all of them.
fn over_workgroup(lane: u32, own: f32) -> f32 {
    // Somebody may still be reading the last ones.
    workgroupBarrier();
    lane_sums[lane] = own;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < LANES; i++) {
        total += lane_sums[i];
    }
    return total;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.y * ROW_WIDTH + group.x * WIDTH;
    var mean = 0.0;
    if (CENTRED) {
        var own = 0.0;
        for (var i = lane; i < WIDTH; i += LANES) {
            own += values[OF_AT + first + i];
        }
        mean = over_workgroup(lane, own) / f32(WIDTH);
    }
    var squares = 0.0;
    for (var i = lane; i < WIDTH; i += LANES) {
        let x = values[OF_AT + first + i] - mean;
        squares += x * x;
    }
    let scale = inverseSqrt(over_workgroup(lane, squares) / f32(WIDTH) + EPSILON);
    for (var i = lane; i < WIDTH; i += LANES) {
        var x = (values[OF_AT + first + i] - mean) * scale * gain[i];
        if (BIASED) {
            x += bias[i];
        }
        values[TO_AT + first + i] = x;
    }
}
