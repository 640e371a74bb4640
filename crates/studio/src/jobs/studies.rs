//! The three studies: each is made ready, its trials are run, and what they come to is reported.

use crate::failure::Failure;
use crate::jobs::averages::{averages_of, read_examples};
use crate::jobs::contrast::Contrast;
use crate::jobs::trials::{self, Study};
use crate::session::Session;
use crate::studies::{
    ControlRequest, Controlled, OtherVector, PredictRequest, StandIn, StudySettings, Subject,
    SweepRequest, Swept,
};
use crate::watch::Watch;
use trimtab_engine::Layer;
use trimtab_persona::contrast::examples;
use trimtab_persona::contrast_record::ContrastRecord;
use trimtab_persona::controls::{ControlSettings, Controls};
use trimtab_persona::material::Material;
use trimtab_persona::plan::relative_dose;
use trimtab_persona::prediction::{Prediction, PredictionReport, PredictionSettings};
use trimtab_persona::push::Place;
use trimtab_persona::recommendation::RangeCriteria;
use trimtab_persona::sweep::{Sweep, SweepRow, SweepSettings};
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trials::{TrialRecords, TrialSetup};
use trimtab_persona::vector_file::{TraitVector, VectorFile};

/// A vector file, its default direction, and the pairs that made it.
struct Studied {
    file: VectorFile,
    vector: TraitVector,
    seen: Vec<usize>,
}

impl Studied {
    fn open(session: &Session, subject: &Subject, asked: &StudySettings) -> Result<Self, Failure> {
        let pack = &subject.pack;
        pack.check()?;
        if [asked.questions, asked.max_tokens, asked.pairs].contains(&Some(0)) {
            return Err(Failure::usage(
                "questions, tokens an answer and pairs must be at least 1",
            ));
        }
        let file = VectorFile::parse(&subject.vector)?;
        // All of them where the file does not say.
        let pairs = asked.extraction_pairs.or(file.metadata.extraction_pairs);
        let pairs = pairs.unwrap_or(usize::MAX).min(pack.instructions.len());
        Ok(Self {
            vector: session.vector_of(&pack.name, &file, asked.tensor.as_deref())?,
            file,
            seen: (0..pairs).collect(),
        })
    }

    fn recommended_layer(&self) -> Option<u32> {
        let recommended = self.vector.recommended.as_ref();
        recommended.and_then(|found| found.layers.first().copied())
    }
}

impl StudySettings {
    /// `usual` with what was asked for in place of it; `first` is the first question's number.
    fn material(
        &self,
        pack: &TraitPack,
        seen: &[usize],
        first: usize,
        usual: &Material,
    ) -> Material {
        Material::of(
            pack,
            seen,
            self.pairs.unwrap_or(usual.pairs.len()),
            first,
            self.questions.unwrap_or(usual.questions.len()),
        )
    }

    /// All trials in one stage.
    fn study(
        &self,
        session: &Session,
        setup: &TrialSetup,
        reading: Option<&str>,
        records: Option<Vec<u8>>,
    ) -> Study<'static> {
        Study {
            keys: setup.keys(&session.sha256, reading),
            stages: vec![(0..setup.trials.len()).collect()],
            is_wanted: &|_, _| true,
            setup: setup.clone(),
            kept: records,
            refuse_others: self.refuse_other_records.unwrap_or(false),
        }
    }
}

fn no_row(_: &TrialRecords, _: usize) -> Option<SweepRow> {
    None
}

