//! Each backward against differences of its forward, along random directions: with `f(x) = Σ c · y(x)` for random `c`, the backward
//! of `c` times a direction is `(f(x + h · direction) − f(x − h · direction)) / 2h`.

use super::train::ReferenceTraining;
use crate::index::TokenId;
use crate::op::{Activation, Attention, NormKind, Rotation};
use crate::sampling::pcg;
use crate::train::kernels::{AttentionShape, AttentionValues, NormWeights, TrainingKernels};
use trimtab_checkpoint::{Encoding, WeightRows};

const KERNELS: ReferenceTraining = ReferenceTraining;

/// Numbers in −1..1.
pub fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let number = |place: u32| (pcg(place ^ pcg(seed)) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..count as u32).map(number).collect()
}

/// A matrix of f32.
pub fn matrix(seed: u32, rows: usize, cols: usize) -> WeightRows {
    let values = numbers(seed, rows * cols);
    WeightRows {
        encoding: Encoding::F32,
        rows,
        cols,
        data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        scale: Vec::new(),
        min: Vec::new(),
    }
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    let both = a.iter().zip(b);
    both.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `dx` must be the derivative at `x` of the sum of `cotangent` times what `forward` gives.
fn check(
    what: &str,
    x: &[f32],
    cotangent: &[f32],
    dx: &[f32],
    forward: impl Fn(&[f32]) -> Vec<f32>,
) {
    assert_eq!(dx.len(), x.len(), "{what}");
    for seed in 100..104 {
        let direction = numbers(seed, x.len());
        let at = |length: f32| -> f64 {
            let moved = x.iter().zip(&direction).map(|(x, d)| x + length * d);
            product(cotangent, &forward(&moved.collect::<Vec<_>>()))
        };
        let length = 4e-3;
        let slope = (at(length) - at(-length)) / (2.0 * f64::from(length));
        let want = product(dx, &direction);
        let size = product(dx, dx).sqrt();
        assert!(
            (slope - want).abs() <= 4e-3 * size,
            "{what}: a difference of {slope}, the derivative says {want} (of size {size})"
        );
    }
}

#[test]
fn norms() {
    let (gain, bias) = (numbers(1, 12), numbers(2, 12));
    for kind in [NormKind::RootMeanSquare, NormKind::Layer] {
        let by = NormWeights {
            kind,
            gain: &gain,
            bias: Some(&bias),
            epsilon: 1e-2,
        };
        // Two rows of three heads each.
        let (x, c) = (numbers(3, 72), numbers(4, 72));
        let dx = KERNELS.norm_backward(&x, &c, &by);
        check(&format!("{kind:?}"), &x, &c, &dx, |x| KERNELS.norm(x, &by));
    }
}

#[test]
fn projections() {
    let (first, second) = (matrix(1, 7, 12), matrix(2, 5, 12));
    let (x, c) = (numbers(3, 36), numbers(4, 36));
    let (c1, c2) = (&c[..21], &c[21..]);
    let mut dx = vec![0.0; 36];
    KERNELS.project_backward(&[(&first, c1), (&second, c2)], &mut dx);
    check("projection", &x, &c, &dx, |x| {
        KERNELS.project(&[&first, &second], x).concat()
    });
}

#[test]
fn rotations() {
    let rotation = Rotation {
        frequencies: vec![1.0, 0.3, 0.1],
        amplitude: 1.2,
    };
    // Two heads of eight, of which two elements are not turned.
    let positions = [0, 1, 9];
    let (x, c) = (numbers(3, 48), numbers(4, 48));
    let mut dx = c.clone();
    KERNELS.rotate_backward(&mut dx, &positions, 8, &rotation);
    check("rotation", &x, &c, &dx, |x| {
        let mut x = x.to_vec();
        KERNELS.rotate(&mut x, &positions, 8, &rotation);
        x
    });
}

fn of<'a>(queries: &'a [f32], keys: &'a [f32], values: &'a [f32]) -> AttentionValues<'a> {
    AttentionValues {
        queries,
        keys,
        values,
    }
}

