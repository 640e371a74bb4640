//! The executor's inner loops, compiled once for each instruction set and chosen when it is made.

use super::activations::{Inputs, Quantised};
use super::attention::{self, KeyValueCache};
use super::dot::DotProduct;
use super::train::attention::Part;
use super::train::product::{Extent, Rows, Strided};
use super::train::{self, elements, product};
use super::{exponential, project, transpose};
use crate::executor::Row;
use crate::op::{Activation, Attention};
use crate::train::kernels::{AttentionShape, AttentionValues, NormWeights};
use std::ops::Range;
use trimtab_checkpoint::WeightRows;

/// Of a block and a key/value head; see [`attention::attend`].
type Attend = unsafe fn(&KeyValueCache, (usize, usize), Attention, &Row, &[f32], &mut [f32]);

/// Of matrices with the derivatives by what they gave, and of columns; see [`train::project::backward`].
type ProjectBackward = unsafe fn(&[(&WeightRows, &[f32])], Range<usize>, &mut [f32]);

/// Of a part, of what and how it attends, of its sums on the way there and the derivatives by its heads; see
/// [`train::attention::attend_backward`].
type AttendWholeBackward =
    unsafe fn(&mut Part, &AttentionValues<'_>, &AttentionShape<'_>, &[f32], &[f32]);

