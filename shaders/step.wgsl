// What the host writes before a submission: the rows (tokens) of the batch and what is wanted of each.
// Included by every kernel that looks at rows.

struct Row {
    sequence: u32,
    position: u32,
    // Vocabulary id, or SAMPLED: what was sampled last in this sequence.
    token: u32,
    // 0: none; else one more than the slot of the steering change.
    change: u32,
    // 0: no output head; 1: sample; 2: score.
    head: u32,
    // Of a scored row: the token whose log-probability is wanted.
    wanted: u32,
    seed: u32,
    top_k: u32,
    temperature: f32,
    top_p: f32,
    repetition_penalty: f32,
    // The entry of head row i (not of this row) is in rows[i]: the index of its row.
    head_row: u32,
}

struct Step {
    rows: u32,
    head_rows: u32,
    directions: u32,
    capture: u32,
    row: array<Row, {{ max_rows }}>,
}

const SAMPLED: u32 = 0xffffffffu;
