//! Directions that mean nothing, to compare a trait vector with.

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
