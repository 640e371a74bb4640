// Where numbers lie that are wanted between two operations of a block, and otherwise never leave a kernel: behind the rows of the
// residual stream, [rows, width] f32. A batch has either these there or parts (see parts.wgsl). Where each operation has a kernel of its
// own, every value of a batch has a place there (`gpu/plain.rs`).

const BETWEEN_AT: u32 = {{between_at}};
