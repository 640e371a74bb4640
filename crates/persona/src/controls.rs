//! Controls: what other directions of the same length do at the same place and dose. Asked of questions that neither
//! extraction nor the sweep asked where the pack has them, so that the choice of the place does not flatter the vector.

use crate::answers::AnswerSettings;
use crate::bootstrap::bootstrap_mean;
use crate::coherence::CoherenceCriteria;
use crate::control::{LabelledMean, random_like, rescaled, shuffled_like};
use crate::material::{Material, UnsteeredTrials};
use crate::outcome::{
    Baseline, BaselineError, BaselineSummary, INTERVAL_SEED, JudgedAnswer, Outcome,
};
use crate::push::{Place, Push, PushError};
use crate::sweep::SweepSettings;
use crate::trait_pack::TraitPack;
use crate::trait_vector::{TraitVector, norm};
use crate::trials::{Trial, TrialRecords, TrialSetup};
use crate::vector_metadata::Recommended;
use crate::verdict::{Figures, Rival, Ruling, TEST, Verdict, VerdictCriteria, judge};
use crate::witness::{ContrastText, testify};
use serde::{Deserialize, Serialize};
use trimtab_engine::steering::PlanError;
use trimtab_engine::{Layer, LayerTable, Scope};
use ts_rs::{Config, TS, TypeVisitor};

/// Mean differences of shuffled labels, as many as the randomisation test needs.
pub const SHUFFLED: u32 = 19;
/// Isotropic random directions, which are shown and not counted: no direction of activations looks like one.
pub const RANDOM: u32 = 5;
/// Evaluation questions that controls ask, after those of a brief sweep.
const QUESTIONS: usize = 16;

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
    pub material: Material,
    pub neutral_samples: usize,
    pub scope: Scope,
    pub max_tokens: usize,
    pub coherence: CoherenceCriteria,
    pub criteria: VerdictCriteria,
}

