//! Prediction: does the reading of the last prompt token tell what the answer will be like, before it is written?
//! Over system prompts from anti-trait to pro-trait and over questions (persona vectors, section 3.3).

use crate::answers::AnswerSettings;
use crate::bootstrap::{Estimate, bootstrap, correlation, mean};
use crate::calibration::{Calibration, LayerStatistics};
use crate::coherence::CoherenceCriteria;
use crate::json::Correlation;
use crate::material::{Material, UnsteeredTrials};
use crate::outcome::{Baseline, BaselineError, BaselineSummary};
use crate::sweep::SweepSettings;
use crate::trait_pack::{InstructionPair, TraitPack};
use crate::trials::{Trial, TrialAnswer, TrialRecords, TrialSetup};
use serde::{Deserialize, Serialize};
use trimtab_engine::Layer;
use ts_rs::TS;

const INTERVAL_SEED: u32 = 2;

/// Strength with which a system prompt asks for the trait or against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    StronglyAgainst,
    MildlyAgainst,
    /// The template's own system prompt.
    Neutral,
    MildlyTowards,
    StronglyTowards,
}

impl Grade {
    pub const ALL: [Self; 5] = [
        Self::StronglyAgainst,
        Self::MildlyAgainst,
        Self::Neutral,
        Self::MildlyTowards,
        Self::StronglyTowards,
    ];

