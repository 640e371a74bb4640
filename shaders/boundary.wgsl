// The boundary between two blocks: steers layer l, reads its directions, captures it, and normalises it
// for what comes next. One kernel, because all of it needs the whole row.
//
//   residual       [rows, d] f32, changed in place{% if parts is defined %}: the block's parts, which lie behind it (see parts.wgsl), are added{% else %} where a steering change acts{% endif %}
//   changes        [slots, L+1] of CHANGE words: additions?, clamps, -, -, add[d], then MAX_CLAMPS of low, high, direction[d]
//   directions     [L+1, d, 4] vec4 of f32, sixteen directions of unit length along d
//   gain           [d] f32, of the norm that follows
//   outputs        [rows, d] activations in blocks (see weights.wgsl), normalised
//   records        [rows, RECORD] f32 bits: word READINGS + 16 l + k is the reading of direction k
//   captured       [L+1, MAX_ROWS, d] f32, written when asked for
//
// One workgroup of {{ lanes }} a row; a lane has every {{ lanes }}th column.
{% import "outputs.wgsl" as outputs %}
{% import "parts.wgsl" as residual_parts %}
{% include "step.wgsl" %}
struct LayerIndex {
    layer: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

// Of what is added up over a workgroup.
struct Sums {
    four: vec4<f32>,
    one: f32,
}

const D: u32 = {{ d }}u;
{%- if parts is defined %}
{{ residual_parts.declarations() }}
{%- endif %}
const BLOCKS: u32 = {{ d // 32 }}u;
const LAYER_ROWS: u32 = {{ layer_rows }}u;
const MAX_ROWS: u32 = {{ max_rows }}u;
const RECORD: u32 = {{ record_words }}u;
const READINGS: u32 = {{ readings_at }}u;
const CHANGE: u32 = {{ change_words }}u;
const EPSILON: f32 = {{ epsilon }};

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

var<workgroup> values: array<f32, D>;
var<workgroup> partial: array<Sums, {{ lanes }}>;
{%- if lanes > 32 %}
var<workgroup> subtotals: array<Sums, 16>;
{%- endif %}
{%- if parts is defined %}
{{ residual_parts.reading(1) }}
{%- endif %}

// The sums of every lane's own, for all of them.
fn over_workgroup(lane: u32, four: vec4<f32>, one: f32) -> Sums {
    // Somebody may still be reading the last ones.
    workgroupBarrier();
    partial[lane] = Sums(four, one);
    workgroupBarrier();
    var total = Sums(vec4<f32>(0.0), 0.0);
{%- if lanes > 32 %}
    if (lane < 16u) {
        for (var i = lane; i < {{ lanes }}u; i += 16u) {
            total.four += partial[i].four;
            total.one += partial[i].one;
        }
        subtotals[lane] = total;
    }
    workgroupBarrier();
    total = Sums(vec4<f32>(0.0), 0.0);
    for (var i = 0u; i < 16u; i++) {
        total.four += subtotals[i].four;
        total.one += subtotals[i].one;
    }
{%- else %}
    for (var i = 0u; i < {{ lanes }}u; i++) {
        total.four += partial[i].four;
        total.one += partial[i].one;
    }
{%- endif %}
    return total;
}

fn record(index: u32, lane: u32, quad: u32, readings: vec4<f32>) {
    let direction = quad * 4u + lane;
    if (lane < 4u && direction < step.directions) {
        records[index * RECORD + READINGS + here.layer * 16u + direction] = bitcast<u32>(readings[lane]);
    }
}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = group.x;
    let position = step.row[index].position;
    let slot = step.row[index].change;
    let change = ((max(slot, 1u) - 1u) * LAYER_ROWS + here.layer) * CHANGE;
    let adds = slot != 0u && changes[change] != 0.0;
    // Ablation and clamping leave the first token alone.
    let clamps = select(0u, u32(changes[change + 1u]), slot != 0u && position != 0u);

{% if parts is defined %}
    let splits = splits_at(position);
    if (splits > 1u) {
        weigh_splits(lane, 0u, index, splits);
        workgroupBarrier();
    }
{%- endif %}
    for (var first = lane; first < D; first += {{ columns * lanes }}u) {
        // Asked for before the parts, so that they come meanwhile.
{%- for c in range(columns) %}
        var added{{ c }} = 0.0;
{%- endfor %}
        if (adds) {
{%- for c in range(columns) %}
            added{{ c }} = changes[change + 4u + min(first + {{ c * lanes }}u, D - 1u)];
{%- endfor %}
        }
{%- if parts is defined %}
{{- residual_parts.columns_of("0u", "index", "splits", columns, true) }}
{%- else %}
    {%- for c in range(columns) %}
            let column{{ c }} = min(first + {{ c * lanes }}u, D - 1u);
            var value{{ c }} = residual[index * D + column{{ c }}];
    {%- endfor %}
{%- endif %}
{%- for c in range(columns) %}
        value{{ c }} += added{{ c }};
        {% if d % (lanes * columns) != 0 %}if (first + {{ c * lanes }}u < D) {% endif %}{
            values[column{{ c }}] = value{{ c }};
        }
{%- endfor %}
    }
    workgroupBarrier();

    if (clamps > 0u) {
        // All components are measured before any is changed.
        let at = change + 4u + D;
        var own = vec4<f32>(0.0);
        for (var i = lane; i < D; i += {{ lanes }}u) {
{%- for c in range(max_clamps) %}
            if ({{ c }}u < clamps) {
                own.{{ "xyzw"[c] }} += values[i] * changes[at + {{ c }}u * (D + 2u) + 2u + i];
            }
{%- endfor %}
        }
        let components = over_workgroup(lane, own, 0.0).four;
        for (var c = 0u; c < clamps; c++) {
            let bounds = at + c * (D + 2u);
            let shift = clamp(components[c], changes[bounds], changes[bounds + 1u]) - components[c];
            for (var i = lane; i < D; i += {{ lanes }}u) {
                values[i] += shift * changes[bounds + 2u + i];
            }
        }
        workgroupBarrier();
    }

    if ({{ "true" if parts is defined else "slot != 0u || step.capture != 0u" }}) {
        for (var i = lane; i < D; i += {{ lanes }}u) {
            residual[index * D + i] = values[i];
            if (step.capture != 0u) {
                captured[(here.layer * MAX_ROWS + index) * D + i] = values[i];
            }
        }
    }

    // Four directions at once, as they lie together; the first of them with the row's length.
    var squares = 0.0;
    var own = vec4<f32>(0.0);
    for (var i = lane; i < D; i += {{ lanes }}u) {
        let value = values[i];
        squares += value * value;
        if (step.directions > 0u) {
            own += value * directions[(here.layer * D + i) * 4u];
        }
    }
    let sums = over_workgroup(lane, own, squares);
    record(index, lane, 0u, sums.four);
    for (var quad = 1u; quad * 4u < step.directions; quad++) {
        own = vec4<f32>(0.0);
        for (var i = lane; i < D; i += {{ lanes }}u) {
            own += values[i] * directions[(here.layer * D + i) * 4u + quad];
        }
        record(index, lane, quad, over_workgroup(lane, own, 0.0).four);
    }
    let scale = inverseSqrt(sums.one / f32(D) + EPSILON);
    for (var i = lane; i < D; i += {{ lanes }}u) {
        values[i] *= scale * gain[i];
    }
    workgroupBarrier();
    for (var block = lane; block < BLOCKS; block += {{ lanes }}u) {
{{ outputs.write_block(precision, "values", "block * 32u", "index * BLOCKS + block") }}
    }
}
