//! The sweep: what a vector does to the model's own evidence for its trait at several layers and doses, and what
//! it costs, on instructions and questions that extraction never saw.

use crate::answers::AnswerSettings;
use crate::coherence::CoherenceCriteria;
use crate::material::{Material, UnsteeredTrials};
use crate::outcome::{Baseline, BaselineError, BaselineSummary, Outcome};
use crate::push::{Place, Push, PushError};
use crate::recommendation::{
    Choice, DosePoint, RangeCriteria, WorkingRange, choose, working_range,
};
use crate::trait_pack::TraitPack;
use crate::trait_vector::TraitVector;
use crate::trials::{Trial, TrialAnswer, TrialRecords, TrialSetup};
use crate::vector_metadata::Recommended;
use serde::{Deserialize, Serialize};
use trimtab_engine::{Layer, Scope};
use ts_rs::TS;

/// Relative doses of a default sweep, towards the trait.
pub const DOSES: [f64; 3] = [0.1, 0.2, 0.3];
/// Doses that are tried one after another at a place where the text is still whole.
const FURTHER_DOSES: [f64; 4] = [0.45, 0.6, 0.8, 1.0];
/// Depths at which a default sweep pushes, as shares of the model's layers.
const DEPTHS: [f64; 4] = [0.37, 0.47, 0.57, 0.67];
const QUESTIONS: usize = 8;
const MAX_TOKENS: usize = 32;
/// Unsteered answers to each question: the unit of effects and the coherence band are made of them.
const NEUTRAL_SAMPLES: usize = 3;
/// Maximum number of unseen pairs that a default study measures evidence with; each costs two readings of every answer.
const PAIRS: usize = 2;

#[derive(Clone, Debug)]
pub struct SweepSettings {
    pub places: Vec<Place>,
    /// Relative doses; below 0: against the trait.
    pub doses: Vec<f64>,
    /// Tried after those, in this order, at each place until the text breaks.
    pub further_doses: Vec<f64>,
    pub material: Material,
    pub neutral_samples: usize,
    /// Tokens that are pushed. With [`Scope::Response`] the prompts stay as they are and are read once.
    pub scope: Scope,
    pub answers: AnswerSettings,
    pub coherence: CoherenceCriteria,
    pub range: RangeCriteria,
}

impl SweepSettings {
    /// 4 layers × 3 doses × 8 questions × 32 tokens. `seen` are the pairs that extraction used.
    pub fn brief(pack: &TraitPack, seen: &[usize], layer_rows: usize) -> Self {
        let last = (layer_rows - 1) as f64;
        let mut layers: Vec<u32> = DEPTHS
            .iter()
            .map(|depth| (depth * last).round().max(1.0) as u32)
            .collect();
        layers.dedup();
        Self {
            places: layers.into_iter().map(Place::Layer).collect(),
            doses: DOSES.to_vec(),
            further_doses: FURTHER_DOSES.to_vec(),
            material: Material::of(pack, seen, PAIRS, 0, QUESTIONS),
            neutral_samples: NEUTRAL_SAMPLES,
            scope: Scope::Response,
            answers: AnswerSettings {
                max_tokens: MAX_TOKENS,
                ..AnswerSettings::default()
            },
            coherence: CoherenceCriteria::default(),
            range: RangeCriteria::default(),
        }
    }

    /// All layers, one by one and together, and all evaluation questions, on both sides of 0. Hours, not minutes.
    pub fn thorough(pack: &TraitPack, seen: &[usize], layer_rows: usize) -> Self {
        let each = (1..layer_rows as u32).map(Place::Layer);
        Self {
            places: each.chain([Place::AllLayers]).collect(),
            doses: vec![-0.3, -0.2, -0.1, 0.05, 0.1, 0.15, 0.2, 0.3],
            material: Material::of(pack, seen, usize::MAX, 0, usize::MAX),
            ..Self::brief(pack, seen, layer_rows)
        }
    }
}

