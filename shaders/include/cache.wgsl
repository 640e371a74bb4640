// The cache of one block's keys and values, in vec4s of u32: f32, or halves two to a word.
//
//   keys     [sequences, kv_heads, VECTORS, context] vec4, rotated
//   values   [sequences, kv_heads, context, VECTORS] vec4
//
// Halves have dimensions i (low) and i + head_dim / 2 (high) in a word, as the two are made together.

const HEADS: u32 = {{heads}};
const KV_HEADS: u32 = {{kv_heads}};
const HEAD_DIM: u32 = {{head_dim}};
const CONTEXT: u32 = {{context}};
const HALF_CACHE: bool = {{half_cache}};
// Numbers in a word, and vec4s of a key or value.
const SPREAD: u32 = {{spread}};
const VECTORS: u32 = HEAD_DIM / (4u * SPREAD);
