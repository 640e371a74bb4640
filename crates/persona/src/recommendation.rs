//! Where to push and how far: the layer with the most evidence at equal cost, and the range of doses in which the
//! text stays whole. Points are joined to their neighbours at most; no line is fitted, because past the working
//! range evidence may turn back.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// One dose at one place and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DosePoint {
    /// Relative dose, not 0.
    pub dose: f64,
    /// Evidence above the neutral answers', in their deviations; `None` without a coherent answer.
    pub effect: Option<f64>,
    pub incoherent_share: f64,
    /// KL(steered‖unsteered), nats a token, where measured.
    pub kl: Option<f64>,
}

/// What counts as working and as broken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RangeCriteria {
    /// Largest share of incoherent answers at a dose at which the text is called whole.
    pub max_incoherent: f64,
    /// The range ends where evidence has fallen this far below its best at a smaller dose, in deviations.
    pub turn_back: f64,
    /// Least evidence, in deviations, for a place to be recommended at all.
    pub min_effect: f64,
    /// KL(steered‖unsteered), nats a token, at which places are compared.
    pub equal_cost: f64,
}

impl Default for RangeCriteria {
    fn default() -> Self {
        Self {
            max_incoherent: 0.25,
            turn_back: 0.5,
            min_effect: 0.5,
            equal_cost: 0.2,
        }
    }
}

/// How far a push at one place works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct WorkingRange {
    /// Largest dose at which the text is whole and evidence has not turned back; 0 if there is none.
    pub end: f64,
    /// The dose within the range that has the most evidence, and that evidence.
    pub best_dose: f64,
    pub best_effect: f64,
    /// The smallest dose tried at which the text breaks.
    pub breaks_at: Option<f64>,
    /// The smallest dose tried at which evidence has turned back although the text is whole.
    pub turns_at: Option<f64>,
}

/// The working range of `points` on one side of 0, in any order.
pub fn working_range(points: &[DosePoint], criteria: &RangeCriteria) -> WorkingRange {
    let mut points = points.to_vec();
    points.sort_by(|a, b| a.dose.abs().total_cmp(&b.dose.abs()));
    let mut range = WorkingRange::default();
    let mut best: Option<f64> = None;
    for point in points {
        let Some(effect) = point.effect else {
            range.breaks_at = Some(point.dose);
            break;
        };
        if point.incoherent_share > criteria.max_incoherent {
            range.breaks_at = Some(point.dose);
            break;
        }
        // Towards the trait evidence grows, against it falls.
        let strength = effect * point.dose.signum();
        if best.is_some_and(|best| strength < best - criteria.turn_back) {
            range.turns_at = Some(point.dose);
            break;
        }
        range.end = point.dose;
        if best.is_none_or(|best| strength > best) {
            best = Some(strength);
            range.best_dose = point.dose;
            range.best_effect = effect;
        }
    }
    range
}

/// The place that is recommended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// Index of the curve.
    pub curve: usize,
    pub range: WorkingRange,
    /// At which cost the places were compared, and in what: KL in nats a token, or the relative dose.
    pub equal_cost: f64,
    pub cost_is_kl: bool,
    /// Evidence there, in deviations, and the relative dose: between the nearest two points in proportion.
    pub effect_at_equal_cost: f64,
    /// 0 in reports of earlier versions.
    #[serde(default)]
    pub dose_at_equal_cost: f64,
}

/// Chooses among `curves`, one a place, each the points on the trait's side (doses above 0). Every place is looked at
/// within its working range at the same cost, [`RangeCriteria::equal_cost`]; where that is not known, at the median of the
/// doses at which the ranges end. A place whose range ends earlier is looked at there. `None` when no place has enough
/// evidence within its range.
pub fn choose(curves: &[Vec<DosePoint>], criteria: &RangeCriteria) -> Option<Choice> {
    let cost_is_kl = curves.iter().flatten().all(|point| point.kl.is_some());
    let cost = |point: &DosePoint| match point.kl {
        Some(kl) if cost_is_kl => kl,
        _ => point.dose,
    };
    let ranges: Vec<WorkingRange> = curves
        .iter()
        .map(|points| working_range(points, criteria))
        .collect();
    // From nothing at no cost through the points of the range, costs never falling: (cost, [effect, dose]).
    let paths: Vec<Vec<(f64, [f64; 2])>> = curves
        .iter()
        .zip(&ranges)
        .map(|(points, range)| {
            let mut inside: Vec<&DosePoint> = points
                .iter()
                .filter(|point| point.dose <= range.end)
                .collect();
            inside.sort_by(|a, b| a.dose.total_cmp(&b.dose));
            let mut path = vec![(0.0, [0.0, 0.0])];
            for point in inside {
                let highest = path.last().map_or(0.0, |(cost, _)| *cost);
                let reached = [point.effect.unwrap_or(0.0), point.dose];
                path.push((cost(point).max(highest), reached));
            }
            path
        })
        .collect();
    let works = |index: &usize| ranges[*index].best_effect >= criteria.min_effect;
    let working: Vec<usize> = (0..curves.len()).filter(works).collect();
    let mut ends: Vec<f64> = working
        .iter()
        .filter_map(|&index| paths[index].last().map(|(cost, _)| *cost))
        .collect();
    ends.sort_by(f64::total_cmp);
    let median = *ends.get(ends.len().saturating_sub(1) / 2)?;
    let equal_cost = match cost_is_kl {
        true => criteria.equal_cost,
        false => median,
    };
    let effect = |index: usize| reached_at(&paths[index], equal_cost)[0];
    let curve = working
        .into_iter()
        .max_by(|&a, &b| effect(a).total_cmp(&effect(b)))?;
    Some(Choice {
        curve,
        range: ranges[curve],
        equal_cost,
        cost_is_kl,
        effect_at_equal_cost: effect(curve),
        dose_at_equal_cost: reached_at(&paths[curve], equal_cost)[1],
    })
}

