//! Trait vectors by several estimators over the same responses, side by side.
//!
//! Components and probes give a direction, not a length. Each is given the length and the sign of the mean
//! difference's part along itself, so that coefficient 1 means the same for all: from the negative
//! responses' mean to the positive ones', along that direction.

use crate::activations::{Average, Sample};
use crate::extract::Side;
use crate::probe::{LOGISTIC_L2, logistic, mass_mean};
use nalgebra::{DMatrix, DVector, RowDVector, SymmetricEigen};
use std::collections::BTreeMap;

/// Methods that make a direction of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Estimator {
    /// Mean difference of response averages: the paper's, and the default.
    ResponseAverage,
    PromptAverage,
    PromptLast,
    /// First principal component of paired differences, uncentred.
    PcaDifference,
    /// The same as repeng's code makes it: it centres the differences first, and so loses their mean, which
    /// is the mean difference.
    PcaDifferenceRepeng,
    /// Logistic regression on standardised response averages ([`LOGISTIC_L2`]).
    Logistic,
    /// Mean difference divided by the covariance within the sides (Geometry of Truth, arXiv 2310.06824).
    MassMean,
}

impl Estimator {
    pub const ALL: [Self; 7] = [
        Self::ResponseAverage,
        Self::PromptAverage,
        Self::PromptLast,
        Self::PcaDifference,
        Self::PcaDifferenceRepeng,
        Self::Logistic,
        Self::MassMean,
    ];

    /// The tensor's name in vector files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResponseAverage => "response_avg",
            Self::PromptAverage => "prompt_avg",
            Self::PromptLast => "prompt_last",
            Self::PcaDifference => "pca_diff",
            Self::PcaDifferenceRepeng => "pca_diff_repeng",
            Self::Logistic => "logistic",
            Self::MassMean => "mass_mean",
        }
    }

    /// The average of a conversation that the estimator looks at.
    pub const fn average(self) -> Average {
        match self {
            Self::PromptAverage => Average::Prompt,
            Self::PromptLast => Average::PromptLast,
            _ => Average::Response,
        }
    }
}

/// The responses at one layer, `[n, d]` in f64.
#[derive(Clone, Debug)]
pub struct LayerSamples {
    rows: DMatrix<f64>,
    positive: Vec<bool>,
    /// Rows of a positive response and its counterpart.
    pairs: Vec<(usize, usize)>,
}

