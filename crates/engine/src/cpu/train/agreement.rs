//! Each instruction set's kernels of training against the readable ones, on shapes that no register divides.

use super::super::kernels::Kernels;
use super::CpuTraining;
use crate::index::TokenId;
use crate::op::{Activation, Attention, NormKind, Rotation};
use crate::reference::finite_differences::{matrix, numbers};
use crate::reference::train::ReferenceTraining;
use crate::train::kernels::{AttentionShape, AttentionValues, NormWeights, TrainingKernels};
use trimtab_checkpoint::{Encoding, WeightRows};

/// Compares what `compute` makes by the readable kernels and by those of each instruction set.
fn agree(what: &str, compute: impl Fn(&dyn TrainingKernels) -> Vec<f32>) {
    let want = compute(&ReferenceTraining);
    let size = want.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for kernels in Kernels::available() {
        let name = kernels.name;
        let got = compute(&CpuTraining::with(kernels));
        assert_eq!(got.len(), want.len(), "{what}, {name}");
        for (place, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!(
                (got - want).abs() <= 2e-5 * size,
                "{what}, {name}: {got} at {place}, not {want}"
            );
        }
    }
}

/// A matrix of blocks of 4 bits with a minimum.
fn quantised(rows: usize, cols: usize) -> WeightRows {
    let halves = |count: usize, size: f32| -> Vec<u8> {
        let values = numbers(5, count).into_iter();
        values
            .flat_map(|x| half::f16::from_f32(size * (1.5 + x)).to_le_bytes())
            .collect()
    };
    let bytes = numbers(6, rows * cols / 2).into_iter();
    WeightRows {
        encoding: Encoding::Q4_1,
        rows,
        cols,
        data: bytes.map(|x| (x * 128.0) as i8 as u8).collect(),
        scale: halves(rows * cols / 32, 0.01),
        min: halves(rows * cols / 32, -0.08),
    }
}

#[test]
fn projections() {
    for (rows, cols, count) in [(7, 20, 1), (50, 40, 5), (37, 720, 29), (3, 33, 13)] {
        let (first, second) = (matrix(1, rows, cols), matrix(2, rows + 6, cols));
        let x = numbers(3, count * cols);
        agree("projection", |kernels| {
            kernels.project(&[&first, &second], &x).concat()
        });
        let (c1, c2) = (numbers(4, count * rows), numbers(5, count * (rows + 6)));
        agree("its backward", |kernels| {
            let mut dx = x.clone();
            kernels.project_backward(&[(&first, &c1), (&second, &c2)], &mut dx);
            dx
        });
    }
    for (rows, cols, count) in [(40, 576, 19), (70, 1536, 3), (33, 96, 26)] {
        let matrix = quantised(rows, cols);
        let (x, c) = (numbers(3, count * cols), numbers(4, count * rows));
        agree("quantised projection", |kernels| {
            kernels.project(&[&matrix], &x).concat()
        });
        agree("its backward", |kernels| {
            let mut dx = x.clone();
            kernels.project_backward(&[(&matrix, &c)], &mut dx);
            dx
        });
    }
}

#[test]
fn products() {
    for (rows, depth, width) in [
        (1, 1, 1),
        (5, 8, 37),
        (29, 3, 100),
        (8, 75, 576),
        (40, 64, 8),
    ] {
        let (a, b) = (numbers(1, rows * depth), numbers(2, depth * width));
        let sum = numbers(3, rows * width);
        agree("product", |kernels| {
            let mut sum = sum.clone();
            kernels.add_product(&a, &b, depth, &mut sum);
            sum
        });
        agree("product of the transposed", |kernels| {
            let mut sum = sum.clone();
            kernels.add_transposed_product(&a, &b, depth, &mut sum);
            sum
        });
        let b = numbers(2, width * depth);
        agree("product with the transposed", |kernels| {
            kernels.product_with_transposed(&a, &b, depth)
        });
    }
}

#[test]
fn attention() {
    for (window, head_dim) in [(None, 20), (Some(9), 32)] {
        let shape = AttentionShape {
            heads: 6,
            kv_heads: 2,
            head_dim,
            sequences: &[0..41, 41..42, 42..113],
            by: Attention { scale: 0.4, window },
        };
        let (queries, d_heads) = (
            numbers(1, 113 * 6 * head_dim),
            numbers(4, 113 * 6 * head_dim),
        );
        let (keys, values) = (
            numbers(2, 113 * 2 * head_dim),
            numbers(3, 113 * 2 * head_dim),
        );
        let of = AttentionValues {
            queries: &queries,
            keys: &keys,
            values: &values,
        };
        agree("attention", |kernels| kernels.attend(&of, &shape).0);
        agree("its sums", |kernels| kernels.attend(&of, &shape).1);
        let (_, log_sums) = ReferenceTraining.attend(&of, &shape);
        let backward = |kernels: &dyn TrainingKernels| {
            kernels.attend_backward(&of, &shape, &log_sums, &d_heads)
        };
        agree("queries", |kernels| backward(kernels).queries);
        agree("keys", |kernels| backward(kernels).keys);
        agree("values", |kernels| backward(kernels).values);
    }
}

#[test]
fn norms_rotations_and_activations() {
    let (gain, bias) = (numbers(1, 45), numbers(2, 45));
    let (x, dy) = (numbers(3, 45 * 7), numbers(4, 45 * 7));
    for kind in [NormKind::RootMeanSquare, NormKind::Layer] {
        let by = NormWeights {
            kind,
            gain: &gain,
            bias: Some(&bias),
            epsilon: 1e-5,
        };
        agree("norm", |kernels| kernels.norm(&x, &by));
        agree("its backward", |kernels| {
            kernels.norm_backward(&x, &dy, &by)
        });
    }
    let rotation = Rotation {
        frequencies: vec![1.0, 0.3, 0.1],
        amplitude: 1.2,
    };
    agree("rotation and back", |kernels| {
        let (mut x, mut dx) = (x.clone(), dy.clone());
        kernels.rotate(&mut x, &[3, 0, 5, 9, 1], 9, &rotation);
        kernels.rotate_backward(&mut dx, &[3, 0, 5, 9, 1], 9, &rotation);
        [x, dx].concat()
    });
    let wide: Vec<f32> = x.iter().map(|x| 6.0 * x).collect();
    for by in [Activation::Silu, Activation::GeluTanh] {
        agree("gate", |kernels| kernels.gate(by, &wide, &dy));
        agree("its backward", |kernels| {
            let (gate, up) = kernels.gate_backward(by, &wide, &x, &dy);
            [gate, up].concat()
        });
        agree("activation", |kernels| kernels.activate(by, &wide));
        agree("its backward", |kernels| {
            kernels.activate_backward(by, &wide, &dy)
        });
    }
}

#[test]
fn losses() {
    let logits: Vec<f32> = numbers(1, 3 * 205).iter().map(|x| 9.0 * x).collect();
    let targets = [TokenId(0), TokenId(204), TokenId(17)];
    agree("loss", |kernels| {
        kernels.cross_entropy(&mut logits.clone(), &targets, 0.3)
    });
    agree("its derivative", |kernels| {
        let mut logits = logits.clone();
        kernels.cross_entropy(&mut logits, &targets, 0.3);
        logits
    });
}
