//! Screening of training data: which rows would move the model along which trait, before anything is trained.

use crate::failure::Failure;
use crate::session::Session;
use serde::{Deserialize, Serialize};
use trimtab_persona::dataset::NumberedRow;
use trimtab_persona::screening::{ScreenedRow, ScreenedTrait};
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
    /// A row is done; rows come in order.
    Row { row: ScreenedRow },
    Progress {
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
    },
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
