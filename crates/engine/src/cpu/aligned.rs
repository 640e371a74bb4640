//! Numbers that begin with a cache line, so that vectors of them do not straddle two.

use bytemuck::{Pod, Zeroable};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A vector of a fixed size until it is resized. What was in it is then of no meaning.
#[derive(Debug)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    length: usize,
    of: PhantomData<T>,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            length: 0,
            of: PhantomData,
        }
    }
}

impl<T: Pod> Aligned<T> {
    /// Room for `length` numbers, so that nothing is allocated later.
    pub fn with_capacity(length: usize) -> Self {
        Self {
            lines: Vec::with_capacity(Self::lines(length)),
            ..Self::default()
        }
    }

    pub fn zeros(length: usize) -> Self {
        let mut zeros = Self::default();
        zeros.resize(length);
        zeros
    }

    pub fn resize(&mut self, length: usize) {
        self.lines.resize(Self::lines(length), Line::zeroed());
        self.length = length;
    }

    fn lines(length: usize) -> usize {
        (length * size_of::<T>()).div_ceil(size_of::<Line>())
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.lines);
        bytemuck::cast_slice(&bytes[..self.length * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.lines);
        bytemuck::cast_slice_mut(&mut bytes[..self.length * size_of::<T>()])
    }
}