/// One setting of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    pub place: Place,
    pub dose: f64,
    pub coefficient: f32,
}

/// A sweep made ready: its trials are the unsteered ones, then one for each setting.
#[derive(Clone, Debug)]
pub struct Sweep {
    settings: SweepSettings,
    unsteered: UnsteeredTrials,
    rows: Vec<Setting>,
    trait_name: String,
    /// `L+1`
    layer_rows: usize,
}

/// One setting and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SweepRow {
    pub layers: Vec<u32>,
    /// True if all layers were pushed at once, by increments.
    pub all_layers: bool,
    /// Relative dose.
    pub dose: f64,
    pub coefficient: f32,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The range of one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PlaceRange {
    pub place: Place,
    pub towards: WorkingRange,
    /// Settings with doses below 0.
    pub against: Option<WorkingRange>,
}

/// A sweep's recommendation: a place to push at, and how far to push before the text breaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct SweepRecommendation {
    #[serde(flatten)]
    pub range: Recommended,
    pub sentence: String,
}

/// The way in which a recommendation was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SweepChoice {
    pub layer: u32,
    /// Relative doses: the range's ends, and where evidence is largest.
    pub low_dose: f64,
    pub high_dose: f64,
    pub best_dose: f64,
    pub choice: Choice,
}

/// A sweep's result: the same in the program, the page and the report of a trait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct SweepReport {
    /// One entry per place and dose, in the order of places, then doses.
    pub rows: Vec<SweepRow>,
    /// Evidence without a push: rows tell evidence above that of the unsteered answers.
    pub neutral: f64,
    /// `None` when no place has evidence within its working range.
    #[ts(optional = false)]
    pub recommended: Option<SweepRecommendation>,
    /// The result in a sentence, also where nothing is recommended.
    pub sentence: String,
    /// Sentences that a reader should know before believing it.
    pub caveats: Vec<String>,
    /// Absent in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<SweepDetail>,
}

/// The material of a sweep, and the way in which its recommendation was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct SweepDetail {
    pub material: Material,
    pub unsteered: BaselineSummary,
    pub ranges: Vec<PlaceRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<SweepChoice>,
    /// Every answer is there and measured.
    pub complete: bool,
    pub coherence: CoherenceCriteria,
    pub range: RangeCriteria,
}

impl Sweep {
    pub fn new(
        pack: &TraitPack,
        vector: &TraitVector,
        settings: SweepSettings,
    ) -> Result<(Self, TrialSetup), PushError> {
        let pairs = settings.material.pairs.len();
        let unsteered = UnsteeredTrials::new(settings.neutral_samples, pairs);
        let mut pushes = Vec::new();
        let mut rows = Vec::new();
        for &place in &settings.places {
            let push = Push::new(&vector.table, place, vector.neutral_norm.as_deref())?;
            for &dose in settings.doses.iter().chain(&settings.further_doses) {
                rows.push(Setting {
                    place,
                    dose,
                    coefficient: push.coefficient(dose),
                });
                pushes.push(Trial {
                    plan: push.plan(dose, settings.scope),
                    divergence: true,
                    ..Trial::default()
                });
            }
        }
        let material = &settings.material;
        let setup = material.setup(pack, settings.answers, unsteered, pushes, false);
        let sweep = Self {
            settings,
            unsteered,
            rows,
            trait_name: pack.name.clone(),
            layer_rows: vector.table.rows(),
        };
        Ok((sweep, setup))
    }

    /// Trials in the order in which they are made: all the settings that are asked for, then further doses one by one.
    pub fn stages(&self) -> Vec<Vec<usize>> {
        let each = self.settings.doses.len() + self.settings.further_doses.len();
        let first = self.unsteered.count();
        let dose_of = |row: usize| row % each.max(1);
        let asked = (0..self.rows.len()).filter(|&row| dose_of(row) < self.settings.doses.len());
        let mut stages = vec![(0..first).chain(asked.map(|row| first + row)).collect()];
        for dose in self.settings.doses.len()..each {
            let rows = (0..self.rows.len()).filter(|&row| dose_of(row) == dose);
            stages.push(rows.map(|row| first + row).collect());
        }
        stages
    }

