{#-
A batch of few rows leaves its changes of the residual stream as parts that the next reader adds up: one part a head (and
split of its keys) of the attention's output, one part a workgroup of the feed-forward part. They lie behind the rows in the
buffer `residual`:

    PARTS_AT   [few rows, PARTS, d] f32: groups · splits parts of attention (split by split), then those of the feed-forward part
    SUMS_AT    [few rows, splits, groups] f32: the logarithm of the sum of exp(score) over a split's keys

A group is the heads of one workgroup; where keys are split it is one head. The kernel knows D. A head's splits are means over
their own keys; each counts by its share of that sum.
-#}
{%- macro declarations() %}
const SPLITS: u32 = {{ parts.splits }}u;
const FEED_FORWARD: u32 = {{ parts.groups * parts.splits }}u;
const PARTS: u32 = {{ parts.groups * parts.splits + parts.feed_forward }}u;
const PARTS_AT: u32 = {{ max_rows * d }}u;
const SUMS_AT: u32 = {{ max_rows * d + parts.rows * (parts.groups * parts.splits + parts.feed_forward) * d }}u;

// Into how many splits the keys of a row at this position fall.
fn splits_at(position: u32) -> u32 {
    return min(SPLITS, position / {{ parts.split_keys }}u + 1u);
}
{%- endmacro %}

{#- For readers: `shares` and how a column's attention parts are added up. `rows` is how many rows a workgroup reads. -#}
{%- macro reading(rows) %}
var<workgroup> shares: array<f32, {{ rows * parts.groups * parts.splits }}>;

// Fills the shares of row `row`, the `place`-th of its workgroup.
fn weigh_splits(lane: u32, place: u32, row: u32, splits: u32) {
    for (var head = lane; head < {{ parts.groups }}u; head += {{ lanes }}u) {
        let at = SUMS_AT + row * FEED_FORWARD + head;
        var largest = residual[at];
        for (var split = 1u; split < splits; split++) {
            largest = max(largest, residual[at + split * {{ parts.groups }}u]);
        }
        var total = 0.0;
        for (var split = 0u; split < splits; split++) {
            total += exp(residual[at + split * {{ parts.groups }}u] - largest);
        }
        for (var split = 0u; split < splits; split++) {
            shares[place * FEED_FORWARD + split * {{ parts.groups }}u + head] = exp(residual[at + split * {{ parts.groups }}u] - largest) / total;
        }
    }
}

// The residual after the attention's output was added.
fn attended(place: u32, row: u32, column: u32, splits: u32) -> f32 {
    var value = residual[row * D + column];
    let at = PARTS_AT + row * PARTS * D + column;
    if (splits == 1u) {
        for (var part = 0u; part < {{ parts.groups }}u; part++) {
            value += residual[at + part * D];
        }
    } else {
        for (var part = 0u; part < {{ parts.groups }}u * splits; part++) {
            value += shares[place * FEED_FORWARD + part] * residual[at + part * D];
        }
    }
    return value;
}
{%- endmacro %}
