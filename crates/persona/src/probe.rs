//! Linear classifiers with a ridge: logistic regression by Newton's method, and the mass-mean probe. With
//! fewer samples than features both are solved in the space of the samples, over the n × n Gram matrix.

use nalgebra::{Cholesky, DMatrix, DVector};

/// Strength of the probe's L2 penalty, as scikit-learn's `C = 1 / λ`: the loss is `λ‖w‖²/2 + Σ log(1 + e^(−y·f))`,
/// the intercept free.
pub const LOGISTIC_L2: f64 = 1.0;
/// Share of the mass-mean probe's covariance that is replaced by a multiple of the identity with the same
/// trace (scikit-learn's `shrinkage`): with fewer responses than widths the covariance alone has no inverse.
pub const MASS_MEAN_SHRINKAGE: f64 = 0.1;

const MAX_STEPS: usize = 60;
const MAX_HALVINGS: usize = 30;
const TOLERANCE: f64 = 1e-10;

/// `f(x) = weights · x + intercept`; positive for the positive side.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    pub weights: DVector<f64>,
    pub intercept: f64,
}

impl Linear {
    pub fn log_odds(&self, features: &DVector<f64>) -> f64 {
        self.weights.dot(features) + self.intercept
    }

    /// Chance of the positive side.
    pub fn chance(&self, features: &DVector<f64>) -> f64 {
        1.0 / (1.0 + (-self.log_odds(features)).exp())
    }
}

/// Logistic regression with an L2 penalty on the weights. `samples` is `[n, d]`, `positive` one a row;
/// both sides must be there. `None` where a number is not finite or the equations have no solution.
pub fn logistic(samples: &DMatrix<f64>, positive: &[bool], l2: f64) -> Option<Linear> {
    let (n, d) = samples.shape();
    let labels = DVector::from_iterator(n, positive.iter().map(|&yes| f64::from(u8::from(yes))));
    let (weights, intercept) = if n <= d {
        let gram = samples * samples.transpose();
        let (dual, intercept) = newton(&labels, &gram, &gram, l2, |weights, target| {
            // (K + λ W⁻¹) α + b 1 = z, Σ α = 0
            let mut system = gram.clone();
            for (at, weight) in weights.iter().enumerate() {
                system[(at, at)] += l2 / weight;
            }
            let solver = Cholesky::new(system)?;
            let ones = solver.solve(&DVector::from_element(n, 1.0));
            let plain = solver.solve(target);
            let intercept = plain.sum() / ones.sum();
            Some((plain - ones * intercept, intercept))
        })?;
        (samples.transpose() * dual, intercept)
    } else {
        newton(
            &labels,
            samples,
            &DMatrix::identity(d, d),
            l2,
            |weights, target| {
                // Centring by the weighted mean takes the intercept out of the equations.
                let mean = samples.transpose() * weights / weights.sum();
                let middle = weights.dot(target) / weights.sum();
                let mut centred = samples.clone();
                centred
                    .row_iter_mut()
                    .for_each(|mut row| row -= mean.transpose());
                let scaled = DMatrix::from_diagonal(weights) * &centred;
                let mut system = centred.transpose() * &scaled;
                for at in 0..d {
                    system[(at, at)] += l2;
                }
                let found = Cholesky::new(system)?
                    .solve(&(scaled.transpose() * target.add_scalar(-middle)));
                let intercept = middle - mean.dot(&found);
                Some((found, intercept))
            },
        )?
    };
    let sound = intercept.is_finite() && weights.iter().all(|weight| weight.is_finite());
    sound.then_some(Linear { weights, intercept })
}

/// Newton's method as reweighted least squares. `solve` fits targets `[n]` under weights `[n]`; fitted values
/// are `design · c + b` and the penalty is `λ cᵀ · metric · c / 2`. A step that makes the loss larger is halved.
fn newton(
    labels: &DVector<f64>,
    design: &DMatrix<f64>,
    metric: &DMatrix<f64>,
    l2: f64,
    solve: impl Fn(&DVector<f64>, &DVector<f64>) -> Option<(DVector<f64>, f64)>,
) -> Option<(DVector<f64>, f64)> {
    let loss = |fitted: &DVector<f64>, coefficients: &DVector<f64>| {
        let losses = fitted.iter().zip(labels.iter()).map(|(f, label)| {
            let margin = if *label > 0.5 { *f } else { -f };
            (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)
        });
        l2 * coefficients.dot(&(metric * coefficients)) / 2.0 + losses.sum::<f64>()
    };
    let mut kept = (DVector::zeros(design.ncols()), 0.0);
    let mut fitted = DVector::zeros(labels.len());
    let mut before = loss(&fitted, &kept.0);
    for _ in 0..MAX_STEPS {
        let chances = fitted.map(|f: f64| 1.0 / (1.0 + (-f).exp()));
        // A weight of nothing would make its target infinite.
        let weights = chances.map(|p| (p * (1.0 - p)).max(1e-12));
        let target = &fitted + (labels - &chances).component_div(&weights);
        let (mut coefficients, mut intercept) = solve(&weights, &target)?;
        let mut after = f64::INFINITY;
        for _ in 0..MAX_HALVINGS {
            fitted = (design * &coefficients).add_scalar(intercept);
            after = loss(&fitted, &coefficients);
            if after <= before {
                break;
            }
            coefficients = (&coefficients + &kept.0) / 2.0;
            intercept = f64::midpoint(intercept, kept.1);
        }
        if !after.is_finite() {
            return None;
        }
        kept = (coefficients, intercept);
        let settled = before - after <= TOLERANCE * (1.0 + after);
        before = after;
        if settled {
            break;
        }
    }
    Some(kept)
}

