//! Intervals by resampling whole questions: answers to one question have more in common than answers to
//! two, so that the question, not the answer, is what another run would draw again.

use serde::{Deserialize, Serialize};
use trimtab_engine::sampling::pcg;
use ts_rs::TS;

/// Resamples of one interval: the 2.5 % points move by about 2 % of the interval's width between seeds.
pub const RESAMPLES: usize = 2_000;

/// A number and its 95 % percentile interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// The same in another unit; `unit` is positive.
    pub fn in_units_of(self, unit: f64) -> Self {
        Self {
            value: self.value / unit,
            low: self.low / unit,
            high: self.high / unit,
        }
    }
}

/// `statistic` of the groups `0..groups` (questions), with the interval of its values over resamples of the
/// groups, drawn with replacement; the same for the same seed. `statistic` gives `None` where it has
/// no value; `None` comes back where it has none for all the groups, or for more than a tenth of the resamples.
pub fn bootstrap(
    groups: usize,
    seed: u32,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Option<Estimate> {
    if groups == 0 {
        return None;
    }
    let all: Vec<usize> = (0..groups).collect();
    let value = statistic(&all)?;
    let mut draw = all;
    let mut values: Vec<f64> = (0..RESAMPLES)
        .filter_map(|resample| {
            for (place, group) in draw.iter_mut().enumerate() {
                *group = below(groups, seed, resample as u32, place as u32);
            }
            statistic(&draw)
        })
        .filter(|value| value.is_finite())
        .collect();
    if values.len() * 10 < RESAMPLES * 9 {
        return None;
    }
    values.sort_by(f64::total_cmp);
    Some(Estimate {
        value,
        low: quantile(&values, 0.025),
        high: quantile(&values, 0.975),
    })
}

/// Mean of `groups`, each group's own mean counting once, with its interval; groups without values are left out of it. `None`
/// when no group has any.
pub fn bootstrap_mean(groups: &[Vec<f64>], seed: u32) -> Option<Estimate> {
    let filled: Vec<Vec<f64>> = groups.iter().filter(|g| !g.is_empty()).cloned().collect();
    bootstrap(filled.len(), seed, |drawn| mean_of_drawn(&filled, drawn))
}

fn mean_of_drawn(groups: &[Vec<f64>], drawn: &[usize]) -> Option<f64> {
    let means = drawn.iter().filter_map(|&group| mean(&groups[group]));
    let (count, sum) = means.fold((0.0, 0.0), |(count, sum), mean| (count + 1.0, sum + mean));
    (count > 0.0).then(|| sum / count)
}

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of the sample (divided by n − 1); `None` for fewer than two values.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Pearson's correlation; `None` for fewer than three points, or where one side does not vary.
pub fn correlation(points: &[(f64, f64)]) -> Option<f64> {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    let (mean_x, mean_y) = (mean(&x)?, mean(&y)?);
    let sum = |of: fn(f64, f64) -> f64| -> f64 {
        let centred = points.iter().map(|(x, y)| (x - mean_x, y - mean_y));
        centred.map(|(x, y)| of(x, y)).sum()
    };
    let spread = (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt();
    (points.len() >= 3 && spread > 1e-12).then(|| sum(|x, y| x * y) / spread)
}

/// A whole number below `bound`, a function of its arguments alone. `bound` is far below 2³², so that the
/// unevenness does not matter.
pub(crate) fn below(bound: usize, seed: u32, row: u32, column: u32) -> usize {
    let random = pcg(column ^ pcg(row ^ pcg(seed)));
    ((u64::from(random) * bound as u64) >> 32) as usize
}

/// Quantile of ascending `values`, at least one, between neighbours in proportion.
fn quantile(values: &[f64], share: f64) -> f64 {
    let at = share * (values.len() - 1) as f64;
    let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_a_mean_are_as_wide_as_its_standard_error_says() {
        let groups: Vec<Vec<f64>> = (0..40).map(|i| vec![f64::from(i % 8)]).collect();
        let found = bootstrap_mean(&groups, 1).unwrap();
        assert_eq!(found.value, 3.5);
        let values: Vec<f64> = groups.concat();
        let error = deviation(&values).unwrap() / 40.0_f64.sqrt();
        for (bound, sign) in [(found.low, -1.0), (found.high, 1.0)] {
            assert!(
                (bound - 3.5 - sign * 1.96 * error).abs() < 0.15 * error,
                "{found:?}"
            );
        }
        assert_eq!(bootstrap_mean(&groups, 1), Some(found));
        assert_ne!(bootstrap_mean(&groups, 2), Some(found));
    }

    #[test]
    fn questions_count_once_however_many_answers_they_have() {
        let groups = [vec![0.0, 0.0, 0.0], vec![], vec![1.0]];
        assert_eq!(bootstrap_mean(&groups, 1).unwrap().value, 0.5);
        assert_eq!(bootstrap_mean(&[vec![], vec![]], 1), None);
        assert_eq!(bootstrap_mean(&[], 1), None);
    }

    #[test]
    fn one_question_says_nothing_about_another() {
        // A width of nothing would be a lie only if it were read as certainty: the criteria ask for more questions.
        let one = bootstrap_mean(&[vec![2.0]], 1).unwrap();
        assert_eq!((one.low, one.high), (2.0, 2.0));
    }

    #[test]
    fn correlations() {
        let line = [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)];
        assert!((correlation(&line).unwrap() - 1.0).abs() < 1e-12);
        let back: Vec<_> = line.iter().map(|(x, y)| (*x, -y)).collect();
        assert!((correlation(&back).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&line[..2]), None);
        assert_eq!(correlation(&[(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]), None);
        // r² = 0.6 of the points (1,2) (2,4) (3,5) (4,4) (5,5), whose line is 2.2 + 0.6 x.
        let points = [(1.0, 2.0), (2.0, 4.0), (3.0, 5.0), (4.0, 4.0), (5.0, 5.0)];
        assert!((correlation(&points).unwrap() - 0.6_f64.sqrt()).abs() < 1e-12);
    }
}
