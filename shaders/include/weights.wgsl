// How matrices and activations lie in memory, and how packed numbers become f32.
//
// A matrix [rows, cols] lies in tiles of 64 rows: tile, block of 32 columns, vec4, lane. Lane i of a workgroup owns row
// 64 · tile + i, so that neighbouring invocations read neighbouring vec4s. Where a workgroup has fewer lanes, a tile is
// several strips of as many rows.
//
//     q4    1 vec4: byte j holds weight j (low nibble) and weight j + 16 (high nibble)
//     q5, q6, iq4nl   likewise, without the higher bits of q5 and q6
//     q8, bytes       2 vec4: signed bytes in order
//     f16   4 vec4: halves in order        bf16  4 vec4: likewise        f32  8 vec4
//
// Quantised forms have u32s beside each block, and w = scale · q + minimum:
//
//     q4, q8    f16 scale (low) and f16 minimum (high)        iq4nl  likewise, of the table's numbers
//     q5        likewise; fifth bits: bit g of byte i is that of weight 4g + i
//     q6        f16 scales of the two halves; fifth and sixth bits of the one half, then of the other: bits 2g and 2g + 1 of
//               byte i are those of the half's weight 4g + i; w = scale · (q − 32)
//     bytes     f16 scales of the two halves; f16 minimum
//
// Activations have the same blocks: fast ones 2 vec4 of signed bytes, exact ones 8 vec4 of f32; beside them two vec4 a
// block. Fast ones have a scale for every eight bytes (word j of both halves), as the CPU executor has: the first vec4.
// The second begins with the block's sum. After all blocks' scales: [rows, tiles] vec4, the sum of squares of 64 columns.

// Whether activations are signed bytes with scales, or f32.
const FAST: bool = {{fast}};
// vec4s of a block of activations: 2 or 8.
const INPUT_VEC4S: u32 = {{input_vec4s}};

// The integers of a word become f32 where they lie, so that none is shifted, which software adapters do one invocation at a
// time: byte i is 256^i times too large, and a high nibble 16 times more. Activations are divided by that, which is exact.
const PLACES = vec4<f32>(1.0, 0.00390625, 1.52587890625e-5, 5.9604644775390625e-8);
const HIGH_PLACES = PLACES * 0.0625;

fn low_nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>(
        f32(i32(word & 0xfu)),
        f32(i32(word & 0xf00u)),
        f32(i32(word & 0xf0000u)),
        f32(i32(word & 0xf000000u)),
    );
}

// The highest bit is the sign of what is converted.
fn high_nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>(
        f32(i32(word & 0xf0u)),
        f32(i32(word & 0xf000u)),
        f32(i32(word & 0xf00000u)),
        f32(i32((word & 0xf0000000u) ^ 0x80000000u)) + 2147483648.0,
    );
}

fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(
        f32(i32((word & 0xffu) ^ 0x80u) - 0x80),
        f32(i32((word & 0xff00u) ^ 0x8000u) - 0x8000),
        f32(i32((word & 0xff0000u) ^ 0x800000u) - 0x800000),
        f32(i32(word & 0xff000000u)),
    );
}

fn f16_pair(a: u32, b: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
}

fn bf16_pair(a: u32, b: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}

// Signed bytes of a block's two halves; the scales of the halves and the minimum.
struct Block {
    low: vec4<u32>,
    high: vec4<u32>,
    scale: vec3<f32>,
}

const NIBBLES = vec4<u32>(0x0f0f0f0fu);

fn one_scale(word: u32) -> vec3<f32> {
    return unpack2x16float(word).xxy;
}

fn block_q4(words: array<vec4<u32>, 1>, beside: array<u32, 1>) -> Block {
    return Block(words[0] & NIBBLES, (words[0] >> vec4<u32>(4u)) & NIBBLES, one_scale(beside[0]));
}

fn block_q5(words: array<vec4<u32>, 1>, beside: array<u32, 2>) -> Block {
    let above = vec4<u32>(0x01010101u);
    let bits = vec4<u32>(beside[1]);
    let low = ((bits >> vec4<u32>(0u, 1u, 2u, 3u)) & above) << vec4<u32>(4u);
    let high = ((bits >> vec4<u32>(4u, 5u, 6u, 7u)) & above) << vec4<u32>(4u);
    return Block((words[0] & NIBBLES) | low, ((words[0] >> vec4<u32>(4u)) & NIBBLES) | high, one_scale(beside[0]));
}

// Six bits minus 32 as signed bytes.
fn less_32(nibbles: vec4<u32>, bits: u32) -> vec4<u32> {
    let above = (vec4<u32>(bits) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(0x03030303u);
    let shifted = (nibbles | (above << vec4<u32>(4u))) ^ vec4<u32>(0x20202020u);
    return shifted | ((shifted & vec4<u32>(0x20202020u)) * 6u);
}

fn block_q6(words: array<vec4<u32>, 1>, beside: array<u32, 3>) -> Block {
    let scales = unpack2x16float(beside[0]);
    let high = (words[0] >> vec4<u32>(4u)) & NIBBLES;
    return Block(less_32(words[0] & NIBBLES, beside[1]), less_32(high, beside[2]), vec3<f32>(scales, 0.0));
}

// llama.cpp's `kvalues_iq4nl` of nibbles, byte by byte: each bit of a nibble picks a half of what is left of the table.
fn by_table(nibbles: vec4<u32>) -> vec4<u32> {
    let a = (nibbles & vec4<u32>(0x01010101u)) * 255u;
    let b = ((nibbles >> vec4<u32>(1u)) & vec4<u32>(0x01010101u)) * 255u;
    let c = ((nibbles >> vec4<u32>(2u)) & vec4<u32>(0x01010101u)) * 255u;
    let d = ((nibbles >> vec4<u32>(3u)) & vec4<u32>(0x01010101u)) * 255u;
    let first = picked(b, either(a, 0x81u, 0x98u), either(a, 0xadu, 0xbfu));
    let second = picked(b, either(a, 0xcfu, 0xddu), either(a, 0xeau, 0xf6u));
    let third = picked(b, either(a, 0x01u, 0x0du), either(a, 0x19u, 0x26u));
    let fourth = picked(b, either(a, 0x35u, 0x45u), either(a, 0x59u, 0x71u));
    return picked(d, picked(c, first, second), picked(c, third, fourth));
}

fn picked(mask: vec4<u32>, zero: vec4<u32>, one: vec4<u32>) -> vec4<u32> {
    return zero ^ (mask & (zero ^ one));
}

fn either(mask: vec4<u32>, zero: u32, one: u32) -> vec4<u32> {
    return picked(mask, vec4<u32>(zero * 0x01010101u), vec4<u32>(one * 0x01010101u));
}

fn block_iq4nl(words: array<vec4<u32>, 1>, beside: array<u32, 1>) -> Block {
    return Block(by_table(words[0] & NIBBLES), by_table((words[0] >> vec4<u32>(4u)) & NIBBLES), one_scale(beside[0]));
}

fn block_q8(words: array<vec4<u32>, 2>, beside: array<u32, 1>) -> Block {
    return Block(words[0], words[1], one_scale(beside[0]));
}

fn block_bytes(words: array<vec4<u32>, 2>, beside: array<u32, 2>) -> Block {
    return Block(words[0], words[1], vec3<f32>(unpack2x16float(beside[0]), unpack2x16float(beside[1]).x));
}
