// From logits to a prediction: log-probabilities of the chosen and the target token, the most likely
// tokens, and the choice itself (repetition penalty, temperature, top-k, top-p, then Gumbel-max).
//
//   logits    [head rows, vocab] f32; replaced by penalised, tempered logits where a row is sampled
//   seen      [sequences, vocab / 32] bits: tokens that the repetition penalty counts
//   sampled   [sequences] the last sampled token, written
//   records   [rows, RECORD] words 1..: see records.wgsl
//
// One workgroup of LANES a head row; lane i owns tokens i, i + LANES, …
// include step.wgsl
// include records.wgsl

const VOCAB: u32 = {{vocab}};
const SEEN_WORDS: u32 = {{seen_words}};
const LANES: u32 = {{sample_lanes}};
const LOWEST: f32 = -3.4e38;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;
@group(0) @binding(4) var<storage, read_write> records: array<u32>;

var<workgroup> lane_values: array<f32, LANES>;
var<workgroup> lane_tokens: array<u32, LANES>;
var<workgroup> group_values: array<f32, 16>;
var<workgroup> group_tokens: array<u32, 16>;

// A token and its value. Larger values come first, on a tie the lower id.
struct Candidate {
    value: f32,
    token: u32,
}

fn before(a: Candidate, b: Candidate) -> bool {
    return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// The sum over all lanes, known to all.
fn sum_of_lanes(lane: u32, value: f32) -> f32 {
    lane_values[lane] = value;
    workgroupBarrier();
    if (lane < 16u) {
        var sum = 0.0;
        for (var i = lane; i < LANES; i += 16u) {
            sum += lane_values[i];
        }
        group_values[lane] = sum;
    }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 16u; i++) {
        total += group_values[i];
    }
    workgroupBarrier();
    return total;
}

// The first of all lanes' candidates, known to all.
fn first_of_lanes(lane: u32, own: Candidate) -> Candidate {
    lane_values[lane] = own.value;
    lane_tokens[lane] = own.token;
    workgroupBarrier();
    if (lane < 16u) {
        var best = Candidate(lane_values[lane], lane_tokens[lane]);
        for (var i = lane + 16u; i < LANES; i += 16u) {
            let other = Candidate(lane_values[i], lane_tokens[i]);
            if (before(other, best)) {
                best = other;
            }
        }
        group_values[lane] = best.value;
        group_tokens[lane] = best.token;
    }
    workgroupBarrier();
    var best = Candidate(group_values[0], group_tokens[0]);
    for (var i = 1u; i < 16u; i++) {
        let other = Candidate(group_values[i], group_tokens[i]);
        if (before(other, best)) {
            best = other;
        }
    }
    workgroupBarrier();
    return best;
}

// PCG-RXS-M-XS-32; see sampling.rs, whose noise this is bit for bit up to the logarithms.
fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

fn gumbel(seed: u32, position: u32, token: u32) -> f32 {
    let bits = pcg(token ^ pcg(position ^ pcg(seed)));
    let uniform_number = (f32(bits >> 9u) + 0.5) * (1.0 / 8388608.0);
    return -log(-log(uniform_number));
}