impl LayerSamples {
    /// `width = d`. Both sides must be among `samples`.
    pub fn of(samples: &[Sample<'_>], average: Average, layer: usize, width: usize) -> Self {
        let rows = DMatrix::from_row_iterator(
            samples.len(),
            width,
            samples.iter().flat_map(|sample| {
                let row = sample.averages.row(average, layer, width);
                row.iter().map(|&value| f64::from(value))
            }),
        );
        let at = |side| -> BTreeMap<(usize, usize), usize> {
            let own = samples.iter().enumerate();
            own.filter(|(_, sample)| sample.side == side)
                .map(|(row, sample)| ((sample.pair, sample.question), row))
                .collect()
        };
        let negative = at(Side::Negative);
        let pairs = at(Side::Positive)
            .into_iter()
            .filter_map(|(key, row)| Some((row, *negative.get(&key)?)))
            .collect();
        Self {
            rows,
            positive: samples
                .iter()
                .map(|sample| sample.side == Side::Positive)
                .collect(),
            pairs,
        }
    }

    fn mean(&self, positive: bool) -> DVector<f64> {
        let own = |row: &usize| self.positive[*row] == positive;
        let rows: Vec<usize> = (0..self.positive.len()).filter(own).collect();
        self.rows.select_rows(&rows).row_mean().transpose()
    }

    /// `[d]`
    pub fn mean_difference(&self) -> DVector<f64> {
        self.mean(true) - self.mean(false)
    }

    /// The estimator's vector `[d]`; `None` where it has none (no pairs, or numbers that are not finite).
    pub fn estimate(&self, estimator: Estimator) -> Option<DVector<f64>> {
        let difference = self.mean_difference();
        let direction = match estimator {
            Estimator::ResponseAverage | Estimator::PromptAverage | Estimator::PromptLast => {
                return Some(difference);
            }
            Estimator::PcaDifference => first_component(&self.differences()?)?,
            Estimator::PcaDifferenceRepeng => {
                let differences = self.differences()?;
                let mean = differences.row_mean();
                first_component(&without(differences, &mean))?
            }
            Estimator::Logistic => self.logistic_direction()?,
            Estimator::MassMean => {
                let means = [self.mean(false), self.mean(true)];
                let mut residuals = self.rows.clone();
                for (mut row, &positive) in residuals.row_iter_mut().zip(&self.positive) {
                    row -= means[usize::from(positive)].transpose();
                }
                mass_mean(&residuals, &difference)?
            }
        };
        let length = direction.norm();
        if !(length.is_finite() && length > 0.0) {
            return None;
        }
        let unit = direction / length;
        Some(&unit * unit.dot(&difference))
    }

    /// `[m, d]`; at least two are needed to be more than the difference itself.
    fn differences(&self) -> Option<DMatrix<f64>> {
        let (positive, negative): (Vec<_>, Vec<_>) = self.pairs.iter().copied().unzip();
        (self.pairs.len() > 1)
            .then(|| self.rows.select_rows(&positive) - self.rows.select_rows(&negative))
    }

    /// The direction in the units of the residual stream, not of its deviations.
    fn logistic_direction(&self) -> Option<DVector<f64>> {
        let mean = self.rows.row_mean();
        // A width that never varies tells nothing and is left as it is.
        let deviation = self
            .rows
            .row_variance()
            .map(|variance| if variance > 0.0 { variance.sqrt() } else { 1.0 });
        let mut standardised = without(self.rows.clone(), &mean);
        for mut row in standardised.row_iter_mut() {
            row.component_div_assign(&deviation);
        }
        let found = logistic(&standardised, &self.positive, LOGISTIC_L2)?;
        Some(found.weights.component_div(&deviation.transpose()))
    }
}

fn without(mut rows: DMatrix<f64>, mean: &RowDVector<f64>) -> DMatrix<f64> {
    rows.row_iter_mut().for_each(|mut row| row -= mean);
    rows
}

/// The eigenvector of `XᵀX` with the largest eigenvalue, from the smaller of the two products.
fn first_component(rows: &DMatrix<f64>) -> Option<DVector<f64>> {
    let (n, d) = rows.shape();
    if !rows.iter().all(|value| value.is_finite()) {
        return None;
    }
    let product = if n < d {
        rows * rows.transpose()
    } else {
        rows.transpose() * rows
    };
    let eigen = SymmetricEigen::new(product);
    let largest = eigen.eigenvalues.imax();
    let vector = eigen.eigenvectors.column(largest).into_owned();
    Some(if n < d {
        rows.transpose() * vector
    } else {
        vector
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Averages;

    const WIDTH: usize = 12;

    /// Responses whose sides differ along the first axis, with noise; along the second axis all pairs differ
    /// much, but not on average.
    fn averages(n: usize) -> Vec<(Side, usize, Averages)> {
        (0..n)
            .map(|at| {
                let side = if at % 2 == 0 {
                    Side::Positive
                } else {
                    Side::Negative
                };
                let sign = if side == Side::Positive { 1.0 } else { -1.0 };
                let turn = if at / 2 % 2 == 0 { 1.0 } else { -1.0 };
                let residual: Vec<f32> = (0..3 * WIDTH)
                    .map(|i| {
                        let noise = ((at * 37 + i * 101 + 5) % 29) as f32 / 29.0 - 0.5;
                        match i % WIDTH {
                            0 => noise + sign * 2.0,
                            1 => noise + sign * turn * 5.0,
                            _ => noise,
                        }
                    })
                    .collect();
                (side, at / 2, Averages::of(&residual, WIDTH, 2))
            })
            .collect()
    }

    fn estimate(estimator: Estimator, n: usize) -> DVector<f64> {
        let made = averages(n);
        let samples: Vec<Sample<'_>> = made
            .iter()
            .map(|(side, number, averages)| Sample {
                side: *side,
                pair: number % 2,
                question: number / 2,
                averages,
            })
            .collect();
        LayerSamples::of(&samples, estimator.average(), 0, WIDTH)
            .estimate(estimator)
            .unwrap()
    }

    #[test]
    fn every_estimator_points_to_the_positive_side() {
        for n in [8, 60] {
            let difference = estimate(Estimator::ResponseAverage, n);
            for estimator in Estimator::ALL {
                let found = estimate(estimator, n);
                assert!(found.dot(&difference) > 0.0, "{estimator:?}");
            }
        }
    }

    #[test]
    fn the_difference_is_the_trait_and_components_follow_what_varies_most() {
        let along = |estimator, axis: usize| {
            let found = estimate(estimator, 40);
            f64::abs(found[axis]) / found.norm()
        };
        assert!(along(Estimator::ResponseAverage, 0) > 0.95);
        assert!(along(Estimator::PcaDifference, 1) > 0.95);
        assert!(along(Estimator::PcaDifferenceRepeng, 1) > 0.95);
        assert!(along(Estimator::MassMean, 0) > 0.95);
    }

    #[test]
    fn both_products_give_the_same_component() {
        let rows = DMatrix::from_fn(5, 7, |row, column| {
            ((row * 13 + column * 29 + 3) % 17) as f64 - 8.0
        });
        let wide = first_component(&rows).unwrap().normalize();
        let product = rows.transpose() * &rows;
        let value = wide.dot(&(&product * &wide));
        assert!((product * &wide - &wide * value).norm() < 1e-8 * value);
        let tall = DMatrix::from_fn(7, 5, |row, column| rows[(column, row)]);
        let tall = first_component(&tall).unwrap().normalize();
        let back = (rows.transpose() * tall).normalize();
        assert!((back.dot(&wide).abs() - 1.0).abs() < 1e-9);
    }
}
