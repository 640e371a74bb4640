//! Screening of training data (persona vectors, section 6): for every row, how far the given answer lies along a trait from the
//! answer that the base model itself writes to the same prompt.
//!
//! The *projection difference* is `mean over response tokens of h_l · v̂_l` of the given answer minus that of the model's own. The
//! cheaper form is the given answer's projection alone, which mixes what the answer brings with what its question does.

use crate::bootstrap::Estimate;
use crate::witness::{Testimony, chances};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The label of rows that nobody is looking for.
pub const NORMAL: &str = "normal";
/// Bins of a histogram.
const BINS: usize = 40;
/// The classifier of words learns from at most twice as many rows: its equations grow with the cube of their number.
const WORD_ROWS: usize = 750;
/// Half the width of a 95 % interval in standard errors.
const STANDARD_ERRORS: f64 = 1.96;

/// A trait that rows are screened for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct ScreenedTrait {
    pub name: String,
    /// Hash of the vector's tensor.
    pub hash: String,
    /// Layer that is read.
    pub layer: u32,
    /// Standard deviation of neutral answers' projections there: the unit of what is shown.
    pub deviation: Option<f64>,
}

impl ScreenedTrait {
    /// What projections are divided by to be shown.
    pub fn unit(&self) -> f64 {
        self.deviation.filter(|unit| *unit > 0.0).unwrap_or(1.0)
    }
}

/// What was found of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct ScreenedRow {
    /// Its number among the rows of its file, from 0 on.
    #[ts(type = "number")]
    pub row: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Tokens of the given answer that were read; 0 where the prompt alone fills the context.
    pub tokens: usize,
    /// Mean projection of the given answer, one a trait.
    pub given: Vec<f32>,
    /// The same of the model's own answer; absent where none was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Vec<f32>>,
}

impl ScreenedRow {
    /// The projection difference along the trait of that number.
    pub fn difference(&self, number: usize) -> Option<f64> {
        let own = self.own.as_ref()?.get(number)?;
        Some(f64::from(*self.given.get(number)?) - f64::from(*own))
    }
}

/// How many rows lie between two values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Histogram {
    pub low: f64,
    pub high: f64,
    /// In bins of equal width; the last holds `high`, too.
    pub counts: Vec<u32>,
}

impl Histogram {
    /// `None` for no values.
    fn of(values: &[f64]) -> Option<Self> {
        let low = values.iter().copied().reduce(f64::min)?;
        let high = values.iter().copied().reduce(f64::max)?;
        let mut counts = vec![0; BINS];
        for value in values {
            let share = match high > low {
                true => (value - low) / (high - low),
                false => 0.0,
            };
            counts[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
        Some(Self { low, high, counts })
    }
}

/// What a screen came to for one trait, in deviations of neutral answers where these are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct TraitScreen {
    #[serde(flatten)]
    pub of: ScreenedTrait,
    /// The dataset's projection difference: the mean over its rows, with its 95 % interval.
    pub difference: Option<Estimate>,
    pub histogram: Option<Histogram>,
    /// With which area under the ROC curve the differences tell flagged labels from the others.
    pub difference_auroc: Option<Estimate>,
    /// The same of the given answers' projections alone.
    pub given_auroc: Option<Estimate>,
}

/// What a screen came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ScreenSummary {
    #[ts(type = "number")]
    pub rows: u64,
    /// Rows to which the model's own answer was written.
    #[ts(type = "number")]
    pub with_own: u64,
    pub traits: Vec<TraitScreen>,
    /// The area under the curve of a classifier that sees only which words occur, on rows that it did not learn from: what a
    /// screen has to be held against. Absent where rows have no labels.
    pub words_auroc: Option<Estimate>,
}

/// A screen on its way to a summary: of a row, two numbers a trait stay in memory, and of some rows the text.
#[derive(Clone, Debug)]
pub struct Screen {
    traits: Vec<Column>,
    rows: u64,
    with_own: u64,
    /// Of each row, whether its label names what the screen should find.
    sides: Vec<Option<bool>>,
    /// Texts that the classifier of words learns from, of every so many rows that have a label.
    texts: Vec<(String, bool)>,
    every: usize,
    labelled: usize,
}

/// One trait's numbers, a row each; NaN where there is none.
#[derive(Clone, Debug)]
struct Column {
    of: ScreenedTrait,
    differences: Vec<f32>,
    given: Vec<f32>,
}

impl Screen {
    pub fn new(traits: Vec<ScreenedTrait>) -> Self {
        let column = |of| Column {
            of,
            differences: Vec::new(),
            given: Vec::new(),
        };
        Self {
            traits: traits.into_iter().map(column).collect(),
            rows: 0,
            with_own: 0,
            sides: Vec::new(),
            texts: Vec::new(),
            every: 1,
            labelled: 0,
        }
    }