// Order-preserving map between floats and integers.
fn key_of(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn value_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

// KL(p ‖ q) in nats of the distributions with the logits at `p` and at `q`, whose logarithm of the sum of exp(logit) is `q_total`.
// Each term is p · (q/p − 1 − log(q/p)): these add up to the same and are never negative, so that nothing cancels.
fn divergence(lane: u32, p: u32, q: u32, q_total: f32) -> f32 {
    var own = Candidate(LOWEST, lane);
    for (var token = lane; token < VOCAB; token += LANES) {
        own.value = max(own.value, logits[p + token]);
    }
    let largest = first_of_lanes(lane, own).value;
    var sum = 0.0;
    for (var token = lane; token < VOCAB; token += LANES) {
        sum += exp(logits[p + token] - largest);
    }
    let p_total = largest + log(sum_of_lanes(lane, sum));
    sum = 0.0;
    for (var token = lane; token < VOCAB; token += LANES) {
        let log_p = logits[p + token] - p_total;
        let log_q = logits[q + token] - q_total;
        let apart = log_q - log_p;
        // exp(apart) − 1 − apart loses its digits where the two are nearly equal: there by its series.
        let series = apart * apart * (0.5 + apart * (0.16666667 + apart * 0.041666667));
        sum += select(exp(log_q) - exp(log_p) * (1.0 + apart), exp(log_p) * series, abs(apart) < 0.05);
    }
    return max(sum_of_lanes(lane, sum), 0.0);
}

// How many tokens (by_mass: how much probability, relative to the largest) have at least this value.
fn measure(lane: u32, base: u32, threshold: f32, largest: f32, by_mass: bool) -> f32 {
    var own = 0.0;
    for (var token = lane; token < VOCAB; token += LANES) {
        let value = logits[base + token];
        if (value >= threshold) {
            own += select(1.0, exp(value - largest), by_mass);
        }
    }
    return sum_of_lanes(lane, own);
}

// The largest threshold of at least `floor` that keeps at least `wanted`.
fn search(lane: u32, base: u32, floor: f32, largest: f32, wanted: f32, by_mass: bool) -> f32 {
    var low = key_of(floor);
    var high = key_of(largest);
    for (var i = 0u; i < 32u; i++) {
        let middle = low + (high - low + 1u) / 2u;
        if (measure(lane, base, value_of(middle), largest, by_mass) >= wanted) {
            low = middle;
        } else {
            high = max(middle, low + 1u) - 1u;
        }
    }
    return value_of(low);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = step.row[group.x].head_row;
    let row = step.row[index];
    let base = group.x * VOCAB;
    let record = index * RECORD;

    var own = Candidate(LOWEST, 0xffffffffu);
    for (var token = lane; token < VOCAB; token += LANES) {
        let candidate = Candidate(logits[base + token], token);
        if (before(candidate, own)) {
            own = candidate;
        }
    }
    var best = first_of_lanes(lane, own);
    let largest = best.value;
    var sum = 0.0;
    for (var token = lane; token < VOCAB; token += LANES) {
        sum += exp(logits[base + token] - largest);
    }
    let log_total = largest + log(sum_of_lanes(lane, sum));

    let likeliest = best;
    for (var place = 0u; place < ALTERNATIVES; place++) {
        if (lane == 0u) {
            records[record + LIKELIEST + place] = best.token;
            records[record + LIKELIEST_LOGPROBS + place] = bitcast<u32>(best.value - log_total);
        }
        if (own.token == best.token) {
            // This lane's best is taken: its next one.
            var next = Candidate(LOWEST, 0xffffffffu);
            for (var token = lane; token < VOCAB; token += LANES) {
                let candidate = Candidate(logits[base + token], token);
                if (before(best, candidate) && before(candidate, next)) {
                    next = candidate;
                }
            }
            own = next;
        }
        best = first_of_lanes(lane, own);
    }

    if (row.head != SAMPLE) {
        if (lane == 0u) {
            records[record + CHOSEN] = likeliest.token;
            records[record + CHOSEN_LOGPROB] = bitcast<u32>(likeliest.value - log_total);
            records[record + WANTED_LOGPROB] = bitcast<u32>(logits[base + row.wanted] - log_total);
        }
        if (row.head == COMPARE && group.x > 0u) {
            let found = divergence(lane, base - VOCAB, base, log_total);
            if (lane == 0u) {
                records[record + DIVERGENCE] = bitcast<u32>(found);
            }
        }
        return;
    }

    // The chosen token's own logit is wanted after the logits were changed; the change is undone for it below.
    let greedy = row.temperature <= 0.0;
    let inverse_temperature = select(1.0 / row.temperature, 1.0, greedy);
    var tempered = LOWEST;
    for (var token = lane; token < VOCAB; token += LANES) {
        var value = logits[base + token];
        if (row.repetition_penalty != 1.0 && (seen[row.sequence * SEEN_WORDS + token / 32u] & (1u << (token % 32u))) != 0u) {
            value = select(value * row.repetition_penalty, value / row.repetition_penalty, value > 0.0);
        }
        value *= inverse_temperature;
        logits[base + token] = value;
        tempered = max(tempered, value);
    }
    // A lane reads only what it wrote until here; from now on all lanes' values are measured by their owners.
    let largest_tempered = first_of_lanes(lane, Candidate(tempered, lane)).value;
    var threshold = LOWEST;
    if (!greedy && row.top_k > 0u && row.top_k < VOCAB) {
        threshold = search(lane, base, LOWEST, largest_tempered, f32(row.top_k), false);
    }
    if (!greedy && row.top_p < 1.0) {
        let mass = measure(lane, base, threshold, largest_tempered, true);
        threshold = search(lane, base, threshold, largest_tempered, row.top_p * mass, true);
    }
    var choice = Candidate(LOWEST, 0xffffffffu);
    for (var token = lane; token < VOCAB; token += LANES) {
        let value = logits[base + token];
        if (value >= threshold) {
            var candidate = Candidate(value, token);
            if (!greedy) {
                candidate.value += gumbel(row.seed, row.position + 1u, token);
            }
            if (before(candidate, choice)) {
                choice = candidate;
            }
        }
    }
    let chosen = first_of_lanes(lane, choice).token;
    if (lane == chosen % LANES) {
        var logit = logits[base + chosen] / inverse_temperature;
        if (row.repetition_penalty != 1.0 && (seen[row.sequence * SEEN_WORDS + chosen / 32u] & (1u << (chosen % 32u))) != 0u) {
            logit = select(logit / row.repetition_penalty, logit * row.repetition_penalty, logit > 0.0);
        }
        records[record + CHOSEN] = chosen;
        records[record + CHOSEN_LOGPROB] = bitcast<u32>(logit - log_total);
        records[record + WANTED_LOGPROB] = bitcast<u32>(0.0);
        sampled[row.sequence] = chosen;
    }
}