    /// Whether a further dose is worth trying: at the dose before it, the text at its place was whole.
    pub fn is_wanted(&self, setup: &TrialSetup, records: &TrialRecords, trial: usize) -> bool {
        let each = self.settings.doses.len() + self.settings.further_doses.len();
        let row = trial.saturating_sub(self.unsteered.count());
        if trial < self.unsteered.count() || row % each.max(1) < self.settings.doses.len() {
            return true;
        }
        self.row(setup, records, trial - 1).is_some_and(|before| {
            let outcome = &before.outcome;
            let whole = outcome.incoherent_share <= self.settings.range.max_incoherent;
            outcome.coherent > 0 && whole
        })
    }

    /// A trial's name for people; `None` for an unsteered one.
    pub fn setting(&self, trial: usize) -> Option<&Setting> {
        self.rows.get(trial.checked_sub(self.unsteered.count())?)
    }

    /// The row of one trial as far as it is there; `None` for an unsteered one, and before the neutral answers are.
    pub fn row(
        &self,
        setup: &TrialSetup,
        records: &TrialRecords,
        trial: usize,
    ) -> Option<SweepRow> {
        let setting = *self.setting(trial)?;
        let baseline = self.baseline(records).ok()?;
        Some(self.row_of(
            &setting,
            baseline.outcome(&setup.questions, &records[trial]),
        ))
    }

    fn baseline(&self, records: &TrialRecords) -> Result<Baseline, BaselineError> {
        let parts = self.unsteered.split(records);
        Baseline::of(parts.neutral, parts.instructed, self.settings.coherence)
    }

    fn row_of(&self, setting: &Setting, outcome: Outcome) -> SweepRow {
        let layers = setting.place.layers(self.layer_rows);
        SweepRow {
            layers: layers.iter().map(|layer| layer.0).collect(),
            all_layers: setting.place == Place::AllLayers,
            dose: setting.dose,
            coefficient: setting.coefficient,
            outcome,
        }
    }

    /// The result of the records of [`Self::new`]'s trials; also before all of them are there.
    pub fn report(
        &self,
        setup: &TrialSetup,
        records: &TrialRecords,
    ) -> Result<SweepReport, BaselineError> {
        let baseline = self.baseline(records)?;
        let steered = self.unsteered.split(records).steered;
        let rows: Vec<SweepRow> = self
            .rows
            .iter()
            .zip(steered)
            .map(|(setting, answers)| {
                self.row_of(setting, baseline.outcome(&setup.questions, answers))
            })
            .collect();
        let complete = (0..records.len())
            .filter(|&trial| self.is_wanted(setup, records, trial))
            .all(|trial| {
                let measured = |answer: &TrialAnswer| answer.is_measured(&setup.trials[trial]);
                let answers = records[trial].iter();
                answers
                    .clone()
                    .all(|answer| answer.as_ref().is_some_and(measured))
            });
        let criteria = &self.settings.range;
        let curve = |place: Place, sign: f64| -> Vec<DosePoint> {
            let own = self.rows.iter().zip(&rows).filter(|(setting, row)| {
                setting.place == place && setting.dose * sign > 0.0 && row.outcome.answers > 0
            });
            own.map(|(_, row)| DosePoint {
                dose: row.dose,
                effect: row.outcome.deviations().map(|effect| effect.value),
                incoherent_share: row.outcome.incoherent_share,
                kl: row.outcome.kl,
            })
            .collect()
        };
        let ranges: Vec<PlaceRange> = self
            .settings
            .places
            .iter()
            .map(|&place| {
                let against = curve(place, -1.0);
                PlaceRange {
                    place,
                    towards: working_range(&curve(place, 1.0), criteria),
                    against: (!against.is_empty()).then(|| working_range(&against, criteria)),
                }
            })
            .collect();
        let (choice, range) = self.recommend(&curve, &ranges).unzip();
        let sentence = self.sentence(choice.as_ref(), &rows);
        let mut caveats = self.settings.material.caveats();
        if !complete {
            caveats.push("The sweep was stopped before it was done; this is what there is.".into());
        }
        Ok(SweepReport {
            neutral: 0.0,
            recommended: range.map(|range| SweepRecommendation {
                range,
                sentence: sentence.clone(),
            }),
            sentence,
            // Doses that were not tried, because the text broke before, are no rows.
            rows: rows
                .into_iter()
                .filter(|row| row.outcome.answers > 0)
                .collect(),
            caveats,
            detail: Some(SweepDetail {
                material: self.settings.material.clone(),
                unsteered: baseline.summary,
                ranges,
                choice,
                complete,
                coherence: self.settings.coherence,
                range: *criteria,
            }),
        })
    }

