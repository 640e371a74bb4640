// Words of the record that a row of the batch leaves for the host (`gpu/step.rs`).
const RECORD: u32 = {{record_words}};
const ALTERNATIVES: u32 = {{alternatives}};
// The token that it consumed; the chosen one and its log-probability; the log-probability of the token that was asked for;
// the divergence of the head row before from this one; the most likely tokens, and their log-probabilities; the readings.
const TOKEN: u32 = 0u;
const CHOSEN: u32 = 1u;
const CHOSEN_LOGPROB: u32 = 2u;
const WANTED_LOGPROB: u32 = 3u;
const DIVERGENCE: u32 = 4u;
const LIKELIEST: u32 = 5u;
const LIKELIEST_LOGPROBS: u32 = LIKELIEST + ALTERNATIVES;
const READINGS: u32 = LIKELIEST_LOGPROBS + ALTERNATIVES;
