//! The ratio of paired measurements.

/// A geometric mean with its 95 % interval.
#[derive(Debug)]
pub struct Interval {
    pub low: f64,
    pub middle: f64,
    pub high: f64,
}

impl Interval {
    pub fn of_ratios(ratios: &[f64]) -> Self {
        let count = ratios.len() as f64;
        let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / count;
        let squares = ratios.iter().map(|ratio| (ratio.ln() - mean).powi(2));
        let error = (squares.sum::<f64>() / (count - 1.0) / count).sqrt();
        // Student's t at 97.5 %, to 1 % from 5 pairs on (Cornish and Fisher's first two terms).
        let (z, freedom) = (1.959_964_f64, count - 1.0);
        let t = z
            + (z.powi(3) + z) / (4.0 * freedom)
            + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom.powi(2));
        Self {
            low: (mean - t * error).exp(),
            middle: mean.exp(),
            high: (mean + t * error).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_around_the_mean_and_narrows_with_the_pairs() {
        let ratios = [1.02, 1.00, 1.04, 1.02, 1.02];
        let few = Interval::of_ratios(&ratios);
        let many = Interval::of_ratios(&ratios.repeat(8));
        assert!(few.low < many.low && many.low < many.middle);
        assert!(many.middle < many.high && many.high < few.high);
        assert!((few.middle - 1.02).abs() < 1e-3);
        // t with 4 degrees of freedom is 2.776; the deviation of the logarithms is 0.0139.
        assert!(((few.high / few.middle).ln() - 2.776 * 0.01387 / 5_f64.sqrt()).abs() < 3e-4);
    }
}
