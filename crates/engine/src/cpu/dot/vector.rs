//! A register of f32 numbers, for products that add rows to rows: a lane is a column there, so that no sum goes across lanes.

/// # Safety
/// The methods' callers were compiled for the instructions of the implementation, which the processor has; pointers are to
/// [`Self::LANES`] numbers.
pub trait Vector: Copy {
    const LANES: usize;
    /// Rows of two registers each whose sums fit the processor's registers, beside what they are made of.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self · by + sum`, rounded once or twice.
    unsafe fn multiply_add(self, by: Self, sum: Self) -> Self;
}
