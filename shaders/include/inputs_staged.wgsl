// The activations of a projection, STAGE blocks of them at a time copied to workgroup memory, where all 64 lanes find them.

const STAGE: u32 = {{stage}};
// vec4s of a row's staged blocks.
const STAGED_VEC4S: u32 = STAGE * INPUT_VEC4S;

var<workgroup> staged_inputs: array<vec4<u32>, TOKENS * STAGED_VEC4S>;
var<workgroup> staged_scales: array<vec4<f32>, TOKENS * STAGE * 2u>;

fn input_word(at: u32) -> vec4<u32> {
    return staged_inputs[at];
}

fn input_scale(at: u32) -> vec4<f32> {
    return staged_scales[at];
}

// Copies blocks `first` and following of the workgroup's rows.
fn stage(lane: u32, first_row: u32, first: u32) {
    workgroupBarrier();
    for (var i = lane; i < TOKENS * STAGED_VEC4S; i += 64u) {
        let row = min(first_row + i / STAGED_VEC4S, step.rows - 1u);
        let word = first * INPUT_VEC4S + i % STAGED_VEC4S;
        if (word < BLOCKS * INPUT_VEC4S) {
            staged_inputs[i] = inputs[row * (BLOCKS * INPUT_VEC4S) + word];
        }
    }
    for (var i = lane; i < TOKENS * STAGE * 2u; i += 64u) {
        let row = min(first_row + i / (STAGE * 2u), step.rows - 1u);
        let word = first * 2u + i % (STAGE * 2u);
        if (word < BLOCKS * 2u) {
            staged_scales[i] = input_scales[row * (BLOCKS * 2u) + word];
        }
    }
    workgroupBarrier();
}

// Where block `block` of row `row`, the t-th of this workgroup, lies.
fn input_place(t: u32, row: u32, block: u32, first: u32) -> u32 {
    return t * STAGE + block - first;
}
