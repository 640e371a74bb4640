//! Projections on their own, for `benches/cpu_kernels.rs`.

use super::activations::{Inputs, Quantised};
use super::aligned::Aligned;
use super::kernels::Kernels;
use crate::types::Precision;
use trimtab_checkpoint::{Encoding, WeightRows};

/// Names of the instruction sets that this processor has, the fastest first.
pub fn instruction_sets() -> Vec<&'static str> {
    let available = Kernels::available();
    available.iter().map(|kernels| kernels.name).collect()
}

/// Rows of activations, a weight matrix of arbitrary numbers, and room for their product.
#[derive(Debug)]
pub struct ProjectionBench {
    kernels: Kernels,
    matrix: WeightRows,
    x: Aligned<f32>,
    precision: Precision,
    quantised: Quantised,
    out: Vec<f32>,
}

impl ProjectionBench {
    /// `None` where the processor lacks the instruction set. `matrix` is `[rows, cols]`, `encoding` one with scales.
    pub fn new(
        instruction_set: &str,
        precision: Precision,
        encoding: Encoding,
        matrix: [usize; 2],
        activations: usize,
    ) -> Option<Self> {
        let mut available = Kernels::available().into_iter();
        let kernels = available.find(|kernels| kernels.name == instruction_set)?;
        let [rows, cols] = matrix;
        // Between 1 and 2.
        let halves = |count: usize| [0x55, 0x3c].repeat(rows * count);
        let bytes = (0..rows * encoding.data_bytes(cols)).map(|i| (i * 37 % 251) as u8);
        let mut x = Aligned::default();
        x.resize(activations * cols);
        for (i, x) in x.iter_mut().enumerate() {
            *x = (i % 97) as f32 / 48.0 - 1.0;
        }
        Some(Self {
            kernels,
            matrix: WeightRows {
                encoding,
                rows,
                cols,
                data: bytes.collect(),
                scale: halves(encoding.scales(cols)),
                min: halves(encoding.minima(cols)),
            },
            x,
            precision,
            quantised: Quantised::default(),
            out: vec![0.0; rows * activations],
        })
    }

    /// Multiply-adds of one [`Self::run`].
    pub fn products(&self) -> u64 {
        (self.out.len() * self.matrix.cols) as u64
    }

    pub fn run(&mut self) -> &[f32] {
        let cols = self.matrix.cols;
        let quantised = match self.precision {
            Precision::Exact => None,
            Precision::Fast => {
                let wide = super::dot::wide(self.matrix.encoding);
                self.kernels
                    .quantise(&mut self.quantised, &self.x, cols, !wide, wide);
                Some(&self.quantised)
            }
        };
        let inputs = Inputs {
            values: &self.x,
            cols,
            quantised,
        };
        self.kernels
            .project(&self.matrix, 0..self.matrix.rows, &inputs, &mut self.out);
        &self.out
    }
}