    /// Single layers only: a vector file's recommendation is about `v_l` itself, not about increments.
    fn recommend(
        &self,
        curve: &dyn Fn(Place, f64) -> Vec<DosePoint>,
        ranges: &[PlaceRange],
    ) -> Option<(SweepChoice, Recommended)> {
        let single: Vec<(u32, &PlaceRange)> = ranges
            .iter()
            .filter_map(|range| match range.place {
                Place::Layer(layer) => Some((layer, range)),
                Place::AllLayers => None,
            })
            .collect();
        let curves: Vec<Vec<DosePoint>> = single
            .iter()
            .map(|(_, range)| curve(range.place, 1.0))
            .collect();
        let choice = choose(&curves, &self.settings.range)?;
        let (layer, range) = *single.get(choice.curve)?;
        let low_dose = range.against.map_or(0.0, |against| against.end);
        let unit = self.rows.iter().find_map(|row| {
            let own = row.place == range.place && row.dose != 0.0;
            own.then(|| f64::from(row.coefficient) / row.dose)
        })?;
        let recommended = Recommended {
            layers: vec![layer],
            min: (low_dose * unit) as f32,
            max: (choice.range.end * unit) as f32,
            usual: Some((choice.dose_at_equal_cost * unit) as f32),
        };
        let found = SweepChoice {
            layer,
            low_dose,
            high_dose: choice.range.end,
            best_dose: choice.range.best_dose,
            choice,
        };
        Some((found, recommended))
    }

    fn sentence(&self, found: Option<&SweepChoice>, rows: &[SweepRow]) -> String {
        let name = &self.trait_name;
        let Some(found) = found else {
            let tried = self.settings.doses.iter().copied().fold(0.0, f64::max);
            return format!(
                "At no layer tried does {name} move the model's own evidence by {} deviations of neutral answers while the text stays whole (doses up to {tried}); nothing is recommended.",
                self.settings.range.min_effect
            );
        };
        let choice = &found.choice;
        let range = &choice.range;
        let end = match (range.breaks_at, range.turns_at) {
            (Some(dose), _) => format!("at {dose} the text breaks"),
            (None, Some(dose)) => format!("at {dose} the evidence turns back"),
            (None, None) => "no larger dose was tried".into(),
        };
        let tried = rows.iter().filter(|row| row.outcome.answers > 0).count();
        let cost = match choice.cost_is_kl {
            true => format!("at a cost of {} nats a token ", choice.equal_cost),
            false => String::new(),
        };
        format!(
            "{name} is pushed best at layer {}: {cost}(dose {:.2}) it moves the model's own evidence by {:.1} deviations of neutral answers, the best of {tried} settings tried, so expect less. Doses up to {} keep the text whole ({end}).",
            found.layer, choice.dose_at_equal_cost, choice.effect_at_equal_cost, found.high_dose
        )
    }
}

