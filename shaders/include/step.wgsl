// What the host writes before a submission (`gpu/step.rs`): the rows (tokens) of the batch and what is wanted of each.

struct Row {
    sequence: u32,
    position: u32,
    // Vocabulary id, or SAMPLED: the token sampled last in this sequence.
    token: u32,
    // 0: none; else one more than the slot of the steering change.
    change: u32,
    // SKIP, SAMPLE, SCORE or COMPARE.
    head: u32,
    // The token whose log-probability a scored row asks for.
    wanted: u32,
    seed: u32,
    top_k: u32,
    temperature: f32,
    top_p: f32,
    repetition_penalty: f32,
    // Index of the row that is head row i; it lies in row[i] and has nothing to do with that row.
    head_row: u32,
    // The page of the cache that takes this position (see cache.wgsl).
    page: u32,
    // As `change`, of the change of what lies within blocks.
    inside: u32,
    pad0: u32,
    pad1: u32,
}

struct Step {
    rows: u32,
    head_rows: u32,
    // A bit for each place, in the order of `Place`: whether what lies there is captured.
    capture: u32,
    // A bit for each direction, of each place: whether it is read there.
    read: vec4<u32>,
    row: array<Row, MAX_ROWS>,
}

const MAX_ROWS: u32 = {{max_rows}};
const SAMPLED: u32 = 0xffffffffu;
// No output head; sample the next token; score a token; score it, and compare with the head row before.
const SKIP: u32 = 0u;
const SAMPLE: u32 = 1u;
const SCORE: u32 = 2u;
const COMPARE: u32 = 3u;