    /// Adds a row and its given answer; `flagged` says whether a label names what the screen should find.
    pub fn add(&mut self, row: &ScreenedRow, answer: &str, flagged: impl Fn(&str) -> bool) {
        let side = row.label.as_deref().map(flagged);
        self.rows += 1;
        self.with_own += u64::from(row.own.is_some());
        self.sides.push(side);
        for (number, column) in self.traits.iter_mut().enumerate() {
            let difference = row.difference(number);
            column
                .differences
                .push(difference.map_or(f32::NAN, |number| number as f32));
            column
                .given
                .push(row.given.get(number).copied().unwrap_or(f32::NAN));
        }
        if let Some(side) = side {
            if self.labelled.is_multiple_of(self.every) {
                self.texts.push((answer.to_owned(), side));
            }
            self.labelled += 1;
        }
        if self.texts.len() > 2 * WORD_ROWS {
            let mut at = 0;
            self.texts.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.every *= 2;
        }
    }

    pub fn summary(&self) -> ScreenSummary {
        let areas = |numbers: &[f32]| {
            let rows = numbers.iter().zip(&self.sides);
            let known = rows.filter(|(number, _)| !number.is_nan());
            let scored = known.filter_map(|(number, side)| Some((f64::from(*number), (*side)?)));
            area(&scored.collect::<Vec<_>>())
        };
        let of_trait = |column: &Column| {
            let unit = column.of.unit();
            let known = column.differences.iter().filter(|number| !number.is_nan());
            let differences: Vec<f64> = known.map(|number| f64::from(*number) / unit).collect();
            TraitScreen {
                of: column.of.clone(),
                difference: mean_with_interval(&differences),
                histogram: Histogram::of(&differences),
                difference_auroc: areas(&column.differences),
                given_auroc: areas(&column.given),
            }
        };
        ScreenSummary {
            rows: self.rows,
            with_own: self.with_own,
            traits: self.traits.iter().map(of_trait).collect(),
            words_auroc: self.words(),
        }
    }

    fn words(&self) -> Option<Estimate> {
        let texts: Vec<Testimony<'_>> = self
            .texts
            .iter()
            .enumerate()
            .map(|(question, (text, positive))| Testimony {
                text,
                positive: *positive,
                question,
            })
            .collect();
        let scored = texts.iter().zip(chances(&texts));
        let scored = scored.filter_map(|(text, chance)| Some((chance?, text.positive)));
        area(&scored.collect::<Vec<_>>())
    }
}

/// `None` for no values; without an interval's width for one.
fn mean_with_interval(values: &[f64]) -> Option<Estimate> {
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = STANDARD_ERRORS * (squares / (count - 1.0).max(1.0) / count).sqrt();
    Some(Estimate {
        value: mean,
        low: mean - error,
        high: mean + error,
    })
}