    /// The system prompt made of one instruction pair; `None`: the template's own.
    pub fn system(self, pair: &InstructionPair) -> Option<String> {
        let mild = |instruction: &str| {
            format!("Answer as you usually would, with just a hint of the following. {instruction}")
        };
        match self {
            Self::StronglyAgainst => Some(pair.negative.clone()),
            Self::MildlyAgainst => Some(mild(&pair.negative)),
            Self::Neutral => None,
            Self::MildlyTowards => Some(mild(&pair.positive)),
            Self::StronglyTowards => Some(pair.positive.clone()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct PredictionSettings {
    /// Name of the direction whose readings the points show.
    pub layer: Layer,
    /// The pair that the system prompts are made of; it measures nothing.
    pub prompt_pair: usize,
    pub material: Material,
    pub neutral_samples: usize,
    pub answers: AnswerSettings,
    pub coherence: CoherenceCriteria,
}

impl PredictionSettings {
    /// 5 system prompts × `questions` questions × 32 tokens. `seen` are the pairs that extraction used.
    pub fn brief(pack: &TraitPack, seen: &[usize], layer: Layer, questions: usize) -> Self {
        let sweep = SweepSettings::brief(pack, seen, 2);
        let mut material = Material {
            questions: Material::of(pack, seen, 1, 0, questions).questions,
            ..sweep.material
        };
        // The prompts' own pair would find in an answer what it asked for.
        let prompt_pair = match material.pairs.len() {
            0 | 1 => {
                let other = |pair: &usize| !material.pairs.contains(pair);
                (0..pack.instructions.len()).find(other).unwrap_or(0)
            }
            _ => material.pairs.remove(0),
        };
        Self {
            layer,
            prompt_pair,
            material,
            neutral_samples: sweep.neutral_samples,
            answers: sweep.answers,
            coherence: sweep.coherence,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Prediction {
    settings: PredictionSettings,
    /// `[grade]`, in the order of [`Grade::ALL`].
    systems: Vec<Option<String>>,
}

/// One answer under one grade.
#[derive(Clone, Debug)]
struct Measured {
    grade: Grade,
    /// Index into the study's questions.
    question: usize,
    /// `h_l · v̂_l` at the last prompt token.
    reading: f64,
    /// Evidence of the answer, in deviations of neutral answers' evidence, from their mean.
    evidence: f64,
    coherent: bool,
}

/// One answer, for a scatter plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PredictionPoint {
    /// The system prompt; empty: the template's own.
    pub system: String,
    pub question: String,
    /// Reading of the last prompt token.
    pub reading: f64,
    /// Evidence of the answer, in deviations of neutral answers' evidence, from their mean.
    pub evidence: f64,
}

/// A prediction's result: the same in the program, the page and the report of a trait. Readings are in deviations of
/// neutral prompt tokens where they are calibrated, else `h_l · v̂_l`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
#[ts(rename = "Prediction")]
pub struct PredictionReport {
    pub layer: u32,
    #[serde(default)]
    pub calibrated: bool,
    /// Coherent answers.
    pub points: Vec<PredictionPoint>,
    /// Over all coherent answers.
    pub pooled: Correlation,
    /// The same with each system prompt's means taken away first: what the reading knows beyond the prompt.
    pub within: Correlation,
    pub sentence: String,
    /// Sentences that a reader should know before believing it.
    pub caveats: Vec<String>,
    /// Absent in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<PredictionDetail>,
}

/// The material of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PredictionDetail {
    pub material: Material,
    pub unsteered: BaselineSummary,
    /// Incoherent answers, which do not count.
    pub incoherent: Vec<PredictionPoint>,
    pub by_grade: Vec<(Grade, Option<Estimate>)>,
    /// Pooled r at each layer, `[L+1]`; null where there is none.
    pub by_layer: Vec<Option<f64>>,
}

impl Prediction {
    /// `name` is for the sentence; `direction` is which of the engine's directions is the vector.
    pub fn new(
        pack: &TraitPack,
        direction: usize,
        settings: PredictionSettings,
    ) -> Option<(Self, TrialSetup)> {
        let prompts = pack.instructions.get(settings.prompt_pair)?;
        let systems: Vec<Option<String>> = Grade::ALL
            .iter()
            .map(|grade| grade.system(prompts))
            .collect();
        // The neutral grade is the first of the neutral samples.
        let graded = systems.iter().flatten().map(|system| Trial {
            system: Some(system.clone()),
            ..Trial::default()
        });
        let (answers, samples) = (settings.answers, settings.neutral_samples);
        let material = &settings.material;
        let setup = TrialSetup {
            direction: Some(direction),
            ..material.setup(
                pack,
                answers,
                UnsteeredTrials::new(samples, 0),
                graded.collect(),
                false,
            )
        };
        Some((Self { settings, systems }, setup))
    }

    /// The result of the records of [`Self::new`]'s trials. `name` is for the sentence; readings are calibrated where
    /// there is a `calibration`.
    pub fn report(
        &self,
        name: &str,
        calibration: Option<&Calibration>,
        setup: &TrialSetup,
        records: &TrialRecords,
    ) -> Result<PredictionReport, BaselineError> {
        let (neutral, graded) = records.split_at(self.settings.neutral_samples.max(1));
        // The strongest prompts are the contexts that explain a style.
        let (against, towards) = (&graded[..1], &graded[graded.len() - 1..]);
        let baseline = Baseline::of(neutral, [towards, against], self.settings.coherence)?;
        let mut others = graded.iter();
        let rows: Vec<(Grade, &Vec<Option<TrialAnswer>>)> = Grade::ALL
            .iter()
            .zip(&self.systems)
            .filter_map(|(&grade, system)| match system {
                None => Some((grade, neutral.first()?)),
                Some(_) => Some((grade, others.next()?)),
            })
            .collect();
        let at_layer = |layer: usize| -> Vec<Measured> {
            rows.iter()
                .flat_map(|(grade, answers)| {
                    answers.iter().enumerate().filter_map(|(question, answer)| {
                        let answer = answer.as_ref()?;
                        let summary = &baseline.summary;
                        Some(Measured {
                            grade: *grade,
                            question,
                            reading: f64::from(*answer.prompt_reading.get(layer)?),
                            evidence: (answer.evidence()? - summary.evidence_mean)
                                / baseline.unit(),
                            coherent: baseline.judge(answer).is_coherent(),
                        })
                    })
                })
                .collect()
        };
        let points = at_layer(self.settings.layer.index());
        let layer_rows = rows
            .iter()
            .flat_map(|(_, answers)| answers.iter().flatten())
            .map(|answer| answer.prompt_reading.len())
            .max()
            .unwrap_or(0);
        let questions = setup.questions.len();
        let of_grade = |grade: Grade| -> Vec<Measured> {
            let own = points.iter().filter(|point| point.grade == grade);
            own.cloned().collect()
        };
        let pooled = correlation_of(&points, questions);
        let within = correlation_of(&centred(&points), questions);
        let ordinary = ordinary(calibration, self.settings.layer.index());
        let shown = |coherent: bool| -> Vec<PredictionPoint> {
            let own = points.iter().filter(|point| point.coherent == coherent);
            own.map(|point| PredictionPoint {
                system: self.systems[point.grade as usize]
                    .clone()
                    .unwrap_or_default(),
                question: setup.questions[point.question].clone(),
                reading: match ordinary {
                    Some((mean, deviation)) => (point.reading - mean) / deviation,
                    None => point.reading,
                },
                evidence: point.evidence,
            })
            .collect()
        };
        Ok(PredictionReport {
            layer: self.settings.layer.0,
            calibrated: ordinary.is_some(),
            points: shown(true),
            pooled: pooled.into(),
            within: within.into(),
            sentence: sentence(name, self.settings.layer, pooled, within),
            caveats: self.settings.material.caveats(),
            detail: Some(PredictionDetail {
                material: self.settings.material.clone(),
                unsteered: baseline.summary.clone(),
                incoherent: shown(false),
                by_grade: Grade::ALL
                    .into_iter()
                    .map(|grade| (grade, correlation_of(&of_grade(grade), questions)))
                    .collect(),
                by_layer: (0..layer_rows)
                    .map(|layer| correlation(&coherent(&at_layer(layer))))
                    .collect(),
            }),
        })
    }
}

/// Mean and standard deviation of neutral prompt tokens' readings at `layer`, where they are known.
fn ordinary(calibration: Option<&Calibration>, layer: usize) -> Option<(f64, f64)> {
    let LayerStatistics { mean, deviation } = &calibration?.prompt;
    let (mean, deviation) = (*mean.get(layer)?, *deviation.get(layer)?);
    (deviation > 0.0).then_some((f64::from(mean), f64::from(deviation)))
}

fn coherent(points: &[Measured]) -> Vec<(f64, f64)> {
    let whole = points.iter().filter(|point| point.coherent);
    whole.map(|point| (point.reading, point.evidence)).collect()
}

/// Correlation of the coherent points, resampling questions.
fn correlation_of(points: &[Measured], questions: usize) -> Option<Estimate> {
    bootstrap(questions, INTERVAL_SEED, |drawn| {
        let own = drawn.iter().flat_map(|&question| {
            points
                .iter()
                .filter(move |point| point.question == question && point.coherent)
        });
        let drawn: Vec<(f64, f64)> = own.map(|point| (point.reading, point.evidence)).collect();
        correlation(&drawn)
    })
}

/// The coherent points with their grade's means taken away.
fn centred(points: &[Measured]) -> Vec<Measured> {
    let mut centred = Vec::with_capacity(points.len());
    for grade in Grade::ALL {
        let own: Vec<&Measured> = points
            .iter()
            .filter(|point| point.grade == grade && point.coherent)
            .collect();
        let of =
            |value: fn(&Measured) -> f64| mean(&own.iter().map(|p| value(p)).collect::<Vec<_>>());
        let (Some(reading), Some(evidence)) = (of(|p| p.reading), of(|p| p.evidence)) else {
            continue;
        };
        centred.extend(own.into_iter().map(|point| Measured {
            reading: point.reading - reading,
            evidence: point.evidence - evidence,
            ..point.clone()
        }));
    }
    centred
}

fn sentence(
    name: &str,
    layer: Layer,
    pooled: Option<Estimate>,
    within: Option<Estimate>,
) -> String {
    let number = |found: Estimate| {
        format!(
            "r = {:.2} (95 % interval {:.2} to {:.2})",
            found.value, found.low, found.high
        )
    };
    let reading = format!("The reading of {name} at {layer}, taken before the answer begins,");
    let headline = match within {
        None => format!(
            "There are too few coherent answers to tell whether {name} can be read before the answer."
        ),
        Some(within) if within.low > 0.0 => format!(
            "{reading} tells how much of the trait the answer will show, also among answers under one system prompt: {}.",
            number(within)
        ),
        Some(within) if within.high < 0.0 => format!(
            "{reading} points the wrong way among answers under one system prompt: {}.",
            number(within)
        ),
        Some(within) => format!(
            "{reading} does not tell, among answers under one system prompt, which will show more of the trait: {}.",
            number(within)
        ),
    };
    match pooled {
        None => headline,
        Some(pooled) => format!(
            "{headline} Over all system prompts together {}: that is mostly which instruction was given.",
            number(pooled)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::answer;
    use crate::trait_pack::tests::sample;

    /// Readings follow the grade; evidence follows the grade too, and within it `slope` times the question's reading.
    fn report(slope: f64) -> PredictionReport {
        let mut pack = sample();
        pack.questions.evaluation = (0..8).map(|i| format!("question {i}?")).collect();
        let settings = PredictionSettings::brief(&pack, &[], Layer(1), 8);
        assert_eq!(
            (settings.prompt_pair, settings.material.pairs.as_slice()),
            (0, &[1][..])
        );
        let (prediction, setup) = Prediction::new(&pack, 0, settings).unwrap();
        // Three neutral samples, of which one is the neutral grade, and four more grades.
        assert_eq!(setup.trials.len(), 7);
        let records: TrialRecords = setup
            .trials
            .iter()
            .map(|trial| {
                let grade = Grade::ALL
                    .iter()
                    .position(|g| g.system(&pack.instructions[0]) == trial.system);
                let level = grade.unwrap() as f64 - 2.0;
                let answers = (0..8).map(|question| {
                    let inner = f64::from(question % 4) - 1.5;
                    let noise = 0.1 * f64::from(question * 5 % 3) + 0.05 * trial.sample as f64;
                    let mut answer = answer(
                        -1.0 - 0.05 * f64::from(question),
                        level + slope * inner + noise,
                    )
                    .unwrap();
                    answer.prompt_reading = vec![0.0, (10.0 * level + inner) as f32];
                    Some(answer)
                });
                answers.collect()
            })
            .collect();
        prediction.report("warm", None, &setup, &records).unwrap()
    }

    #[test]
    fn what_is_between_prompts_is_told_from_what_is_within_them() {
        let found = report(0.2);
        let detail = found.detail.unwrap();
        assert_eq!(found.points.len() + detail.incoherent.len(), 40);
        let (pooled, within) = (
            found.pooled.estimate().unwrap(),
            found.within.estimate().unwrap(),
        );
        assert!(pooled.low > 0.9, "{pooled:?}");
        assert!(within.low > 0.5, "{within:?}");
        assert_eq!(detail.by_layer[0], None);
        assert!(detail.by_layer[1].unwrap() > 0.9);
        let against = report(-0.2);
        assert!(against.pooled.estimate().unwrap().low > 0.9);
        assert!(against.within.estimate().unwrap().high < 0.0);
        assert!(
            found
                .sentence
                .contains("also among answers under one system prompt"),
            "{}",
            found.sentence
        );
    }

    #[test]
    fn a_pair_never_measures_what_it_asked_for() {
        let pack = sample();
        for seen in [&[][..], &[0], &[1], &[0, 1]] {
            let settings = PredictionSettings::brief(&pack, seen, Layer(1), 3);
            assert!(
                !settings.material.pairs.contains(&settings.prompt_pair),
                "{seen:?}"
            );
            assert!(!settings.material.pairs.is_empty());
        }
    }
}