impl Session {
    /// Tries a vector at several layers and doses, for its effect on the trait and its cost.
    pub async fn sweep(
        &mut self,
        request: SweepRequest,
        watch: &mut dyn Watch,
    ) -> Result<Swept, Failure> {
        let SweepRequest {
            subject,
            settings: plan,
        } = request;
        let asked = &plan.study;
        let Studied {
            mut file,
            vector,
            seen,
        } = Studied::open(self, &subject, asked)?;
        let pack = subject.pack;
        let rows = self.engine.layer_rows();
        let usual = match plan.thorough {
            Some(true) => SweepSettings::thorough(&pack, &seen, rows),
            _ => SweepSettings::brief(&pack, &seen, rows),
        };
        let mut settings = SweepSettings {
            material: asked.material(&pack, &seen, 0, &usual.material),
            neutral_samples: asked.neutral_samples.unwrap_or(usual.neutral_samples),
            scope: asked.scope.unwrap_or(usual.scope),
            coherence: asked.coherence.unwrap_or(usual.coherence),
            ..usual
        };
        if let Some(tokens) = asked.max_tokens {
            settings.answers.max_tokens = tokens;
        }
        if !plan.layers.is_empty() {
            settings.places = plan.layers.iter().copied().map(Place::Layer).collect();
        }
        if plan.all_layers && !settings.places.contains(&Place::AllLayers) {
            settings.places.push(Place::AllLayers);
        }
        if !plan.doses.is_empty() {
            let sound = |dose: &f64| dose.is_finite() && *dose != 0.0;
            if !plan.doses.iter().all(sound) {
                return Err(Failure::usage(
                    "a dose is a number other than 0; the unsteered answers are always there",
                ));
            }
            settings.doses = plan.doses.clone();
            settings.further_doses.clear();
        }
        let (sweep, setup) = Sweep::new(&pack, &vector, settings)?;
        let is_wanted = |records: &TrialRecords, trial| sweep.is_wanted(&setup, records, trial);
        let study = Study {
            stages: sweep.stages(),
            is_wanted: &is_wanted,
            ..asked.study(self, &setup, None, subject.records)
        };
        let row_of = |records: &TrialRecords, trial: usize| sweep.row(&setup, records, trial);
        let records = trials::run(&mut self.engine, &self.chat, &study, &row_of, watch).await?;
        let report = sweep.report(&setup, &records)?;
        // Where nothing is recommended, what an earlier sweep or another vector had recommended must not stay.
        let found = report.recommended.as_ref();
        file.metadata.recommended = found.map(|found| found.range.clone());
        Ok(Swept {
            report,
            vector: file.to_bytes()?,
        })
    }

