//! Directions that mean nothing, to compare a trait vector with.

use crate::bootstrap::below;
use crate::extract::Side;
use crate::trait_vector::norm;
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

/// The mean difference of the same responses with their sides shuffled, every row as long as `like`'s; the same for the
/// same seed. Each of its two sides holds as many true positives as negatives, so that nothing of the trait is left but by
/// chance. `None` where fewer than two responses a side are there, or the shapes do not fit.
pub fn shuffled_like(
    means: &[LabelledMean<'_>],
    like: &LayerTable,
    seed: u32,
) -> Result<Option<LayerTable>, PlanError> {
    let size = like.values().len();
    let mut difference = vec![0.0_f64; size];
    let halves = balanced_halves(means, seed);
    if halves.is_empty() || means.iter().any(|mean| mean.values.len() != size) {
        return Ok(None);
    }
    for &(index, sign) in &halves {
        for (sum, &value) in difference.iter_mut().zip(means[index].values) {
            *sum += sign * f64::from(value);
        }
    }
    let values = difference.iter().map(|&value| value as f32).collect();
    rescaled(&LayerTable::new(values, like.width())?, like).map(Some)
}

/// Indices into `means` with the half that each falls to (1 or −1). As many responses of each true side fall to each half;
/// the questions stay spread over both. What is left over of the larger side is not used.
fn balanced_halves(means: &[LabelledMean<'_>], seed: u32) -> Vec<(usize, f64)> {
    let of_side = |side: Side| -> Vec<usize> {
        let mut own: Vec<usize> = (0..means.len())
            .filter(|&i| means[i].side == side)
            .collect();
        shuffle(&mut own, pcg(seed) ^ side as u32);
        own
    };
    let sides = [Side::Positive, Side::Negative].map(of_side);
    let used = sides[0].len().min(sides[1].len()) / 2 * 2;
    let mut halves = Vec::with_capacity(2 * used);
    for (number, mut own) in sides.into_iter().enumerate() {
        own.truncate(used);
        // Neighbours answer the same question, and fall to different halves.
        own.sort_by_key(|&index| means[index].question);
        for (place, pair) in own.chunks(2).enumerate() {
            let first = match below(2, seed, number as u32 + 1, place as u32) {
                0 => 1.0,
                _ => -1.0,
            };
            let signs = [first, -first];
            halves.extend(pair.iter().copied().zip(signs));
        }
    }
    halves
}

/// A permutation by Fisher and Yates, a function of the seed.
fn shuffle(numbers: &mut [usize], seed: u32) {
    for last in (1..numbers.len()).rev() {
        numbers.swap(last, below(last + 1, seed, 0, last as u32));
    }
}

/// `table` with every row as long as `like`'s; a row of zeros stays zero.
pub fn rescaled(table: &LayerTable, like: &LayerTable) -> Result<LayerTable, PlanError> {
    like.check_shape(table.rows(), table.width())?;
    let rows = (0..table.rows() as u32).map(Layer).flat_map(|layer| {
        let row = table.row(layer);
        let scale = match norm(row) {
            0.0 => 0.0,
            own => norm(like.row(layer)) / own,
        };
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
    fn halves_hold_as_much_of_either_side_and_follow_the_seed() {
        let side = |index: usize| [Side::Positive, Side::Negative, Side::Positive][index % 3];
        // The first number is the trait; it has to vanish, whatever else differs.
        let values: Vec<[f32; 2]> = (0..30)
            .map(|i| {
                let trait_of = if side(i) == Side::Positive { 7.0 } else { -3.0 };
                [trait_of, (i * i % 11) as f32]
            })
            .collect();
        let means: Vec<LabelledMean<'_>> = values
            .iter()
            .enumerate()
            .map(|(index, values)| LabelledMean {
                side: side(index),
                question: index / 6,
                values,
            })
            .collect();
        let like = LayerTable::new(vec![3.0, 4.0], 2).unwrap();
        let of = |seed| shuffled_like(&means, &like, seed).unwrap().unwrap();
        for seed in 0..20 {
            let halves = balanced_halves(&means, seed);
            assert_eq!(halves.len(), 20, "ten of each side");
            for wanted in [Side::Positive, Side::Negative] {
                let own = halves.iter().filter(|(i, _)| means[*i].side == wanted);
                assert_eq!(own.map(|(_, sign)| sign).sum::<f64>(), 0.0);
            }
            let found = of(seed);
            let row = found.row(Layer(0));
            assert!(
                row[0].abs() < 1e-5 && (row[1].abs() - 5.0).abs() < 1e-5,
                "{row:?}"
            );
        }
        assert_eq!(balanced_halves(&means, 3), balanced_halves(&means, 3));
        assert_ne!(balanced_halves(&means, 3), balanced_halves(&means, 4));
        let one_sided: Vec<_> = means
            .iter()
            .filter(|mean| mean.side == Side::Positive)
            .copied()
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
