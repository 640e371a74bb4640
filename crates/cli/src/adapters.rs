//! Adapters by the directories that PEFT has them in.

use crate::files::read_bounded;
use crate::progress;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use trimtab_checkpoint::adapter::{CONFIG_FILE, MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES, WEIGHTS_FILE};
use trimtab_studio::adapters::AdapterCard;
use trimtab_studio::session::Session;

/// The two files of an adapter.
pub struct AdapterFiles {
    directory: PathBuf,
    pub config: Vec<u8>,
    pub weights: Vec<u8>,
}

impl AdapterFiles {
    pub fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str, limit: usize| read_bounded(&directory.join(name), limit as u64);
        Ok(Self {
            directory: directory.to_owned(),
            config: read(CONFIG_FILE, MAX_CONFIG_BYTES)?,
            weights: read(WEIGHTS_FILE, MAX_WEIGHTS_BYTES)?,
        })
    }

    /// Makes it one of the session's, under `name`.
    pub fn add(&self, name: &str, session: &mut Session) -> Result<AdapterCard> {
        let card = session.add_adapter(name, &self.config, &self.weights);
        let card = card.with_context(|| self.directory.display().to_string())?;
        self.warn(card.of_this_model);
        Ok(card)
    }

    /// Says where it is not known to be of the loaded model.
    pub fn warn(&self, of_this_model: Option<bool>) {
        let directory = self.directory.display();
        match of_this_model {
            Some(true) => {}
            Some(false) => progress::warn(&format!(
                "the adapter {directory} was trained on other weights than the model that is loaded: its shapes fit, but it may mean less here"
            )),
            None => progress::warn(&format!(
                "the shapes of the adapter {directory} fit this model; whether it was trained on it cannot be told"
            )),
        }
    }
}

/// Directory and scale of `DIR[=SCALE]`; without a scale it is 1.
pub fn directory_and_scale(text: &str) -> Result<(&Path, f32)> {
    match text.rsplit_once('=') {
        Some((directory, scale)) if !Path::new(text).is_dir() => {
            let number = scale.parse::<f32>().ok().filter(|scale| scale.is_finite());
            let number = number
                .with_context(|| format!("--adapter {text}: the scale {scale:?} is no number"))?;
            Ok((Path::new(directory), number))
        }
        _ => Ok((Path::new(text), 1.0)),
    }
}

/// The name by which a link, or a plan, calls the adapter of a directory.
pub fn name_of(directory: &Path) -> String {
    let name = directory.file_name();
    name.map_or_else(
        || "adapter".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}