impl ControlSettings {
    /// 16 questions × 32 tokens, the questions after those of a brief sweep. `seen` are the pairs that extraction used.
    pub fn brief(pack: &TraitPack, seen: &[usize], layer: u32, dose: f64) -> Self {
        let sweep = SweepSettings::brief(pack, seen, 2);
        let asked = sweep.material.questions.len();
        Self {
            layer,
            dose,
            material: Material::of(pack, seen, sweep.material.pairs.len(), asked, QUESTIONS),
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

/// Controls made ready: their trials are the unsteered ones, then one for each direction.
#[derive(Clone, Debug)]
pub struct Controls {
    settings: ControlSettings,
    unsteered: UnsteeredTrials,
    /// With the cosine to the vector at the layer.
    directions: Vec<(Direction, f64)>,
    name: String,
    /// Coefficient of the dose.
    coefficient: f32,
    /// Texts that the second witness learns from.
    contrast: Vec<ContrastText>,
}

/// A direction and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct ControlRow {
    #[serde(flatten)]
    pub direction: Direction,
    /// To the vector, at the layer. Absent in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
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
    /// Number of the test that the verdict follows, see [`TEST`]; absent in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<u32>,
    /// The verdict's questions and their figures. Absent in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Verdict>,
}

/// The material of controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ControlDetail {
    pub layer: u32,
    pub dose: f64,
    pub coefficient: f32,
    pub material: Material,
    pub unsteered: BaselineSummary,
    /// The neutral answers, several to each question.
    #[serde(default)]
    pub unsteered_texts: Vec<JudgedAnswer>,
    pub coherence: CoherenceCriteria,
}

impl Controls {
    /// `means` are the response-averaged residuals of the contrast set that made the vector; without them there are no
    /// shuffled labels. `contrast` are its texts, for the second witness. `others` are the vectors of other traits. `judged` is what
    /// the verdict is about, as a rule the vector's own table; all other directions are as long as the vector, so that answers
    /// pushed by them serve whatever is judged.
    pub fn new(
        pack: &TraitPack,
        vector: &TraitVector,
        judged: &LayerTable,
        means: &[LabelledMean<'_>],
        contrast: Vec<ContrastText>,
        others: &[TraitVector],
        settings: ControlSettings,
    ) -> Result<(Self, TrialSetup), ControlError> {
        let norms = vector.neutral_norm.as_deref();
        let place = Place::Layer(settings.layer);
        let push = Push::new(judged, place, norms)?;
        let mut directions = vec![
            (Direction::Vector, judged.clone(), 1.0),
            (Direction::Flipped, judged.clone(), -1.0),
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
        for other in others {
            let table = rescaled(&other.table, &vector.table)?;
            directions.push((Direction::Other(other.name.clone()), table, 1.0));
        }
        let pairs = settings.material.pairs.len();
        let unsteered = UnsteeredTrials::new(settings.neutral_samples, pairs);
        let mut pushes = Vec::new();
        for (direction, table, sign) in &directions {
            let push = Push::new(table, place, norms)?;
            pushes.push(Trial {
                plan: push.plan(sign * settings.dose, settings.scope),
                choice: *direction == Direction::Vector,
                ..Trial::default()
            });
        }
        let answers = AnswerSettings {
            max_tokens: settings.max_tokens,
            ..AnswerSettings::default()
        };
        let setup = TrialSetup {
            choice: Some([pack.name.replace('-', " "), pack.opposite.clone()]),
            ..settings
                .material
                .setup(pack, answers, unsteered, pushes, true)
        };
        let layer = Layer(settings.layer);
        let controls = Self {
            coefficient: push.coefficient(settings.dose),
            directions: directions
                .into_iter()
                .map(|(direction, table, sign)| {
                    let cosine = sign * cosine(judged.row(layer), table.row(layer));
                    (direction, cosine)
                })
                .collect(),
            settings,
            unsteered,
            name: pack.name.clone(),
            contrast,
        };
        Ok((controls, setup))
    }

    /// A trial's control; `None` for an unsteered trial.
    pub fn direction(&self, trial: usize) -> Option<&Direction> {
        let at = trial.checked_sub(self.unsteered.count())?;
        self.directions.get(at).map(|(direction, _)| direction)
    }

    /// The result of the records of [`Self::new`]'s trials; also before all of them are there.
    pub fn report(
        &self,
        setup: &TrialSetup,
        records: &TrialRecords,
    ) -> Result<ControlReport, BaselineError> {
        let parts = self.unsteered.split(records);
        let baseline = Baseline::of(parts.neutral, parts.instructed, self.settings.coherence)?;
        let rows: Vec<ControlRow> = self
            .directions
            .iter()
            .zip(parts.steered)
            .map(|((direction, cosine), answers)| ControlRow {
                direction: direction.clone(),
                cosine: Some(*cosine),
                outcome: baseline.outcome(&setup.questions, answers),
            })
            .collect();
        let shifts: Vec<Vec<Option<f64>>> = parts
            .steered
            .iter()
            .map(|answers| baseline.shifts(answers))
            .collect();
        let witnesses = match parts.steered.first() {
            Some(answers) => testify(
                &self.contrast,
                parts,
                answers,
                |answer| baseline.judge(answer).is_coherent(),
                self.settings.criteria.min_auc,
            ),
            None => Vec::new(),
        };
        let figures = Figures {
            witnesses,
            ..self.figures(&rows, &shifts)
        };
        let mut caveats = self.settings.material.caveats();
        if figures.shuffled.is_empty() {
            caveats.push("The responses that made the vector are not here, so there are no shuffled labels to compare with.".into());
        }
        let verdict = judge(figures, self.settings.criteria);
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
                unsteered_texts: parts
                    .neutral
                    .iter()
                    .flat_map(|answers| baseline.outcome(&setup.questions, answers).texts)
                    .collect(),
                unsteered: baseline.summary,
                coherence: self.settings.coherence,
            }),
            test: Some(TEST),
            answers: Some(verdict),
        })
    }

    /// Figures of the verdict without its witnesses; `shifts` are in the order of `rows`.
    fn figures(&self, rows: &[ControlRow], shifts: &[Vec<Option<f64>>]) -> Figures {
        let of = |wanted: Direction| rows.iter().find(|row| row.direction == wanted);
        let value = |row: &ControlRow| row.outcome.deviations().map(|effect| effect.value);
        let vector = of(Direction::Vector);
        let own = rows
            .iter()
            .position(|row| row.direction == Direction::Vector);
        let rivals = rows
            .iter()
            .zip(shifts)
            .filter_map(|(row, shifts_of_rival)| {
                let Direction::Other(name) = &row.direction else {
                    return None;
                };
                let cosine = row.cosine.unwrap_or(0.0);
                let margins: Vec<Vec<f64>> = shifts[own?]
                    .iter()
                    .zip(shifts_of_rival)
                    .map(|(own, rival)| own.zip(*rival).map(|(own, rival)| own - rival))
                    .map(|margin| margin.into_iter().collect())
                    .collect();
                Some(Rival {
                    name: name.clone(),
                    cosine,
                    effect: value(row),
                    margin: bootstrap_mean(&margins, INTERVAL_SEED),
                    relative: cosine.abs() >= self.settings.criteria.relative_cosine,
                })
            });
        let shuffled = rows
            .iter()
            .filter(|row| matches!(row.direction, Direction::Shuffled(_)));
        Figures {
            name: self.name.clone(),
            effect: vector.and_then(|row| row.outcome.deviations()),
            coherent: vector.map_or(0, |row| row.outcome.coherent),
            answers: vector.map_or(0, |row| row.outcome.answers),
            shuffled: shuffled.map(value).collect(),
            flipped: of(Direction::Flipped).and_then(|row| row.outcome.deviations()),
            rivals: rivals.collect(),
            witnesses: Vec::new(),
            dose: self.settings.dose,
        }
    }
}

