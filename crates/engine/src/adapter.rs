//! Adapters beside the weights of a running model: `W x + scale · s · B A x` (Hu et al., "LoRA", 2021), without merging. The scale is
//! a property of a row, as a plan is: base and tuned answers are written side by side.

use crate::error::EngineError;
use crate::op::{ForwardPass, MatrixId};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use trimtab_checkpoint::adapter;

/// An adapter as it lies beside the matrices of one forward pass.
#[derive(Debug)]
pub struct AppliedAdapter {
    parts: Vec<Part>,
    /// For each adapted matrix its part, and the first of its rows there.
    places: HashMap<MatrixId, (usize, usize)>,
    /// Hash of all numbers, so that two adapters can be compared without comparing them.
    hash: u64,
    /// Matrices of the forward pass that it was made for.
    matrices: usize,
}

/// The two factors beside one tensor.
#[derive(Debug)]
struct Part {
    rank: usize,
    /// `s`
    scale: f32,
    /// `[rank, cols]`
    a: Vec<f32>,
    /// `[rows, rank]`
    b: Vec<f32>,
}

impl AppliedAdapter {
    /// The adapter of a file beside the matrices of `pass`.
    ///
    /// # Errors
    /// A part for a tensor that the forward pass does not have.
    pub(crate) fn new(pass: &ForwardPass, file: &adapter::Adapter) -> Result<Self, EngineError> {
        let mut parts = Vec::with_capacity(file.parts.len());
        let mut places = HashMap::new();
        let mut hasher = DefaultHasher::new();
        for part in &file.parts {
            let numbered = pass.matrices.iter().enumerate();
            let own = numbered.filter(|(_, weight)| weight.module() == part.module);
            let before = places.len();
            for (id, weight) in own {
                let fits = part.a.len() == part.rank * weight.cols
                    && part.b.len() == part.rank * weight.of;
                if fits {
                    places.insert(MatrixId(id), (parts.len(), weight.first));
                }
            }
            if places.len() == before {
                return Err(EngineError::Usage(format!(
                    "the adapter's matrices for {} fit no matrix of this model",
                    part.module
                )));
            }
            (&part.module, part.scale.to_bits()).hash(&mut hasher);
            let numbers = part.a.iter().chain(&part.b);
            numbers.for_each(|number| number.to_bits().hash(&mut hasher));
            parts.push(Part {
                rank: part.rank,
                scale: part.scale,
                a: part.a.clone(),
                b: part.b.clone(),
            });
        }
        Ok(Self {
            parts,
            places,
            hash: hasher.finish(),
            matrices: pass.matrices.len(),
        })
    }

    /// Hash of its numbers: the same for the same adapter of the same model.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether it was made for a forward pass with so many matrices.
    pub(crate) fn is_for(&self, pass: &ForwardPass) -> bool {
        self.matrices == pass.matrices.len()
    }

    /// Adds `scale · s · B A x` beside `matrix` for one row: `x` is `[cols]`, and `add` is given the number of each output row and
    /// what comes to it. `rows` are the matrix's.
    fn add(
        &self,
        (matrix, rows): (MatrixId, usize),
        scale: f32,
        x: &[f32],
        inner: &mut Vec<f32>,
        dot: impl Fn(&[f32], &[f32]) -> f32,
        mut add: impl FnMut(usize, f32),
    ) {
        let Some(&(part, first)) = self.places.get(&matrix) else {
            return;
        };
        let part = &self.parts[part];
        let scale = scale * part.scale;
        inner.clear();
        inner.extend(part.a.chunks(x.len()).map(|a| scale * dot(a, x)));
        let b = part.b[first * part.rank..][..rows * part.rank].chunks(part.rank);
        for (row, b) in b.enumerate() {
            let products = b.iter().zip(&*inner).map(|(b, inner)| b * inner);
            add(row, products.sum());
        }
    }
}

/// An adapter in a plan, and how much of it: 1 is the adapter as it was trained.
#[derive(Clone, Debug)]
pub struct AdapterTerm {
    pub adapter: Arc<AppliedAdapter>,
    pub scale: f32,
}

impl PartialEq for AdapterTerm {
    fn eq(&self, other: &Self) -> bool {
        (self.adapter.hash, self.scale.to_bits()) == (other.adapter.hash, other.scale.to_bits())
    }
}

/// An adapter on its way through a batch: the rows that it acts on.
#[derive(Clone, Debug)]
pub(crate) struct AdaptedRows {
    pub term: AdapterTerm,
    /// Indices of rows.
    pub rows: Vec<usize>,
}

/// How what an adapter adds to lies in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lies {
    /// `[n, rows]`
    ByRow,
    /// `[rows, n]`
    Transposed,
}

/// Adds what adapters bring to the product of `matrix`, which has `rows` rows, with `x` (`[n, cols]`) to `out`.
pub(crate) fn add_adapted(
    adapted: &[AdaptedRows],
    (matrix, rows): (MatrixId, usize),
    (x, cols): (&[f32], usize),
    (out, lies): (&mut [f32], Lies),
    dot: impl Fn(&[f32], &[f32]) -> f32,
) {
    let count = x.len() / cols;
    let mut inner = Vec::new();
    for AdaptedRows { term, rows: own } in adapted {
        for &index in own {
            let x = &x[index * cols..][..cols];
            term.adapter.add(
                (matrix, rows),
                term.scale,
                x,
                &mut inner,
                &dot,
                |row, sum| {
                    let place = match lies {
                        Lies::ByRow => index * rows + row,
                        Lies::Transposed => row * count + index,
                    };
                    out[place] += sum;
                },
            );
        }
    }
}
