//! A two-block random model with the default model's tokenizer, for tests of everything but what it says, and the page's
//! portable forms with it inside.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::bundle::{one_file, site};
use crate::page::PublicAddress;
use crate::process;

/// Small, so that a model of a few megabytes comes in several parts.
const PART: usize = 1_000_000;

#[derive(Debug)]
pub struct SmallModel {
    /// As the page's own `models/`.
    models: PathBuf,
}

impl SmallModel {
    /// Makes it in `target/small-models`; needs the default model's tokenizer.
    pub fn make(root: &Path) -> Result<Self> {
        let models = root.join("target/small-models");
        let program = format!("small-model{}", std::env::consts::EXE_SUFFIX);
        let program = root.join("target/release").join(program);
        process::run(process::command(program, root).arg(&models))?;
        Ok(Self { models })
    }

    /// The page in one file and as a folder for any host, with this model alone.
    pub fn bundle(self, root: &Path) -> Result<Bundles> {
        let bundles = Bundles {
            file: root.join("target/small-bundles/trimtab-offline.html"),
            site: root.join("target/small-bundles/site"),
        };
        let contents = one_file::Contents {
            models: self.models.clone(),
            out: bundles.file.clone(),
        };
        one_file::make(root, &PublicAddress::default(), &contents)?;
        site::make(&site::Contents {
            page: root.join("web/dist"),
            models: self.models,
            largest: PART,
            site: bundles.site.clone(),
        })?;
        Ok(bundles)
    }
}

#[derive(Debug)]
pub struct Bundles {
    file: PathBuf,
    site: PathBuf,
}

impl Bundles {
    /// Tells a run of the browser's tests where they are.
    pub fn name_for(&self, tests: &mut Command) {
        tests
            .env("TRIMTAB_ONE_FILE", &self.file)
            .env("TRIMTAB_SITE", &self.site);
    }
}
