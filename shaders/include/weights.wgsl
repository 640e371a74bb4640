// How matrices and activations lie in memory, and how packed numbers become f32.
//
// A matrix [rows, cols] lies in tiles of 64 rows: tile, block of 32 columns, vec4, lane. Lane i of a workgroup owns row
// 64 · tile + i, so that neighbouring invocations read neighbouring vec4s. Where a workgroup has fewer lanes, a tile is
// several strips of as many rows.
//
//     q4    1 vec4: byte j holds weight j (low nibble) and weight j + 16 (high nibble)
//     q8    2 vec4: signed bytes in order
//     f16   4 vec4: halves in order        bf16  4 vec4: likewise        f32  8 vec4
//
// Quantised forms have one u32 a block beside them: f16 scale (low) and f16 minimum (high), w = scale · q + minimum.
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
