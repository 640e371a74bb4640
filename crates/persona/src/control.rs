//! Directions that mean nothing, to compare a trait vector with.

use crate::bootstrap::below;
use crate::extract::Side;
use crate::trait_vector::norm;
use std::collections::BTreeMap;
use trimtab_engine::sampling::{pcg, uniform};
use trimtab_engine::steering::PlanError;
use trimtab_engine::{Layer, LayerTable};

/// An isotropic random direction at each layer, each row as long as `table`'s; the same for the
/// same seed.
pub fn random_like(table: &LayerTable, seed: u32) -> Result<LayerTable, PlanError> {
    let mut values = Vec::with_capacity(table.values().len());
    for layer in 0..table.rows() as u32 {
        let row: Vec<f32> = (0..table.width() as u32)
            .map(|column| normal(pcg(seed), layer, column))
            .collect();
        let scale = norm(table.row(Layer(layer))) / norm(&row).max(f64::MIN_POSITIVE);
        values.extend(row.iter().map(|&value| (f64::from(value) * scale) as f32));
    }
    LayerTable::new(values, table.width())
}

/// The response-averaged residual of one response of a contrast set.
#[derive(Clone, Copy, Debug)]
pub struct LabelledMean<'a> {
    pub side: Side,
    /// The question that it answers.
    pub question: usize,
    /// `[L+1, d]`
    pub values: &'a [f32],
}

/// The mean difference of the same responses with their sides shuffled within each question (so that what the
/// questions differ in stays balanced), every row as long as `like`'s; the same for the same seed. `None` where a
/// side is empty or the shapes do not fit.
pub fn shuffled_like(
    means: &[LabelledMean<'_>],
    like: &LayerTable,
    seed: u32,
) -> Result<Option<LayerTable>, PlanError> {
    let size = like.values().len();
    let sides = shuffled_sides(means, seed);
    let mut sums = [vec![0.0_f64; size], vec![0.0_f64; size]];
    let mut counts = [0.0_f64; 2];
    for (mean, side) in means.iter().zip(sides) {
        if mean.values.len() != size {
            return Ok(None);
        }
        counts[side as usize] += 1.0;
        for (sum, &value) in sums[side as usize].iter_mut().zip(mean.values) {
            *sum += f64::from(value);
        }
    }
    if counts.contains(&0.0) {
        return Ok(None);
    }
    let [positive, negative] = &sums;
    let pairs = positive.iter().zip(negative);
    let values = pairs.map(|(p, n)| (p / counts[0] - n / counts[1]) as f32);
    let difference = LayerTable::new(values.collect(), like.width())?;
    rescaled(&difference, like).map(Some)
}

/// A permutation of the sides within each question (Fisher and Yates), in the order of `means`.
fn shuffled_sides(means: &[LabelledMean<'_>], seed: u32) -> Vec<Side> {
    let mut sides: Vec<Side> = means.iter().map(|mean| mean.side).collect();
    let mut questions: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, mean) in means.iter().enumerate() {
        questions.entry(mean.question).or_default().push(index);
    }
    for (question, members) in questions {
        for last in (1..members.len()).rev() {
            let other = below(last + 1, seed, question as u32, last as u32);
            sides.swap(members[last], members[other]);
        }
    }
    sides
}

/// `table` with every row as long as `like`'s; a row of zeros stays zero.
pub fn rescaled(table: &LayerTable, like: &LayerTable) -> Result<LayerTable, PlanError> {
    like.check_shape(table.rows(), table.width())?;
    let rows = (0..table.rows() as u32).map(Layer).flat_map(|layer| {
        let row = table.row(layer);
        let scale = norm(like.row(layer)) / norm(row).max(f64::MIN_POSITIVE);
        row.iter()
            .map(move |&value| (f64::from(value) * scale) as f32)
    });
    LayerTable::new(rows.collect(), table.width())
}

/// A standard normal number by the Box–Muller transform, a function of its arguments alone.
fn normal(seed: u32, row: u32, column: u32) -> f32 {
    let radius = (-2.0 * uniform(seed, row, 2 * column).ln()).sqrt();
    radius * (std::f32::consts::TAU * uniform(seed, row, 2 * column + 1)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_rows_are_as_long_as_the_vectors_and_point_elsewhere() {
        let width = 512;
        let table = LayerTable::new(
            (0..3 * width).map(|i| (i % 7) as f32 + 1.0).collect(),
            width,
        )
        .unwrap();
        let random = random_like(&table, 1).unwrap();
        for layer in (0..3).map(Layer) {
            let (own, other) = (norm(table.row(layer)), norm(random.row(layer)));
            assert!((own - other).abs() < 1e-3 * own);
            let dot: f64 = table
                .row(layer)
                .iter()
                .zip(random.row(layer))
                .map(|(a, b)| f64::from(a * b))
                .sum();
            // The cosine of a random direction has deviation 1/√512 = 0.044.
            assert!((dot / (own * other)).abs() < 0.2);
        }
        assert_ne!(random_like(&table, 2).unwrap().values(), random.values());
        assert_eq!(random_like(&table, 1).unwrap().values(), random.values());
    }

    #[test]
    fn shuffling_keeps_each_questions_counts_and_follows_the_seed() {
        let side = |index: usize| [Side::Positive, Side::Negative, Side::Positive][index % 3];
        let values: Vec<[f32; 2]> = (0..30).map(|i| [i as f32, (i * i % 11) as f32]).collect();
        let means: Vec<LabelledMean<'_>> = values
            .iter()
            .enumerate()
            .map(|(index, values)| LabelledMean {
                side: side(index),
                question: index / 6,
                values,
            })
            .collect();
        let sides = shuffled_sides(&means, 3);
        assert_eq!(sides, shuffled_sides(&means, 3));
        assert_ne!(sides, shuffled_sides(&means, 4));
        for question in sides.chunks(6) {
            let positive = question.iter().filter(|side| **side == Side::Positive);
            assert_eq!(positive.count(), 4);
        }
        let like = LayerTable::new(vec![3.0, 4.0], 2).unwrap();
        let table = shuffled_like(&means, &like, 3).unwrap().unwrap();
        assert!((norm(table.row(Layer(0))) - 5.0).abs() < 1e-5);
        assert_ne!(
            table.values(),
            shuffled_like(&means, &like, 4).unwrap().unwrap().values()
        );
        let one_sided: Vec<_> = means
            .into_iter()
            .filter(|mean| mean.side == Side::Positive)
            .collect();
        assert!(shuffled_like(&one_sided, &like, 3).unwrap().is_none());
    }

    #[test]
    fn the_numbers_are_standard_normal() {
        let numbers: Vec<f64> = (0..20_000)
            .map(|column| f64::from(normal(3, 1, column)))
            .collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 20_000.0;
        // Standard errors: 0.007 and 0.01.
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04,
            "{mean} {variance}"
        );
    }
}