    /// What meaningless directions of the same length do where a vector is recommended.
    pub async fn controls(
        &mut self,
        request: ControlRequest,
        watch: &mut dyn Watch,
    ) -> Result<Controlled, Failure> {
        let asked = &request.study;
        let mut studied = Studied::open(self, &request.subject, asked)?;
        let pack = &request.subject.pack;
        let vector = &studied.vector;
        let layer = request
            .layer
            .or(studied.recommended_layer())
            .ok_or_else(|| {
                Failure::usage("the vector recommends no layer and range yet; sweep it first")
            })?;
        self.check_layer(layer)?;
        let recommended = vector.recommended.clone();
        let usual = recommended
            .as_ref()
            .and_then(|found| {
                let coefficient = found.usual.unwrap_or(found.max);
                relative_dose(vector, coefficient, &[Layer(layer)])
            })
            .map(f64::from);
        let dose = request.dose.or(usual).ok_or_else(|| {
            Failure::usage("the vector recommends no range yet; sweep it first, or give a dose")
        })?;
        if !(dose.is_finite() && dose > 0.0) {
            return Err(Failure::usage(
                "the dose must be above 0; where the vector's range ends at 0, sweep it first",
            ));
        }
        let usual = ControlSettings::brief(pack, &studied.seen, layer, dose);
        let first = usual.material.questions.first().copied().unwrap_or(0);
        let settings = ControlSettings {
            material: asked.material(pack, &studied.seen, first, &usual.material),
            max_tokens: asked.max_tokens.unwrap_or(usual.max_tokens),
            neutral_samples: asked.neutral_samples.unwrap_or(usual.neutral_samples),
            scope: asked.scope.unwrap_or(usual.scope),
            coherence: asked.coherence.unwrap_or(usual.coherence),
            ..usual
        };
        let others = match &request.others {
            Some(others) => {
                let open = |other: &OtherVector| {
                    let file = VectorFile::parse(&other.vector)?;
                    self.vector_of(&other.name, &file, other.tensor.as_deref())
                };
                others.iter().map(open).collect::<Result<Vec<_>, _>>()?
            }
            None => self.vectors().to_vec(),
        };
        let rivals: Vec<TraitVector> = others
            .into_iter()
            .filter(|other| other.name != pack.name && other.hash != vector.hash)
            .collect();
        let (rivals, instead) = match &request.stand_in {
            Some(StandIn::Other(name)) => {
                let own = |other: &TraitVector| other.name == *name;
                let (found, rivals): (Vec<_>, Vec<_>) = rivals.into_iter().partition(own);
                (rivals, found.into_iter().next())
            }
            _ => (rivals, None),
        };
        let thresholds = request.thresholds.unwrap_or_default();
        let ready = |contrast: Contrast<'_>| -> Result<_, Failure> {
            let judged = match &request.stand_in {
                Some(one) => one.table(&vector.table, &contrast.means, instead.as_ref())?,
                None => vector.table.clone(),
            };
            let Contrast { means, texts } = contrast;
            Ok(Controls::new(
                pack, vector, &judged, &means, texts, &rivals, settings,
            )?)
        };
        let made = match (&request.contrast, &request.conversations) {
            (None, None) => ready(Contrast::default()),
            (Some(contrast), _) => {
                let record = ContrastRecord::parse(contrast)?;
                record.is_of(&self.sha256)?;
                let averages = averages_of(self, &record, &thresholds, watch).await?;
                let made = Contrast::of_record(&record, &thresholds, &averages).and_then(ready);
                self.averages.keep(&record, averages);
                made
            }
            (None, Some(conversations)) => {
                let examples = examples(conversations.clone(), &self.chat)?;
                let averages = read_examples(self, &examples, watch).await?;
                ready(Contrast::of_examples(&self.chat, &examples, &averages))
            }
        };
        let (controls, setup) = made?;
        let study = asked.study(self, &setup, None, request.subject.records.clone());
        let records = trials::run(&mut self.engine, &self.chat, &study, &no_row, watch).await?;
        let report = controls.report(&setup, &records)?;
        let opened = recommended.map(|before| {
            let max_incoherent = RangeCriteria::default().max_incoherent;
            controls.with_flipped_side(&report, &before, max_incoherent)
        });
        studied.file.metadata.recommended.clone_from(&opened);
        Ok(Controlled {
            report,
            recommended: opened,
            vector: studied.file.to_bytes()?,
        })
    }

    /// Whether the reading of the last prompt token tells what the answer will be like.
    pub async fn predict(
        &mut self,
        request: PredictRequest,
        watch: &mut dyn Watch,
    ) -> Result<PredictionReport, Failure> {
        let asked = &request.study;
        let studied = Studied::open(self, &request.subject, asked)?;
        let pack = &request.subject.pack;
        let layer = request.layer.or(studied.recommended_layer());
        let layer = layer.unwrap_or_else(|| self.usual_layer());
        self.check_layer(layer)?;
        let Studied { vector, seen, .. } = studied;
        let mut settings =
            PredictionSettings::brief(pack, &seen, Layer(layer), asked.questions.unwrap_or(8));
        settings.coherence = asked.coherence.unwrap_or(settings.coherence);
        settings.neutral_samples = asked.neutral_samples.unwrap_or(settings.neutral_samples);
        if let Some(tokens) = asked.max_tokens {
            settings.answers.max_tokens = tokens;
        }
        let Some((prediction, setup)) = Prediction::new(pack, 0, settings) else {
            return Err(Failure::usage("the trait pack has no instruction pairs"));
        };
        let study = asked.study(
            self,
            &setup,
            Some(&vector.hash),
            request.subject.records.clone(),
        );
        // The session's own directions come back whatever happens.
        let table = std::slice::from_ref(&vector.table);
        self.engine.set_directions(table)?;
        let records = trials::run(&mut self.engine, &self.chat, &study, &no_row, watch).await;
        self.restore_directions()?;
        let calibration = vector.calibration.as_ref();
        Ok(prediction.report(&pack.name, calibration, &setup, &records?)?)
    }
}
