// The boundary between two blocks: steers layer l, reads its directions, captures it, and normalises it
// for what comes next. One kernel, because all of it needs the whole row.
//
//   residual       [rows, d] f32, changed in place{% if parts is defined %}: the block's parts, which lie behind it (see parts.wgsl), are added{% else %} where a steering change acts{% endif %}
//   changes        [slots, L+1] of CHANGE words: additions?, clamps, -, -, add[d], then MAX_CLAMPS of low, high, direction[d]
//   directions     [L+1, d, 16] f32, unit length along d
//   gain           [d] f32, of the norm that follows
//   outputs        [rows, d] activations in blocks (see weights.wgsl), normalised
//   records        [rows, RECORD] f32 bits: word READINGS + 16 l + k is the reading of direction k
//   captured       [L+1, MAX_ROWS, d] f32, written when asked for
//
// One workgroup of {{ lanes }} a row.
{% import "outputs.wgsl" as outputs %}
{% import "parts.wgsl" as residual_parts %}
{% include "step.wgsl" %}
struct LayerIndex {
    layer: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
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
@group(0) @binding(4) var<storage, read> directions: array<f32>;
@group(0) @binding(5) var<storage, read> gain: array<f32>;
@group(0) @binding(6) var<storage, read_write> outputs: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> output_scales: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> records: array<u32>;
@group(0) @binding(9) var<storage, read_write> captured: array<f32>;

var<workgroup> values: array<f32, D>;
var<workgroup> partial: array<f32, {{ lanes }}>;
{%- if parts is defined %}
{{ residual_parts.reading(1) }}
{%- endif %}

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
    for (var i = lane; i < D; i += {{ lanes }}u) {
{%- if parts is defined %}
        var value = attended(0u, index, i, splits);
        for (var part = FEED_FORWARD; part < PARTS; part++) {
            value += residual[PARTS_AT + (index * PARTS + part) * D + i];
        }
{%- else %}
        var value = residual[index * D + i];
{%- endif %}
        if (adds) {
            value += changes[change + 4u + i];
        }
        values[i] = value;
    }
    workgroupBarrier();

    if (clamps > 0u) {
        // {{ lanes // max_clamps }} lanes share a clamp; all components are measured before any is changed.
        let clamp_index = lane / {{ lanes // max_clamps }}u;
        let at = change + 4u + D + clamp_index * (D + 2u);
        var sum = 0.0;
        if (clamp_index < clamps) {
            for (var i = lane % {{ lanes // max_clamps }}u; i < D; i += {{ lanes // max_clamps }}u) {
                sum += values[i] * changes[at + 2u + i];
            }
        }
        partial[lane] = sum;
        workgroupBarrier();
        for (var i = lane; i < D; i += {{ lanes }}u) {
            var value = values[i];
            for (var c = 0u; c < clamps; c++) {
                var component = 0.0;
                for (var part = 0u; part < {{ lanes // max_clamps }}u; part++) {
                    component += partial[c * {{ lanes // max_clamps }}u + part];
                }
                let own = change + 4u + D + c * (D + 2u);
                let shift = clamp(component, changes[own], changes[own + 1u]) - component;
                value += shift * changes[own + 2u + i];
            }
            values[i] = value;
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

    if (step.directions > 0u) {
        // {{ lanes // 16 }} lane{{ "s share" if lanes > 16 else " has" }} a direction.
        let direction = lane % 16u;
        var sum = 0.0;
        if (direction < step.directions) {
            for (var i = lane / 16u; i < D; i += {{ lanes // 16 }}u) {
                sum += values[i] * directions[(here.layer * D + i) * 16u + direction];
            }
        }
        partial[lane] = sum;
        workgroupBarrier();
        if (lane < step.directions) {
            let reading = {% for share in range(lanes // 16) %}{{ " + " if not loop.first }}partial[lane + {{ share * 16 }}u]{% endfor %};
            records[index * RECORD + READINGS + here.layer * 16u + lane] = bitcast<u32>(reading);
        }
        workgroupBarrier();
    }

    var squares = 0.0;
    for (var i = lane; i < D; i += {{ lanes }}u) {
        squares += values[i] * values[i];
    }
    partial[lane] = squares;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < {{ lanes }}u; i++) {
        total += partial[i];
    }
    let scale = inverseSqrt(total / f32(D) + EPSILON);
    for (var i = lane; i < D; i += {{ lanes }}u) {
        values[i] *= scale * gain[i];
    }
    workgroupBarrier();
    for (var block = lane; block < BLOCKS; block += {{ lanes }}u) {
{{ outputs.write_block(precision, "values", "block * 32u", "index * BLOCKS + block") }}
    }
}
