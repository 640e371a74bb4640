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

{#- For readers: how much each of attention's parts counts. `rows` is how many rows a workgroup reads. -#}
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

{%- endmacro %}

{#- Declares column0.. and value0..: `columns` columns of a row, a workgroup's width apart from `first` on, after attention's parts were added, and
    with `whole` the others. They are added up side by side, so that none waits for another's load. A column that is none is the last. -#}
{%- macro columns_of(place, row, splits, columns, whole) %}
    {%- for c in range(columns) %}
            let column{{ c }} = min(first + {{ c * lanes }}u, D - 1u);
            var value{{ c }} = residual[{{ row }} * D + column{{ c }}];
    {%- endfor %}
            if ({{ splits }} == 1u) {
                for (var part = 0u; part < {{ parts.groups }}u; part++) {
                    let source = PARTS_AT + ({{ row }} * PARTS + part) * D;
    {%- for c in range(columns) %}
                    value{{ c }} += residual[source + column{{ c }}];
    {%- endfor %}
                }
            } else {
                for (var part = 0u; part < {{ parts.groups }}u * {{ splits }}; part++) {
                    let source = PARTS_AT + ({{ row }} * PARTS + part) * D;
                    let share = shares[{{ place }} * FEED_FORWARD + part];
    {%- for c in range(columns) %}
                    value{{ c }} += share * residual[source + column{{ c }}];
    {%- endfor %}
                }
            }
    {%- if whole %}
            for (var part = FEED_FORWARD; part < PARTS; part++) {
                let source = PARTS_AT + ({{ row }} * PARTS + part) * D;
        {%- for c in range(columns) %}
                value{{ c }} += residual[source + column{{ c }}];
        {%- endfor %}
            }
    {%- endif %}
{%- endmacro %}
