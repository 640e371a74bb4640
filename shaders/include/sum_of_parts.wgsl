// Reading a residual stream that lies in parts (see parts.wgsl), by a workgroup of LANES for up to PART_ROWS rows.
// include parts.wgsl

// Columns that a lane adds up side by side, so that none waits for another's load.
const COLUMNS: u32 = {{columns}};
const IN_PARTS: bool = true;

// How much each of attention's parts counts.
var<workgroup> shares: array<f32, PART_ROWS * FEED_FORWARD>;

// Fills the shares of row `row`, the `place`-th of its workgroup.
fn weigh_splits(lane: u32, place: u32, row: u32, splits: u32) {
    for (var head = lane; head < GROUPS; head += LANES) {
        let at = SUMS_AT + row * FEED_FORWARD + head;
        var largest = residual[at];
        for (var split = 1u; split < splits; split++) {
            largest = max(largest, residual[at + split * GROUPS]);
        }
        var total = 0.0;
        for (var split = 0u; split < splits; split++) {
            total += exp(residual[at + split * GROUPS] - largest);
        }
        for (var split = 0u; split < splits; split++) {
            shares[place * FEED_FORWARD + split * GROUPS + head] = exp(residual[at + split * GROUPS] - largest) / total;
        }
    }
}

// Columns first, first + LANES, … of row `row` after attention's parts were added, and with `whole` the others. A column that is
// none is the last.
fn columns_of(first: u32, place: u32, row: u32, splits: u32, whole: bool) -> array<f32, COLUMNS> {
    var column: array<u32, COLUMNS>;
    var sum: array<f32, COLUMNS>;
    // unroll
    for (var c = 0u; c < COLUMNS; c++) {
        column[c] = min(first + c * LANES, D - 1u);
        sum[c] = residual[row * D + column[c]];
    }
    if (splits == 1u) {
        for (var part = 0u; part < GROUPS; part++) {
            let source = PARTS_AT + (row * PARTS + part) * D;
            // unroll
            for (var c = 0u; c < COLUMNS; c++) {
                sum[c] += residual[source + column[c]];
            }
        }
    } else {
        for (var part = 0u; part < GROUPS * splits; part++) {
            let source = PARTS_AT + (row * PARTS + part) * D;
            let share = shares[place * FEED_FORWARD + part];
            // unroll
            for (var c = 0u; c < COLUMNS; c++) {
                sum[c] += share * residual[source + column[c]];
            }
        }
    }
    if (whole) {
        for (var part = FEED_FORWARD; part < PARTS; part++) {
            let source = PARTS_AT + (row * PARTS + part) * D;
            // unroll
            for (var c = 0u; c < COLUMNS; c++) {
                sum[c] += residual[source + column[c]];
            }
        }
    }
    return sum;
}