/// One instruction set's loops. A value exists only where the processor has the instructions, which is what
/// makes calling the functions sound.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    pub name: &'static str,
    project: unsafe fn(&WeightRows, Range<usize>, &Inputs<'_>, &mut [f32]),
    quantise: unsafe fn(&mut Quantised, &[f32], usize, bool, bool),
    attend: Attend,
    activated: unsafe fn(Activation, &mut [f32]),
    gated: unsafe fn(Activation, &mut [f32], &[f32]),
    transpose: unsafe fn(&[f32], usize, usize, &mut [f32], bool),
    dot: unsafe fn(&[f32], &[f32]) -> f32,
    sum_of_exponentials: unsafe fn(&[f32], f32) -> f64,
    project_backward: ProjectBackward,
    add_product: unsafe fn(Strided<'_>, &[f32], usize, &mut [f32]),
    product_with_transposed: unsafe fn(&[f32], &[f32], usize, &mut [f32]),
    attend_whole: unsafe fn(&mut Part, &AttentionValues<'_>, &AttentionShape<'_>),
    attend_whole_backward: AttendWholeBackward,
    activated_backward: unsafe fn(Activation, &[f32], &mut [f32]),
    norm: unsafe fn(&mut [f32], &NormWeights<'_>),
    norm_backward: unsafe fn(&[f32], &mut [f32], &NormWeights<'_>),
    scaled_exponentials: unsafe fn(&mut [f32], f32, f32),
}

/// A module with the loops compiled for `$features`.
macro_rules! compiled_for {
    ($module:ident, $dot:ty $(, $features:literal)?) => {
        mod $module {
            use super::*;

            $(#[target_feature(enable = $features)])?
            fn project(matrix: &WeightRows, rows: Range<usize>, inputs: &Inputs<'_>, out: &mut [f32]) {
                project::project::<$dot>(matrix, rows, inputs, out);
            }

            $(#[target_feature(enable = $features)])?
            fn quantise(to: &mut Quantised, x: &[f32], cols: usize, eight: bool, sixteen: bool) {
                to.fill::<$dot>(x, cols, eight, sixteen);
            }

            $(#[target_feature(enable = $features)])?
            fn attend(cache: &KeyValueCache, of: (usize, usize), by: Attention, row: &Row, queries: &[f32], out: &mut [f32]) {
                attention::attend::<$dot>(cache, of, by, row, queries, out);
            }

            $(#[target_feature(enable = $features)])?
            fn activated(activation: Activation, gate: &mut [f32]) {
                exponential::activated(activation, gate);
            }

            $(#[target_feature(enable = $features)])?
            fn gated(activation: Activation, gate: &mut [f32], up: &[f32]) {
                exponential::gated(activation, gate, up);
            }

            $(#[target_feature(enable = $features)])?
            fn transpose(from: &[f32], n: usize, first: usize, to: &mut [f32], add: bool) {
                transpose::transpose::<$dot>(from, n, first, to, add);
            }

            $(#[target_feature(enable = $features)])?
            fn dot(a: &[f32], b: &[f32]) -> f32 {
                let [[sum]] = <$dot>::f32([a], [b]);
                sum
            }

            $(#[target_feature(enable = $features)])?
            fn sum_of_exponentials(values: &[f32], largest: f32) -> f64 {
                exponential::sum_of_exponentials(values, largest)
            }

            $(#[target_feature(enable = $features)])?
            fn project_backward(by: &[(&WeightRows, &[f32])], columns: Range<usize>, out: &mut [f32]) {
                train::project::backward::<$dot>(by, columns, out);
            }

            $(#[target_feature(enable = $features)])?
            fn add_product(a: Strided<'_>, b: &[f32], depth: usize, sum: &mut [f32]) {
                let width = b.len() / depth;
                let extent = Extent { rows: sum.len() / width, depth, width };
                let b = Rows { values: b, stride: width };
                product::add_product::<$dot>(a, &b, &mut Rows { values: sum, stride: width }, extent);
            }

            $(#[target_feature(enable = $features)])?
            fn product_with_transposed(a: &[f32], b: &[f32], depth: usize, out: &mut [f32]) {
                product::product_with_transposed::<$dot>(a, b, depth, out);
            }

            $(#[target_feature(enable = $features)])?
            fn attend_whole(part: &mut Part, of: &AttentionValues<'_>, shape: &AttentionShape<'_>) {
                train::attention::attend::<$dot>(part, of, shape);
            }

            $(#[target_feature(enable = $features)])?
            fn attend_whole_backward(
                part: &mut Part,
                of: &AttentionValues<'_>,
                shape: &AttentionShape<'_>,
                log_sums: &[f32],
                d_heads: &[f32],
            ) {
                train::attention::attend_backward::<$dot>(part, of, shape, log_sums, d_heads);
            }

            $(#[target_feature(enable = $features)])?
            fn activated_backward(by: Activation, x: &[f32], dx: &mut [f32]) {
                elements::activated_backward(by, x, dx);
            }

            $(#[target_feature(enable = $features)])?
            fn norm(x: &mut [f32], by: &NormWeights<'_>) {
                elements::norm::<$dot>(x, by);
            }

            $(#[target_feature(enable = $features)])?
            fn norm_backward(x: &[f32], dx: &mut [f32], by: &NormWeights<'_>) {
                elements::norm_backward::<$dot>(x, dx, by);
            }

            $(#[target_feature(enable = $features)])?
            fn scaled_exponentials(logits: &mut [f32], largest: f32, factor: f32) {
                elements::scaled_exponentials(logits, largest, factor);
            }

            pub const KERNELS: Kernels = Kernels {
                name: <$dot>::NAME,
                project,
                quantise,
                attend,
                activated,
                gated,
                transpose,
                dot,
                sum_of_exponentials,
                project_backward,
                add_product,
                product_with_transposed,
                attend_whole,
                attend_whole_backward,
                activated_backward,
                norm,
                norm_backward,
                scaled_exponentials,
            };
        }
    };
}

#[cfg(not(target_arch = "wasm32"))]
compiled_for!(portable, super::super::dot::portable::Portable);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, super::super::dot::avx2::Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
compiled_for!(
    avx_vnni,
    super::super::dot::avx2::AvxVnni,
    "avx2,fma,f16c,avxvnni"
);
#[cfg(target_arch = "x86_64")]
compiled_for!(
    avx512_vnni,
    super::super::dot::avx512::Avx512Vnni,
    "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni"
);
#[cfg(all(target_arch = "wasm32", not(feature = "relaxed-simd")))]
compiled_for!(simd128, super::super::dot::wasm::Simd128);
// A module is refused as a whole where an instruction in it is not known, so that there is one of each kind.
#[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
compiled_for!(simd128, super::super::dot::wasm::Simd128, "relaxed-simd");

impl Kernels {
    /// The kernels that this module was built for.
    #[cfg(target_arch = "wasm32")]
    pub fn available() -> Vec<Self> {
        vec![simd128::KERNELS]
    }

    /// Every implementation that this processor can run, the fastest first.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn available() -> Vec<Self> {
        let mut available = vec![portable::KERNELS];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            available.push(avx2::KERNELS);
            if is_x86_feature_detected!("avxvnni") {
                available.push(avx_vnni::KERNELS);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                available.push(avx512_vnni::KERNELS);
            }
        }
        available.reverse();
        available
    }

    /// The fastest implementation.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// See [`project::project`].
    pub fn project(
        &self,
        matrix: &WeightRows,
        rows: Range<usize>,
        inputs: &Inputs<'_>,
        out: &mut [f32],
    ) {
        unsafe { (self.project)(matrix, rows, inputs, out) }
    }

    /// See [`Quantised::fill`].
    pub fn quantise(&self, to: &mut Quantised, x: &[f32], cols: usize, eight: bool, sixteen: bool) {
        unsafe { (self.quantise)(to, x, cols, eight, sixteen) }
    }

    /// See [`attention::attend`].
    pub fn attend(
        &self,
        cache: &KeyValueCache,
        of: (usize, usize),
        by: Attention,
        row: &Row,
        queries: &[f32],
        out: &mut [f32],
    ) {
        unsafe { (self.attend)(cache, of, by, row, queries, out) }
    }

    /// See [`exponential::activated`].
    pub fn activated(&self, activation: Activation, gate: &mut [f32]) {
        unsafe { (self.activated)(activation, gate) }
    }

    /// See [`exponential::gated`].
    pub fn gated(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        unsafe { (self.gated)(activation, gate, up) }
    }

    /// See [`transpose::transpose`].
    pub fn transpose(&self, from: &[f32], n: usize, first: usize, to: &mut [f32], add: bool) {
        unsafe { (self.transpose)(from, n, first, to, add) }
    }

    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        unsafe { (self.dot)(a, b) }
    }

    /// See [`exponential::sum_of_exponentials`].
    pub fn sum_of_exponentials(&self, values: &[f32], largest: f32) -> f64 {
        unsafe { (self.sum_of_exponentials)(values, largest) }
    }

    /// See [`train::project::backward`].
    pub fn project_backward(
        &self,
        by: &[(&WeightRows, &[f32])],
        columns: Range<usize>,
        out: &mut [f32],
    ) {
        unsafe { (self.project_backward)(by, columns, out) }
    }

    /// `sum += a · b`, as many rows of `a` as `sum` has; `b` is `[depth, n]`, `sum` `[rows, n]`.
    pub fn add_product(&self, a: Strided<'_>, b: &[f32], depth: usize, sum: &mut [f32]) {
        unsafe { (self.add_product)(a, b, depth, sum) }
    }

    /// See [`product::product_with_transposed`].
    pub fn product_with_transposed(&self, a: &[f32], b: &[f32], depth: usize, out: &mut [f32]) {
        unsafe { (self.product_with_transposed)(a, b, depth, out) }
    }

    /// See [`train::attention::attend`].
    pub fn attend_whole(
        &self,
        part: &mut Part,
        of: &AttentionValues<'_>,
        shape: &AttentionShape<'_>,
    ) {
        unsafe { (self.attend_whole)(part, of, shape) }
    }

    /// See [`train::attention::attend_backward`].
    pub fn attend_whole_backward(
        &self,
        part: &mut Part,
        of: &AttentionValues<'_>,
        shape: &AttentionShape<'_>,
        log_sums: &[f32],
        d_heads: &[f32],
    ) {
        unsafe { (self.attend_whole_backward)(part, of, shape, log_sums, d_heads) }
    }

    /// See [`elements::activated_backward`].
    pub fn activated_backward(&self, by: Activation, x: &[f32], dx: &mut [f32]) {
        unsafe { (self.activated_backward)(by, x, dx) }
    }

    /// See [`elements::norm`].
    pub fn norm(&self, x: &mut [f32], by: &NormWeights<'_>) {
        unsafe { (self.norm)(x, by) }
    }

    /// See [`elements::norm_backward`].
    pub fn norm_backward(&self, x: &[f32], dx: &mut [f32], by: &NormWeights<'_>) {
        unsafe { (self.norm_backward)(x, dx, by) }
    }

    /// See [`elements::scaled_exponentials`].
    pub fn scaled_exponentials(&self, logits: &mut [f32], largest: f32, factor: f32) {
        unsafe { (self.scaled_exponentials)(logits, largest, factor) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dot::wide;
    use super::*;
    use proptest::prelude::*;
    use trimtab_checkpoint::Encoding;

    /// A matrix of any bytes with scales and minima of ordinary size.
    fn matrix(encoding: Encoding, rows: usize, cols: usize, bytes: &[u8]) -> WeightRows {
        let take = |count: usize, salt: usize| -> Vec<u8> {
            (0..count)
                .map(|i| bytes[(i * 31 + i / 7 + salt) % bytes.len()])
                .collect()
        };
        let halves = |count: usize, salt: usize| -> Vec<u8> {
            let mut halves = take(rows * count * 2, salt);
            // Exponents from subnormal up to one.
            halves
                .iter_mut()
                .skip(1)
                .step_by(2)
                .for_each(|high| *high &= 0xbb);
            halves
        };
        let mut data = take(encoding.data_bytes(cols) * rows, 5);
        if !encoding.is_quantised() {
            for (index, value) in data.chunks_mut(encoding.data_bytes(1)).enumerate() {
                let x = f32::from(bytes[index % bytes.len()] as i8) / 64.0;
                match encoding {
                    Encoding::F16 => value.copy_from_slice(&half::f16::from_f32(x).to_le_bytes()),
                    Encoding::Bf16 => value.copy_from_slice(&half::bf16::from_f32(x).to_le_bytes()),
                    _ => value.copy_from_slice(&x.to_le_bytes()),
                }
            }
        }
        WeightRows {
            encoding,
            rows,
            cols,
            data,
            scale: halves(encoding.scales(cols), 1),
            min: halves(encoding.minima(cols), 2),
        }
    }

    fn encodings() -> impl Strategy<Value = Encoding> {
        prop::sample::select(Encoding::ALL.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Exact activations give the dequantised row's product; the integer paths of all instruction sets agree
        /// with one another, and with the exact product to the resolution of the integers.
        #[test]
        fn every_instruction_set_computes_the_same(
            encoding in encodings(),
            blocks in prop::sample::select(vec![1_usize, 3, 8, 18, 65, 131]),
            n in 1_usize..12,
            bytes in prop::collection::vec(any::<u8>(), 199),
            x in prop::collection::vec(-3.0_f32..3.0, 211),
        ) {
            let (rows, cols) = (5, blocks * 32);
            let matrix = matrix(encoding, rows, cols, &bytes);
            let x: Vec<f32> = (0..n * cols).map(|i| x[i % x.len()]).collect();
            let mut want = vec![0.0_f64; 3 * n];
            let mut sizes = vec![0.0_f64; 3 * n];
            let mut weights = vec![0.0; cols];
            for row in 0..3 {
                matrix.dequantise_row(row + 1, &mut weights);
                for i in 0..n {
                    for (w, x) in weights.iter().zip(&x[i * cols..]) {
                        want[row * n + i] += f64::from(*w) * f64::from(*x);
                        sizes[row * n + i] += (f64::from(*w) * f64::from(*x)).abs();
                    }
                }
            }
            let mut portable = None;
            for kernels in Kernels::available().into_iter().rev() {
                let mut out = vec![f32::NAN; 3 * n];
                let inputs = Inputs { values: &x, cols, quantised: None };
                kernels.project(&matrix, 1..4, &inputs, &mut out);
                for ((got, want), size) in out.iter().zip(&want).zip(&sizes) {
                    prop_assert!((f64::from(*got) - want).abs() <= 2e-6 * size, "{}: {got}, not {want}", kernels.name);
                }
                let mut quantised = Quantised::default();
                kernels.quantise(&mut quantised, &x, cols, true, true);
                let inputs = Inputs { values: &x, cols, quantised: Some(&quantised) };
                kernels.project(&matrix, 1..4, &inputs, &mut out);
                let portable = portable.get_or_insert_with(|| out.clone());
                let resolution = if wide(encoding) { 3.0 / 32767.0 / 2.0 } else { 3.0 / 127.0 / 2.0 };
                let weight_size = matrix_size(&matrix);
                for (((got, same), want), size) in out.iter().zip(&*portable).zip(&want).zip(&sizes) {
                    prop_assert!((got - same).abs() <= 1e-5 * (*size as f32 + weight_size * cols as f32 * 3.0), "{}: {got}, portable {same}", kernels.name);
                    prop_assert!(
                        (f64::from(*got) - want).abs() <= resolution * f64::from(weight_size) * cols as f64 + 2e-6 * size,
                        "{}: {got}, not {want}", kernels.name
                    );
                }
            }
        }
    }

    /// The largest weight, with what a nibble's offset may add to it.
    fn matrix_size(matrix: &WeightRows) -> f32 {
        let mut row = vec![0.0; matrix.cols];
        let mut largest = 0.0_f32;
        for index in 0..matrix.rows {
            matrix.dequantise_row(index, &mut row);
            largest = row.iter().fold(largest, |most, w| most.max(w.abs()));
        }
        largest
    }
}