/// `Σ⁻¹ difference`, with `Σ` the covariance of `residuals` `[n, d]` (their class means taken out, divided by
/// n), shrunk by [`MASS_MEAN_SHRINKAGE`].
pub fn mass_mean(residuals: &DMatrix<f64>, difference: &DVector<f64>) -> Option<DVector<f64>> {
    let (n, d) = residuals.shape();
    let (count, width) = (n as f64, d as f64);
    let floor = MASS_MEAN_SHRINKAGE * residuals.norm_squared() / count / width;
    let share = (1.0 - MASS_MEAN_SHRINKAGE) / count;
    let found = if n <= d {
        // (c 1 + s XᵀX)⁻¹ Δ = (Δ − Xᵀ (c/s 1 + X Xᵀ)⁻¹ X Δ) / c
        let mut system = residuals * residuals.transpose();
        for at in 0..n {
            system[(at, at)] += floor / share;
        }
        let inner = Cholesky::new(system)?.solve(&(residuals * difference));
        (difference - residuals.transpose() * inner) / floor
    } else {
        let mut system = residuals.transpose() * residuals * share;
        for at in 0..d {
            system[(at, at)] += floor;
        }
        Cholesky::new(system)?.solve(difference)
    };
    found.iter().all(|value| value.is_finite()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clouds that overlap; a function of the indices alone.
    fn clouds(n: usize, d: usize) -> (DMatrix<f64>, Vec<bool>) {
        let positive: Vec<bool> = (0..n).map(|row| row % 2 == 0).collect();
        let samples = DMatrix::from_fn(n, d, |row, column| {
            let noise =
                (((row * 7919 + column * 104_729 + 13) % 1_009) as f64 / 1_009.0 - 0.5) * 4.0;
            noise
                + if positive[row] && column == 0 {
                    1.0
                } else {
                    0.0
                }
        });
        (samples, positive)
    }

    /// The loss' gradient: `λ w − Σ (y − p) x`, and `Σ (y − p)`.
    fn gradient(samples: &DMatrix<f64>, positive: &[bool], found: &Linear) -> f64 {
        let mut by_weight = &found.weights * LOGISTIC_L2;
        let mut by_intercept = 0.0;
        for (row, &yes) in samples.row_iter().zip(positive) {
            let row = row.transpose();
            let missing = f64::from(u8::from(yes)) - found.chance(&row);
            by_weight -= &row * missing;
            by_intercept += missing;
        }
        by_weight.norm() + f64::abs(by_intercept)
    }

    #[test]
    fn the_logistic_fit_is_the_losss_minimum_with_few_samples_and_with_many() {
        for (n, d) in [(12, 40), (60, 6)] {
            let (samples, positive) = clouds(n, d);
            let found = logistic(&samples, &positive, LOGISTIC_L2).unwrap();
            let slope = gradient(&samples, &positive, &found);
            assert!(slope < 1e-4, "{n} x {d}: {slope}");
        }
    }

    #[test]
    fn sides_far_apart_do_not_break_it() {
        let samples = DMatrix::from_fn(8, 2, |row, _| if row < 4 { 1e4 } else { -1e4 });
        let positive: Vec<bool> = (0..8).map(|row| row < 4).collect();
        let found = logistic(&samples, &positive, LOGISTIC_L2).unwrap();
        assert!(found.weights[0] > 0.0);
    }

    #[test]
    fn the_mass_mean_probe_solves_its_equations_in_both_spaces() {
        for (n, d) in [(5, 9), (30, 4)] {
            let (residuals, _) = clouds(n, d);
            let difference = DVector::from_fn(d, |at, _| 1.0 + at as f64);
            let found = mass_mean(&residuals, &difference).unwrap();
            let covariance = residuals.transpose() * &residuals / n as f64;
            let floor = MASS_MEAN_SHRINKAGE * covariance.trace() / d as f64;
            let shrunk = covariance * (1.0 - MASS_MEAN_SHRINKAGE) + DMatrix::identity(d, d) * floor;
            assert!((shrunk * found - difference).norm() < 1e-9);
        }
    }

    #[test]
    fn numbers_that_are_none_give_no_probe() {
        let mut samples = clouds(6, 3).0;
        samples[(2, 1)] = f64::NAN;
        assert!(logistic(&samples, &[true, false, true, false, true, false], 1.0).is_none());
        assert!(mass_mean(&samples, &DVector::from_element(3, 1.0)).is_none());
    }
}