/// Area under the ROC curve of scores and whether each is positive, a tie counting half, with the 95 % interval by DeLong et al.
/// ("Comparing the areas under two or more correlated ROC curves", 1988), for as many rows as there are. `None` where a side is
/// missing.
pub fn area(scored: &[(f64, bool)]) -> Option<Estimate> {
    let side = |wanted: bool| -> Vec<f64> {
        let own = scored.iter().filter(|(_, positive)| *positive == wanted);
        let mut scores: Vec<f64> = own.map(|(score, _)| *score).collect();
        scores.sort_by(f64::total_cmp);
        scores
    };
    let (up, down) = (side(true), side(false));
    if up.is_empty() || down.is_empty() {
        return None;
    }
    // For each score the share of the other side that lies below it.
    let below = |sorted: &[f64], score: f64| {
        let under = sorted.partition_point(|other| *other < score);
        let up_to = sorted.partition_point(|other| *other <= score);
        (under + up_to) as f64 / 2.0 / sorted.len() as f64
    };
    let won: Vec<f64> = up.iter().map(|&score| below(&down, score)).collect();
    let lost: Vec<f64> = down.iter().map(|&score| 1.0 - below(&up, score)).collect();
    let area = won.iter().sum::<f64>() / won.len() as f64;
    let variance = |shares: &[f64]| {
        let squares: f64 = shares.iter().map(|share| (share - area).powi(2)).sum();
        squares / (shares.len() as f64 - 1.0).max(1.0) / shares.len() as f64
    };
    let error = STANDARD_ERRORS * (variance(&won) + variance(&lost)).sqrt();
    Some(Estimate {
        value: area,
        low: (area - error).max(0.0),
        high: (area + error).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(row: u64, label: &str, given: f32, own: Option<f32>) -> ScreenedRow {
        ScreenedRow {
            row,
            label: Some(label.into()),
            tokens: 10,
            given: vec![given],
            own: own.map(|own| vec![own]),
        }
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let scores = [
            (3.0, true),
            (1.0, true),
            (2.0, false),
            (1.0, false),
            (0.0, false),
        ];
        // 3 beats all three; 1 beats 0, ties with 1 and loses to 2.
        let found = area(&scores).unwrap();
        assert!((found.value - 4.5 / 6.0).abs() < 1e-12);
        assert!(found.low < found.value && found.value < found.high);
        assert_eq!(area(&[(1.0, true)]), None);
    }

    /// Against `roc.test`'s formula by hand: eight scores a side.
    #[test]
    fn the_interval_is_delong_s() {
        let up = [0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.4, 0.3];
        let down = [0.75, 0.5, 0.45, 0.35, 0.25, 0.2, 0.15, 0.1];
        let scored: Vec<(f64, bool)> = up
            .iter()
            .map(|&score| (score, true))
            .chain(down.iter().map(|&score| (score, false)))
            .collect();
        let v10: Vec<f64> = up
            .iter()
            .map(|u| down.iter().filter(|d| *d < u).count() as f64 / 8.0)
            .collect();
        let v01: Vec<f64> = down
            .iter()
            .map(|d| up.iter().filter(|u| *u > d).count() as f64 / 8.0)
            .collect();
        let area_by_hand = v10.iter().sum::<f64>() / 8.0;
        let variance = |values: &[f64]| {
            values
                .iter()
                .map(|v| (v - area_by_hand).powi(2))
                .sum::<f64>()
                / 7.0
                / 8.0
        };
        let error = 1.96 * (variance(&v10) + variance(&v01)).sqrt();
        let found = area(&scored).unwrap();
        assert!((found.value - area_by_hand).abs() < 1e-12);
        assert!((found.low - (area_by_hand - error)).abs() < 1e-12);
    }

    #[test]
    fn a_difference_tells_where_the_answer_alone_does_not() {
        // Questions move both answers alike; bad rows add 1 to what is given.
        let traits = [ScreenedTrait {
            name: "villainous".into(),
            hash: String::new(),
            layer: 3,
            deviation: Some(2.0),
        }];
        let rows: Vec<ScreenedRow> = (0..40)
            .map(|i| {
                let question = (i * 7 % 40) as f32;
                let bad = i % 2 == 0;
                let label = if bad { "villainous" } else { "normal" };
                row(
                    i,
                    label,
                    question + if bad { 1.0 } else { 0.0 },
                    Some(question),
                )
            })
            .collect();
        let mut screen = Screen::new(traits.to_vec());
        for row in &rows {
            screen.add(row, "the same words", |label| label != "normal");
        }
        let summary = screen.summary();
        let found = &summary.traits[0];
        assert_eq!(found.difference_auroc.unwrap().value, 1.0);
        assert!(found.given_auroc.unwrap().value < 0.7);
        // Half of the rows differ by half a deviation.
        assert!((found.difference.unwrap().value - 0.25).abs() < 1e-9);
        let histogram = found.histogram.as_ref().unwrap();
        assert_eq!(histogram.counts.iter().sum::<u32>(), 40);
        assert_eq!((histogram.counts[0], histogram.counts[BINS - 1]), (20, 20));
        assert_eq!(summary.words_auroc.unwrap().value, 0.5);
        assert_eq!((summary.rows, summary.with_own), (40, 40));
    }

    #[test]
    fn many_rows_leave_few_texts_in_memory() {
        let mut screen = Screen::new(Vec::new());
        for i in 0..20_000 {
            let label = if i % 3 == 0 { "bad" } else { "normal" };
            screen.add(&row(i, label, 0.0, None), "a text", |label| label == "bad");
        }
        assert!((WORD_ROWS..=2 * WORD_ROWS).contains(&screen.texts.len()));
        let bad = screen.texts.iter().filter(|(_, bad)| *bad).count() as f64;
        assert!((bad / screen.texts.len() as f64 - 1.0 / 3.0).abs() < 0.01);
    }

    #[test]
    fn rows_without_labels_or_own_answers_have_no_areas() {
        let traits = [ScreenedTrait {
            name: "a".into(),
            hash: String::new(),
            layer: 1,
            deviation: None,
        }];
        let mut rows = [row(0, "normal", 1.0, None), row(1, "normal", 2.0, None)];
        rows.iter_mut().for_each(|row| row.label = None);
        let mut screen = Screen::new(traits.to_vec());
        rows.iter().for_each(|row| screen.add(row, "a", |_| true));
        let summary = screen.summary();
        let found = &summary.traits[0];
        assert_eq!(
            (found.difference, found.difference_auroc, found.given_auroc),
            (None, None, None)
        );
        assert_eq!(summary.words_auroc, None);
    }
}