/// `path` is (cost, what is reached) with costs ascending, from nothing at cost 0.
fn reached_at(path: &[(f64, [f64; 2])], cost: f64) -> [f64; 2] {
    let after = path.partition_point(|(at, _)| *at <= cost);
    match (path.get(after.saturating_sub(1)), path.get(after)) {
        (Some((c0, before)), Some((c1, behind))) => {
            let share = (cost - c0) / (c1 - c0);
            [0, 1].map(|i| before[i] + (behind[i] - before[i]) * share)
        }
        (Some((_, end)), None) => *end,
        (None, _) => [0.0; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rows: &[(f64, f64, f64, f64)]) -> Vec<DosePoint> {
        let point = |&(dose, effect, incoherent_share, kl): &(f64, f64, f64, f64)| DosePoint {
            dose,
            effect: Some(effect),
            incoherent_share,
            kl: Some(kl),
        };
        rows.iter().map(point).collect()
    }

    #[test]
    fn a_u_shape_ends_the_range_where_it_turns() {
        let curve = points(&[
            (0.3, 0.4, 0.0, 0.9),
            (0.1, 1.0, 0.0, 0.1),
            (0.2, 2.0, 0.1, 0.4),
            (0.4, 3.0, 0.0, 2.0),
        ]);
        let range = working_range(&curve, &RangeCriteria::default());
        assert_eq!(
            (range.end, range.turns_at, range.breaks_at),
            (0.2, Some(0.3), None)
        );
        assert_eq!((range.best_dose, range.best_effect), (0.2, 2.0));
    }

    #[test]
    fn broken_text_ends_the_range_however_much_evidence_it_has() {
        let curve = points(&[
            (0.1, 1.0, 0.0, 0.1),
            (0.2, 9.0, 0.5, 0.4),
            (0.3, 2.0, 0.0, 0.9),
        ]);
        let range = working_range(&curve, &RangeCriteria::default());
        assert_eq!((range.end, range.breaks_at), (0.1, Some(0.2)));
        let mut none = curve;
        none[0].effect = None;
        assert_eq!(working_range(&none, &RangeCriteria::default()).end, 0.0);
    }

    #[test]
    fn against_the_trait_evidence_falls() {
        let curve = points(&[
            (-0.1, -1.0, 0.0, 0.1),
            (-0.2, -2.0, 0.0, 0.4),
            (-0.3, 0.5, 0.0, 0.9),
        ]);
        let range = working_range(&curve, &RangeCriteria::default());
        assert_eq!(
            (range.end, range.turns_at, range.best_effect),
            (-0.2, Some(-0.3), -2.0)
        );
    }

    #[test]
    fn the_place_with_the_most_evidence_at_equal_cost_wins() {
        // The first gets further, but at four times the cost of the second.
        let dear = points(&[(0.1, 1.0, 0.0, 0.8), (0.2, 2.2, 0.0, 1.6)]);
        let cheap = points(&[(0.1, 1.0, 0.0, 0.2), (0.2, 2.0, 0.0, 0.4)]);
        let choice = choose(&[dear, cheap], &RangeCriteria::default()).unwrap();
        assert_eq!(
            (choice.curve, choice.cost_is_kl, choice.equal_cost),
            (1, true, 0.2)
        );
        assert!((choice.effect_at_equal_cost - 1.0).abs() < 1e-9);
        assert!((choice.dose_at_equal_cost - 0.1).abs() < 1e-9);
    }

    #[test]
    fn without_divergences_doses_are_compared() {
        let mut weak = points(&[(0.1, 0.6, 0.0, 0.0), (0.2, 0.8, 0.0, 0.0)]);
        let mut strong = points(&[(0.1, 1.5, 0.0, 0.0), (0.2, 1.4, 0.9, 0.0)]);
        weak.iter_mut()
            .chain(&mut strong)
            .for_each(|point| point.kl = None);
        let choice = choose(&[weak, strong], &RangeCriteria::default()).unwrap();
        assert_eq!(
            (choice.curve, choice.cost_is_kl, choice.range.end),
            (1, false, 0.1)
        );
    }

    #[test]
    fn a_vector_that_moves_nothing_is_not_recommended() {
        let flat = points(&[(0.1, 0.1, 0.0, 0.1), (0.2, 0.2, 0.0, 0.4)]);
        assert_eq!(choose(&[flat], &RangeCriteria::default()), None);
        assert_eq!(choose(&[], &RangeCriteria::default()), None);
    }
}