impl Controls {
    /// `recommended` with its side against the trait opened as far as the flipped push was whole, where it does anything: a
    /// sweep tries the trait's side alone. `max_incoherent` is the sweep's.
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
        let one_sided = report
            .answers
            .as_ref()
            .is_none_or(|verdict| verdict.other_side.one_sided);
        Recommended {
            min: match whole && !one_sided {
                true => recommended.min.min(-self.coefficient),
                false => recommended.min,
            },
            ..recommended.clone()
        }
    }
}

/// Cosines between all pairs of `tables` at one layer, `[n, n]`; 0 where a row has no length.
pub fn cosines(tables: &[&LayerTable], layer: Layer) -> Vec<f32> {
    let rows: Vec<&[f32]> = tables.iter().map(|table| table.row(layer)).collect();
    rows.iter()
        .flat_map(|a| rows.iter().map(move |b| cosine(a, b) as f32))
        .collect()
}

/// 0 where one has no length.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    let length = norm(a) * norm(b);
    match length > 0.0 {
        true => products.sum::<f64>() / length,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Side;
    use crate::outcome::tests::answer;
    use crate::trait_pack::tests::sample;
    use crate::trials::TrialAnswer;
    use trimtab_engine::Layer;
    use trimtab_engine::sampling::uniform;

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

    /// The same answer, `drop` nats a token less likely in every context.
    fn less_likely(answer: Option<TrialAnswer>, drop: f64) -> Option<TrialAnswer> {
        let mut answer = answer?;
        let contexts = &mut answer.likelihoods;
        for likelihood in [
            &mut contexts.usual,
            &mut contexts.positive,
            &mut contexts.negative,
        ] {
            *likelihood = likelihood.map(|likelihood| likelihood - drop);
        }
        Some(answer)
    }

    /// A run in which the vector moves evidence by `effect` and everything else by nothing.
    fn report(effect: f64, flipped_logprob: f64) -> (Controls, ControlReport) {
        let mut pack = sample();
        pack.questions.evaluation = (0..24).map(|i| format!("question {i}?")).collect();
        let values: Vec<[f32; 8]> = (0..12_u32)
            .map(|i| std::array::from_fn(|j| uniform(i, j as u32, 0)))
            .collect();
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
        let settings = ControlSettings::brief(&pack, &[0], 2, 0.2);
        let others = [vector("poetic", -1.5), vector("glad", 0.9)];
        let warm = vector("warm", 1.0);
        let make = |judged: &LayerTable| {
            Controls::new(
                &pack,
                &warm,
                judged,
                &means,
                Vec::new(),
                &others,
                settings.clone(),
            )
        };
        let (controls, setup) = make(&warm.table).unwrap();
        // What else is judged shares everything but its own two pushes.
        let (_, instead) = make(&random_like(&warm.table, 1_000).unwrap()).unwrap();
        let keys = [&setup, &instead].map(|setup| setup.keys("a model", None));
        let differ = keys[0]
            .iter()
            .zip(&keys[1])
            .filter(|(one, other)| one != other);
        assert_eq!(differ.count(), 2);
        // The sweep asks questions 0 to 7; these begin after it.
        assert_eq!(
            controls.settings.material.questions,
            (8..24).collect::<Vec<_>>()
        );
        let records: TrialRecords = (0..setup.trials.len())
            .map(|trial| {
                let answers = (0..16).map(|question| {
                    let noise = 0.1 * f64::from((trial as u32 * 3 + question) % 4);
                    match controls.direction(trial) {
                        Some(Direction::Vector) => answer(-1.0, effect + noise),
                        Some(Direction::Flipped) => {
                            less_likely(answer(-1.0, noise - effect), -1.0 - flipped_logprob)
                        }
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
    fn the_right_direction_stands_out() {
        let (controls, found) = report(1.0, -1.0);
        let kinds = |wanted: fn(&Direction) -> bool| {
            let all = controls.directions.iter();
            all.filter(|(direction, _)| wanted(direction)).count()
        };
        assert_eq!(kinds(|d| matches!(d, Direction::Shuffled(_))), 19);
        assert_eq!(kinds(|d| matches!(d, Direction::Random(_))), 5);
        assert_eq!(found.verdict, Ruling::Works, "{}", found.sentence);
        let verdict = found.answers.unwrap();
        assert_eq!(verdict.chance.rank, Some(0.05));
        let relatives = verdict.specificity.rivals.iter().map(|one| one.relative);
        assert_eq!(relatives.collect::<Vec<_>>(), [false, true]);
        assert!(!verdict.other_side.one_sided);
        assert_eq!(report(0.0, -1.0).1.verdict, Ruling::DoesNot);
    }

    #[test]
    fn the_side_against_opens_only_where_the_text_stayed_whole() {
        let recommended = Recommended {
            layers: vec![2],
            min: 0.0,
            max: 5.0,
            usual: None,
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
