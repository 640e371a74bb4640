//! Screening of training data: which rows would move the model along which trait, before anything is trained.

use crate::failure::Failure;
use crate::session::Session;
use serde::{Deserialize, Serialize};
use trimtab_persona::bootstrap::mean;
use trimtab_persona::dataset::{self, Conversation, NumberedRow};
use trimtab_persona::screening::{NORMAL, Screen, ScreenSummary, ScreenedRow, ScreenedTrait};
use trimtab_persona::trait_vector::sha256;
use ts_rs::TS;

/// Rows to screen for every trait of the session. What is absent is as usual.
#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ScreenRequest {
    pub rows: Vec<NumberedRow>,
    /// The model writes its own answer to every row whose number this divides (1: to all); 0: to none.
    pub own_every: Option<u32>,
    /// Tokens of an own answer (48).
    pub max_tokens: Option<usize>,
    /// Seed of the own answers (1).
    pub seed: Option<u32>,
}

#[derive(Clone, Debug, Serialize, TS)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[ts(optional_fields)]
pub enum ScreenEvent {
    /// What rows are screened for, in the order of their numbers.
    Traits { traits: Vec<ScreenedTrait> },
    /// A row is done; rows come in order.
    Row { row: ScreenedRow },
    Progress {
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
    },
}

/// Rows that were screened, and what for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Screened {
    pub traits: Vec<ScreenedTrait>,
    pub rows: Vec<ScreenedRow>,
}

/// Screened rows of a dataset, to be summed up.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct SummaryRequest {
    pub screened: Screened,
    /// The dataset's rows.
    pub rows: Vec<Conversation>,
    /// Labels that the screen should find (every label but `normal`).
    pub flagged: Option<Vec<String>>,
}

/// A dataset's file, read.
#[derive(Clone, Debug, Serialize, TS)]
pub struct OpenedDataset {
    pub rows: Vec<Conversation>,
    /// Of the file.
    pub sha256: String,
}

/// Longest dataset that is read as a whole, in bytes.
const MAX_DATASET_BYTES: usize = 64 << 20;

/// The rows of a dataset's file.
pub fn open_dataset(file: &[u8]) -> Result<OpenedDataset, Failure> {
    if file.len() > MAX_DATASET_BYTES {
        return Err(Failure::usage(format!(
            "a dataset has at most {} megabytes here; the program reads longer ones as a stream",
            MAX_DATASET_BYTES >> 20
        )));
    }
    Ok(OpenedDataset {
        rows: dataset::parse(file)?,
        sha256: sha256(file),
    })
}

/// What the rows of a screen came to for one trait, in the order of the screened rows, in deviations of neutral answers.
#[derive(Clone, Debug, Serialize, TS)]
pub struct RowValues {
    /// Projection differences; NaN where the model wrote no answer of its own.
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub differences: Vec<f32>,
    /// Projections of the given answers alone, from their mean over these rows.
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub given: Vec<f32>,
}

/// What a screen came to, and what each row has to do with it.
#[derive(Clone, Debug, Serialize, TS)]
pub struct ScreenOverview {
    pub summary: ScreenSummary,
    /// One a trait.
    pub values: Vec<RowValues>,
}

impl RowValues {
    fn of(screened: &Screened, number: usize) -> Self {
        let unit = screened.traits[number].unit();
        let given = |row: &ScreenedRow| row.given.get(number).map(|own| f64::from(*own) / unit);
        let all: Vec<f64> = screened.rows.iter().filter_map(given).collect();
        let mean = mean(&all).unwrap_or(0.0);
        let number_of = |value: Option<f64>| value.map_or(f32::NAN, |value| value as f32);
        let rows = screened.rows.iter();
        Self {
            differences: rows
                .clone()
                .map(|row| number_of(row.difference(number).map(|own| own / unit)))
                .collect(),
            given: rows
                .map(|row| number_of(given(row).map(|own| own - mean)))
                .collect(),
        }
    }
}

/// What a screen came to, of the rows that are screened.
pub fn summarise_screen(request: &SummaryRequest) -> ScreenOverview {
    let is_flagged = |label: &str| match &request.flagged {
        None => label != NORMAL,
        Some(labels) => labels.iter().any(|one| one == label),
    };
    let mut screen = Screen::new(request.screened.traits.clone());
    for row in &request.screened.rows {
        if let Some(conversation) = request.rows.get(row.row as usize) {
            screen.add(row, conversation.answer(), is_flagged);
        }
    }
    ScreenOverview {
        summary: screen.summary(),
        values: (0..request.screened.traits.len())
            .map(|number| RowValues::of(&request.screened, number))
            .collect(),
    }
}

impl Session {
    /// The session's traits as rows are screened for them: at the first layer that each recommends.
    ///
    /// # Errors
    /// A session without traits.
    pub fn screened_traits(&self) -> Result<Vec<ScreenedTrait>, Failure> {
        if self.vectors().is_empty() {
            return Err(Failure::usage("there is no trait to screen for"));
        }
        let all = self.vectors().iter().map(|vector| {
            let recommended = vector.recommended.as_ref();
            let layer = recommended.and_then(|one| one.layers.first().copied());
            let layer = layer.unwrap_or_else(|| self.usual_layer());
            let calibration = vector.calibration.as_ref();
            let deviation = calibration.and_then(|own| own.answer.deviation.get(layer as usize));
            ScreenedTrait {
                name: vector.name.clone(),
                hash: vector.hash.clone(),
                layer,
                deviation: deviation.copied().map(f64::from),
            }
        });
        Ok(all.collect())
    }
}
