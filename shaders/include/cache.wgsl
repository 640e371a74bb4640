// The cache of one block's keys and values, in vec4s of u32: f32, or halves two to a word.
//
//   keys     [pages, kv_heads, VECTORS, PAGE] vec4, rotated
//   values   [pages, kv_heads, PAGE, VECTORS] vec4
//
// A page holds PAGE positions. Sequences share the pages of what they have in common; which pages a sequence holds is in a table
// that readers bind (see attend.wgsl), and the page that a row is written to comes with the row.
//
// Halves have dimensions i (low) and i + head_dim / 2 (high) in a word, as the two are made together.

const HEADS: u32 = {{heads}};
const KV_HEADS: u32 = {{kv_heads}};
const HEAD_DIM: u32 = {{head_dim}};
// Positions of a page, and pages of a sequence at most.
const PAGE: u32 = {{page}};
const SEQUENCE_PAGES: u32 = {{sequence_pages}};
const HALF_CACHE: bool = {{half_cache}};
// Numbers in a word, and vec4s of a key or value.
const SPREAD: u32 = {{spread}};
const VECTORS: u32 = HEAD_DIM / (4u * SPREAD);
