//! Adapters of the session: what plans may name besides vectors.

use crate::failure::Failure;
use crate::session::Session;
use serde::Serialize;
use trimtab_checkpoint::adapter::Adapter;
use trimtab_persona::plan::NamedAdapter;
use trimtab_persona::trait_vector::sha256;
use ts_rs::TS;

/// Adapters that a session has at most: each takes a few per cent of the model's memory, more of a small model's.
const MAX_ADAPTERS: usize = 8;
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// An adapter of the session as a person sees it.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(rename = "Adapter")]
pub struct AdapterCard {
    pub name: String,
    /// Of the weights' file; links and caches name it by that.
    pub sha256: String,
    pub rank: usize,
    pub alpha: f64,
    /// First and last of the zero-based blocks that it stands beside.
    pub blocks: [usize; 2],
    /// How it was made, in words; empty where its files do not say.
    pub made: String,
    /// The push that acted while it was trained, in the notation of plans; empty for none.
    pub plan: String,
    /// Whether it was trained on the loaded model; null where its files do not say, as others' do not: its shapes fit.
    pub of_this_model: Option<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct SessionAdapter {
    pub named: NamedAdapter,
    pub card: AdapterCard,
}

impl Session {
    /// Adds an adapter, the two files of a PEFT directory, under `name`, in place of one that was so called.
    ///
    /// # Errors
    /// Files that are no adapter of this model, more adapters than fit, and a model on the graphics device.
    pub fn add_adapter(
        &mut self,
        name: &str,
        config: &[u8],
        weights: &[u8],
    ) -> Result<AdapterCard, Failure> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Failure::usage(format!(
                "an adapter needs a name of at most {MAX_NAME_BYTES} letters"
            )));
        }
        let known = self.adapters.iter().position(|one| one.card.name == name);
        if known.is_none() && self.adapters.len() >= MAX_ADAPTERS {
            return Err(Failure::usage(format!(
                "there is room for {MAX_ADAPTERS} adapters beside the model, and as many are there; remove one of them first"
            )));
        }
        let file = Adapter::parse(config, weights, self.engine.config())?;
        let applied = self.engine.adapter(&file)?;
        let blocks = file.parts.iter().map(|part| part.block);
        let card = AdapterCard {
            name: name.to_owned(),
            sha256: sha256(weights),
            rank: file.settings.rank,
            alpha: file.settings.alpha,
            blocks: [blocks.clone().min().unwrap_or(0), blocks.max().unwrap_or(0)],
            of_this_model: file
                .about
                .model_sha256
                .as_deref()
                .map(|own| self.is_model(own)),
            made: file.about.made,
            plan: file.about.plan,
        };
        let added = SessionAdapter {
            named: NamedAdapter {
                name: name.to_owned(),
                sha256: card.sha256.clone(),
                applied,
            },
            card: card.clone(),
        };
        match known {
            Some(known) => self.adapters[known] = added,
            None => self.adapters.push(added),
        }
        Ok(card)
    }

    /// Lets go of the adapters of these names. Names that are not here are passed over.
    pub fn remove_adapters(&mut self, names: &[String]) {
        self.adapters.retain(|one| !names.contains(&one.card.name));
    }

    /// Those that plans may name.
    pub fn adapters(&self) -> Vec<NamedAdapter> {
        self.adapters.iter().map(|one| one.named.clone()).collect()
    }
}
