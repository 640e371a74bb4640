//! Controls: what other directions of the same length do at the same place and dose. Asked of other questions than the
//! sweep where the pack has them, so that the choice of the place does not flatter the vector.

use crate::answers::AnswerSettings;
use crate::coherence::CoherenceCriteria;
use crate::control::{LabelledMean, random_like, rescaled, shuffled_like};
use crate::outcome::{Baseline, BaselineError, BaselineSummary, Outcome};
use crate::push::{Place, Push, PushError};
use crate::sweep::{Material, SweepSettings};
use crate::trait_pack::TraitPack;
use crate::trait_vector::TraitVector;
use crate::trials::{Trial, TrialRecords, TrialSetup};
use crate::vector_metadata::Recommended;
use crate::verdict::{Findings, Ruling, Verdict, VerdictCriteria, judge};
use serde::{Deserialize, Serialize};
use trimtab_engine::steering::PlanError;
use trimtab_engine::{LayerTable, Scope};
use ts_rs::{Config, TS, TypeVisitor};

/// Mean differences of shuffled labels, and isotropic random directions.
pub const SHUFFLED: u32 = 10;
pub const RANDOM: u32 = 3;

/// A direction that is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "DirectionName", into = "DirectionName")]
pub enum Direction {
    Vector,
    Flipped,
    /// Random directions by seed.
    Shuffled(u32),
    Random(u32),
    Other(String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
enum DirectionKind {
    Vector,
    Flipped,
    Shuffled,
    Random,
    Other,
}

/// A direction as reports have it.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
struct DirectionName {
    kind: DirectionKind,
    /// Name of another trait, or the number of a direction among those of its kind, from 1 on.
    name: String,
}

// By hand, because what is derived of a type with another's form cannot be flattened.
impl TS for Direction {
    type WithoutGenerics = Self;
    type OptionInnerType = Self;

    fn name(config: &Config) -> String {
        DirectionName::name(config)
    }

    fn inline(config: &Config) -> String {
        DirectionName::inline(config)
    }

    fn inline_flattened(config: &Config) -> String {
        DirectionName::inline_flattened(config)
    }

    fn visit_dependencies(visitor: &mut impl TypeVisitor) {
        DirectionName::visit_dependencies(visitor);
    }
}

impl From<Direction> for DirectionName {
    fn from(direction: Direction) -> Self {
        let (kind, name) = match direction {
            Direction::Vector => (DirectionKind::Vector, String::new()),
            Direction::Flipped => (DirectionKind::Flipped, String::new()),
            Direction::Shuffled(seed) => (DirectionKind::Shuffled, (seed + 1).to_string()),
            Direction::Random(seed) => (DirectionKind::Random, (seed + 1).to_string()),
            Direction::Other(name) => (DirectionKind::Other, name),
        };
        Self { kind, name }
    }
}

impl From<DirectionName> for Direction {
    fn from(DirectionName { kind, name }: DirectionName) -> Self {
        let seed = || {
            name.parse::<u32>()
                .map_or(0, |number| number.saturating_sub(1))
        };
        match kind {
            DirectionKind::Vector => Self::Vector,
            DirectionKind::Flipped => Self::Flipped,
            DirectionKind::Shuffled => Self::Shuffled(seed()),
            DirectionKind::Random => Self::Random(seed()),
            DirectionKind::Other => Self::Other(name),
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vector => write!(to, "the vector"),
            Self::Flipped => write!(to, "its sign flipped"),
            Self::Shuffled(seed) => write!(to, "shuffled labels {}", seed + 1),
            Self::Random(seed) => write!(to, "random {}", seed + 1),
            Self::Other(name) => write!(to, "the vector {name}"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ControlSettings {
    pub layer: u32,
    /// Relative dose, above 0.
    pub dose: f64,
    /// The largest dose at which the sweep found the text whole, for the sentence.
    pub whole_up_to: Option<f64>,
    pub material: Material,
    pub neutral_samples: usize,
    pub scope: Scope,
    pub max_tokens: usize,
    pub coherence: CoherenceCriteria,
    pub criteria: VerdictCriteria,
}

impl ControlSettings {
    /// 8 questions × 32 tokens, the questions after those of a default sweep. `seen` are the pairs that
    /// extraction used.
    pub fn brief(pack: &TraitPack, seen: &[usize], layer: u32, dose: f64) -> Self {
        let sweep = SweepSettings::brief(pack, seen, 2);
        let asked = sweep.material.questions.len();
        Self {
            layer,
            dose,
            whole_up_to: None,
            material: Material::of(pack, seen, sweep.material.pairs.len(), asked, asked),
            neutral_samples: sweep.neutral_samples,
            scope: sweep.scope,
            max_tokens: sweep.answers.max_tokens,
            coherence: sweep.coherence,
            criteria: VerdictCriteria::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Controls made ready: their trials are the neutral ones, then one for each direction.
#[derive(Clone, Debug)]
pub struct Controls {
    settings: ControlSettings,
    directions: Vec<Direction>,
    name: String,
    /// Coefficient of the dose.
    coefficient: f32,
}

/// A direction and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct ControlRow {
    #[serde(flatten)]
    pub direction: Direction,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The controls' result: the same in the program, the page and the report of a trait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ControlReport {
    pub rows: Vec<ControlRow>,
    pub verdict: Ruling,
    pub sentence: String,
    /// Sentences that a reader should know before believing it.
    pub caveats: Vec<String>,
    /// Absent in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<ControlDetail>,
}

/// The material of controls, and what the verdict follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ControlDetail {
    pub layer: u32,
    pub dose: f64,
    pub coefficient: f32,
    pub material: Material,
    pub unsteered: BaselineSummary,
    pub verdict: Verdict,
    pub coherence: CoherenceCriteria,
}

impl Controls {
    /// `means` are the response-averaged residuals of the contrast set that made the vector; without
    /// them there are no shuffled labels. `other` is another trait's vector.
    pub fn new(
        pack: &TraitPack,
        vector: &TraitVector,
        means: &[LabelledMean<'_>],
        other: Option<&TraitVector>,
        settings: ControlSettings,
    ) -> Result<(Self, TrialSetup), ControlError> {
        let norms = vector.neutral_norm.as_deref();
        let place = Place::Layer(settings.layer);
        let push = Push::new(&vector.table, place, norms)?;
        let mut directions = vec![
            (Direction::Vector, vector.table.clone(), 1.0),
            (Direction::Flipped, vector.table.clone(), -1.0),
        ];
        for seed in 0..SHUFFLED {
            if let Some(table) = shuffled_like(means, &vector.table, seed)? {
                directions.push((Direction::Shuffled(seed), table, 1.0));
            }
        }
        for seed in 0..RANDOM {
            let table = random_like(&vector.table, seed)?;
            directions.push((Direction::Random(seed), table, 1.0));
        }
        if let Some(other) = other {
            let table = rescaled(&other.table, &vector.table)?;
            directions.push((Direction::Other(other.name.clone()), table, 1.0));
        }
        let mut pushes = Vec::new();
        for (_, table, sign) in &directions {
            let push = Push::new(table, place, norms)?;
            pushes.push(Trial {
                plan: push.plan(sign * settings.dose, settings.scope),
                ..Trial::default()
            });
        }
        let answers = AnswerSettings {
            max_tokens: settings.max_tokens,
            ..AnswerSettings::default()
        };
        let samples = settings.neutral_samples;
        let setup = settings.material.setup(pack, answers, samples, pushes);
        let controls = Self {
            coefficient: push.coefficient(settings.dose),
            settings,
            directions: directions
                .into_iter()
                .map(|(direction, ..)| direction)
                .collect(),
            name: pack.name.clone(),
        };
        Ok((controls, setup))
    }

    /// A trial's control; `None` for a neutral trial.
    pub fn direction(&self, trial: usize) -> Option<&Direction> {
        let neutral = self.settings.neutral_samples.max(1);
        self.directions.get(trial.checked_sub(neutral)?)
    }

    /// The result of the records of [`Self::new`]'s trials; also before all of them are there.
    pub fn report(
        &self,
        setup: &TrialSetup,
        records: &TrialRecords,
    ) -> Result<ControlReport, BaselineError> {
        let (neutral, pushed) = records.split_at(self.settings.neutral_samples.max(1));
        let baseline = Baseline::of(neutral, self.settings.coherence)?;
        let rows: Vec<ControlRow> = self
            .directions
            .iter()
            .zip(pushed)
            .map(|(direction, answers)| ControlRow {
                direction: direction.clone(),
                outcome: baseline.outcome(&setup.questions, answers),
            })
            .collect();
        let findings = self.findings(&rows);
        let mut caveats = self.settings.material.caveats();
        if !self
            .directions
            .iter()
            .any(|one| matches!(one, Direction::Shuffled(_)))
        {
            caveats.push("The responses that made the vector are not here, so there are no shuffled labels to compare with.".into());
        }
        let verdict = judge(findings, self.settings.criteria);
        Ok(ControlReport {
            rows,
            verdict: verdict.ruling,
            sentence: verdict.sentence.clone(),
            caveats,
            detail: Some(ControlDetail {
                layer: self.settings.layer,
                dose: self.settings.dose,
                coefficient: self.coefficient,
                material: self.settings.material.clone(),
                unsteered: baseline.summary,
                verdict,
                coherence: self.settings.coherence,
            }),
        })
    }

    fn findings(&self, rows: &[ControlRow]) -> Findings {
        let effect = |row: &ControlRow| row.outcome.deviations().map(|effect| effect.value);
        let all = |wanted: fn(&Direction) -> bool| -> Vec<f64> {
            let own = rows.iter().filter(|row| wanted(&row.direction));
            own.filter_map(effect).collect()
        };
        let vector = rows.iter().find(|row| row.direction == Direction::Vector);
        let other = rows.iter().find_map(|row| match &row.direction {
            Direction::Other(name) => Some((name.clone(), effect(row)?)),
            _ => None,
        });
        Findings {
            name: self.name.clone(),
            effect: vector.and_then(|row| row.outcome.deviations()),
            coherent: vector.map_or(0, |row| row.outcome.coherent),
            questions: vector.map_or(0, |row| row.outcome.answers),
            shuffled: all(|direction| matches!(direction, Direction::Shuffled(_))),
            random: all(|direction| matches!(direction, Direction::Random(_))),
            flipped: all(|direction| *direction == Direction::Flipped)
                .first()
                .copied(),
            other,
            dose: self.settings.dose,
            whole_up_to: self.settings.whole_up_to,
        }
    }
}

impl Controls {
    /// `recommended` with its side against the trait opened as far as the flipped push was whole: a sweep tries
    /// the trait's side alone. `max_incoherent` is the sweep's.
    pub fn with_flipped_side(
        &self,
        report: &ControlReport,
        recommended: &Recommended,
        max_incoherent: f64,
    ) -> Recommended {
        let flipped = report
            .rows
            .iter()
            .find(|row| row.direction == Direction::Flipped);
        let whole = flipped.is_some_and(|row| {
            row.outcome.coherent > 0 && row.outcome.incoherent_share <= max_incoherent
        });
        Recommended {
            min: match whole {
                true => recommended.min.min(-self.coefficient),
                false => recommended.min,
            },
            ..recommended.clone()
        }
    }
}

/// Cosines between all pairs of `tables` at one layer, `[n, n]`; 0 where a row has no length.
pub fn cosines(tables: &[&LayerTable], layer: trimtab_engine::Layer) -> Vec<f32> {
    let rows: Vec<&[f32]> = tables.iter().map(|table| table.row(layer)).collect();
    let cosine = |a: &[f32], b: &[f32]| {
        let dot: f64 = a
            .iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        let length = crate::trait_vector::norm(a) * crate::trait_vector::norm(b);
        if length > 0.0 {
            (dot / length) as f32
        } else {
            0.0
        }
    };
    rows.iter()
        .flat_map(|a| rows.iter().map(move |b| cosine(a, b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Side;
    use crate::outcome::tests::answer;
    use crate::trait_pack::tests::sample;
    use trimtab_engine::Layer;

    fn vector(name: &str, scale: f32) -> TraitVector {
        TraitVector {
            name: name.into(),
            opposite: String::new(),
            description: String::new(),
            table: LayerTable::new(
                (0..8).map(|i| scale * (i * i % 5) as f32 + 1.0).collect(),
                2,
            )
            .unwrap(),
            hash: String::new(),
            recommended: None,
            calibration: None,
            neutral_norm: Some(vec![10.0; 4]),
            model_sha256: None,
        }
    }

    /// A run in which the vector moves evidence by `effect` and everything else by nothing.
    fn report(effect: f64, flipped_logprob: f64) -> (Controls, ControlReport) {
        let mut pack = sample();
        pack.questions.evaluation = (0..12).map(|i| format!("question {i}?")).collect();
        let values: Vec<[f32; 8]> = (0..12).map(|i| [(i * 7 % 5) as f32; 8]).collect();
        let means: Vec<LabelledMean<'_>> = values
            .iter()
            .enumerate()
            .map(|(i, values)| LabelledMean {
                side: if i % 2 == 0 {
                    Side::Positive
                } else {
                    Side::Negative
                },
                question: i / 4,
                values,
            })
            .collect();
        let mut settings = ControlSettings::brief(&pack, &[0], 2, 0.2);
        settings.whole_up_to = Some(0.3);
        let other = vector("poetic", -3.0);
        let (controls, setup) =
            Controls::new(&pack, &vector("warm", 1.0), &means, Some(&other), settings).unwrap();
        // The sweep asks questions 0 to 7; these begin after it.
        assert_eq!(controls.settings.material.questions[..5], [8, 9, 10, 11, 0]);
        let records: TrialRecords = (0..setup.trials.len())
            .map(|trial| {
                let answers = (0..8).map(|question| {
                    let noise = 0.1 * f64::from((trial as u32 * 3 + question) % 4);
                    match controls.direction(trial) {
                        Some(Direction::Vector) => answer(-1.0, effect + noise),
                        Some(Direction::Flipped) => answer(flipped_logprob, noise - effect),
                        _ => answer(-1.0 - noise, noise),
                    }
                });
                answers.collect()
            })
            .collect();
        let report = controls.report(&setup, &records).unwrap();
        (controls, report)
    }

    #[test]
    fn the_right_direction_stands_out_from_sixteen() {
        let (controls, found) = report(1.0, -1.0);
        let kinds = |wanted: fn(&Direction) -> bool| {
            controls.directions.iter().filter(|d| wanted(d)).count()
        };
        assert_eq!(kinds(|d| matches!(d, Direction::Shuffled(_))), 10);
        assert_eq!(kinds(|d| matches!(d, Direction::Random(_))), 3);
        assert_eq!(found.verdict, Ruling::Works, "{}", found.sentence);
        assert!(found.sentence.contains("poetic") && found.sentence.contains("0.30"));
        assert_eq!(report(0.0, -1.0).1.verdict, Ruling::DoesNot);
    }

    #[test]
    fn the_side_against_opens_only_where_the_text_stayed_whole() {
        let recommended = Recommended {
            layers: vec![2],
            min: 0.0,
            max: 5.0,
        };
        let opened = |flipped_logprob| {
            let (controls, found) = report(1.0, flipped_logprob);
            assert!(controls.coefficient > 0.0);
            let min = controls.with_flipped_side(&found, &recommended, 0.25).min;
            (min, controls.coefficient)
        };
        let (min, coefficient) = opened(-1.0);
        assert_eq!(min, -coefficient);
        assert_eq!(opened(-20.0).0, 0.0);
    }

    #[test]
    fn cosines_between_traits() {
        let table = |values: [f32; 2]| LayerTable::new(values.to_vec(), 2).unwrap();
        let (a, b, zero) = (table([1.0, 0.0]), table([-2.0, 0.0]), table([0.0, 0.0]));
        let found = cosines(&[&a, &b, &zero], Layer(0));
        assert_eq!(found, [1.0, -1.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