impl SweepRow {
    /// The place that was pushed at, for people: `layer 16`.
    pub fn place(&self) -> String {
        match (self.all_layers, self.layers.first()) {
            (false, Some(&layer)) => Layer(layer).to_string(),
            _ => "all layers at once".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::answer;
    use crate::trait_pack::tests::sample;
    use trimtab_engine::LayerTable;

    fn vector() -> TraitVector {
        TraitVector {
            name: "warm".into(),
            opposite: "cold".into(),
            description: String::new(),
            table: LayerTable::new((0..8).map(|i| i as f32).collect(), 2).unwrap(),
            hash: String::new(),
            recommended: None,
            calibration: None,
            neutral_norm: Some(vec![10.0; 4]),
            model_sha256: None,
        }
    }

    fn settings(pack: &TraitPack) -> SweepSettings {
        SweepSettings {
            places: vec![Place::Layer(1), Place::Layer(2), Place::AllLayers],
            doses: vec![0.1, 0.2],
            further_doses: vec![0.4],
            neutral_samples: 4,
            ..SweepSettings::brief(pack, &[0], 4)
        }
    }

    #[test]
    fn material_is_what_extraction_never_saw_and_says_so_where_it_is_not() {
        let pack = sample();
        let unseen = Material::of(&pack, &[0], 2, 0, 8);
        assert_eq!((unseen.pairs.as_slice(), unseen.unseen), (&[1][..], true));
        assert_eq!(unseen.questions.len(), pack.questions.evaluation.len());
        assert!(unseen.caveats().is_empty());
        let seen = Material::of(&pack, &[0, 1], 1, 1, 1);
        assert_eq!((seen.pairs.as_slice(), seen.unseen), (&[1][..], false));
        assert!(seen.caveats()[0].contains("flatter"));
    }

    #[test]
    fn the_range_that_works_is_recommended_in_the_files_own_coefficients() {
        let pack = sample();
        let (sweep, setup) = Sweep::new(&pack, &vector(), settings(&pack)).unwrap();
        assert_eq!(setup.trials.len(), 4 + 2 + 9);
        assert_eq!(sweep.setting(5), None);
        assert_eq!(sweep.setting(7).unwrap().dose, 0.2);
        assert_eq!(
            sweep.stages(),
            [vec![0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13], vec![8, 11, 14]]
        );
        let questions = setup.questions.len();
        let fill = |logprob, evidence| vec![answer(logprob, evidence); questions];
        let mut records: TrialRecords = (0..6)
            .map(|i| fill(-1.0 - 0.1 * f64::from(i % 4), 0.1 * f64::from(i)))
            .collect();
        // Layer 1 moves little; layer 2 more, and breaks; all layers most, and are not recommended.
        for (logprob, evidence) in [
            (-1.1, 0.2),
            (-1.1, 0.3),
            (-1.1, 0.3),
            (-1.1, 0.8),
            (-9.0, 0.9),
            (-9.0, 0.9),
            (-1.1, 3.0),
            (-1.1, 3.0),
            (-1.1, 3.0),
        ] {
            records.push(fill(logprob, evidence));
        }
        let wanted = |trial| sweep.is_wanted(&setup, &records, trial);
        assert_eq!([8, 11, 14].map(wanted), [true, false, true]);
        // A dose past the one at which the text broke need not be there.
        records[11] = vec![None; questions];
        let report = sweep.report(&setup, &records).unwrap();
        let detail = report.detail.unwrap();
        let found = detail.choice.unwrap();
        assert_eq!(
            (found.layer, found.high_dose, found.low_dose),
            (2, 0.1, 0.0)
        );
        // v_2 = (4, 5) against a residual of 10.
        let unit = 41.0_f64.sqrt() / 10.0;
        let range = report.recommended.unwrap().range;
        assert!((f64::from(range.max) - 0.1 / unit).abs() < 1e-6);
        assert!(
            detail.complete && report.sentence.contains("at 0.2 the text breaks"),
            "{}",
            report.sentence
        );

        records[7] = vec![None; questions];
        let partial = sweep.report(&setup, &records).unwrap();
        assert!(
            !partial.detail.unwrap().complete
                && partial.caveats.iter().any(|c| c.contains("stopped"))
        );
    }
}