#[test]
fn attention() {
    for window in [None, Some(3)] {
        let shape = AttentionShape {
            heads: 4,
            kv_heads: 2,
            head_dim: 6,
            sequences: &[0..5, 5..9],
            by: Attention { scale: 0.6, window },
        };
        let (queries, keys, values) = (numbers(1, 9 * 24), numbers(2, 9 * 12), numbers(3, 9 * 12));
        let c = numbers(4, 9 * 24);
        let all = of(&queries, &keys, &values);
        let (heads, log_sums) = KERNELS.attend(&all, &shape);
        let d = KERNELS.attend_backward(&all, &shape, &log_sums, &c);
        let attend = |of: AttentionValues<'_>| KERNELS.attend(&of, &shape).0;
        check("queries", &queries, &c, &d.queries, |x| {
            attend(of(x, &keys, &values))
        });
        check("keys", &keys, &c, &d.keys, |x| {
            attend(of(&queries, x, &values))
        });
        check("values", &values, &c, &d.values, |x| {
            attend(of(&queries, &keys, x))
        });
        // What the first sequence attends to is not moved by the second.
        let mut others = keys.clone();
        others[5 * 12..].fill(9.0);
        let moved = attend(of(&queries, &others, &values));
        assert_eq!(moved[..5 * 24], heads[..5 * 24]);
        assert_ne!(moved[5 * 24..], heads[5 * 24..]);
    }
}

#[test]
fn gates_and_activations() {
    for by in [Activation::Silu, Activation::GeluTanh] {
        let x: Vec<f32> = numbers(1, 40).iter().map(|x| 4.0 * x).collect();
        let (up, c) = (numbers(2, 40), numbers(3, 40));
        let (d_gate, d_up) = KERNELS.gate_backward(by, &x, &up, &c);
        check("gate", &x, &c, &d_gate, |x| KERNELS.gate(by, x, &up));
        check("up", &up, &c, &d_up, |up| KERNELS.gate(by, &x, up));
        let dx = KERNELS.activate_backward(by, &x, &c);
        check("activation", &x, &c, &dx, |x| KERNELS.activate(by, x));
    }
}

#[test]
fn losses() {
    let targets = [TokenId(3), TokenId(0)];
    let logits = numbers(1, 22);
    let mut dx = logits.clone();
    KERNELS.cross_entropy(&mut dx, &targets, 0.7);
    check("loss", &logits, &[0.7, 0.7], &dx, |logits| {
        KERNELS.cross_entropy(&mut logits.to_vec(), &targets, 1.0)
    });
}

#[test]
fn small_products_are_what_they_say() {
    let (a, b) = (numbers(1, 15), numbers(2, 20));
    let row = |i: usize, j: usize| -> f32 { (0..5).map(|k| a[i * 5 + k] * b[k * 4 + j]).sum() };
    let want: Vec<f32> = (0..12).map(|at| row(at / 4, at % 4)).collect();
    let near = |got: &[f32], offset: f32| {
        let pairs = got.iter().zip(&want);
        pairs.for_each(|(got, want)| assert!((got - want - offset).abs() < 1e-5));
    };
    let mut sum = vec![1.0; 12];
    KERNELS.add_product(&a, &b, 5, &mut sum);
    near(&sum, 1.0);
    let turned = |x: &[f32], width: usize| -> Vec<f32> {
        let columns = (0..width).flat_map(|column| x.iter().skip(column).step_by(width).copied());
        columns.collect()
    };
    near(&KERNELS.product_with_transposed(&a, &turned(&b, 4), 5), 0.0);
    let mut sum = vec![1.0; 12];
    KERNELS.add_transposed_product(&turned(&a, 5), &b, 5, &mut sum);
    near(&sum, 1.0);
}
