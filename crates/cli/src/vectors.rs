//! Ready-made traits and vector files, by the names that `--steer` and `--read` use.

use crate::adapters::{AdapterFiles, name_of};
use crate::files::{find_up, read_bounded};
use crate::progress;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use trimtab_persona::plan::{NamedPlanError, NamedTerm, TermOperation};
use trimtab_persona::trait_pack::is_plain_name;
use trimtab_persona::trait_vector::sha256;
use trimtab_persona::vector_file::{MAX_FILE_BYTES, TraitVector, VectorFile};
use trimtab_studio::session::Session;

/// Folder of the ready-made vectors, found like the default model.
const READY_MADE: &str = "models/vectors";

#[derive(Clone, Debug, Default, Args)]
pub struct SteeringArguments {
    /// Add a vector: NAME=α@LAYER[,LAYER…|a-b][:prompt|:response]. NAME is a ready-made trait or the
    /// path of a vector file (PATH#TENSOR chooses its tensor); no @ means its recommended layers, no
    /// suffix all tokens. In place of α also ablate or clamp(low,high); DIR=tune(SCALE) is an adapter's
    /// directory and how much of it acts. Repeatable
    #[arg(
        long = "steer",
        value_name = "NAME=α@LAYERS",
        allow_hyphen_values = true
    )]
    pub steer: Vec<String>,
}

impl SteeringArguments {
    pub fn terms(&self) -> Result<Vec<NamedTerm>> {
        let terms = self.steer.iter().map(|text| text.parse());
        Ok(terms.collect::<Result<_, NamedPlanError>>()?)
    }

    /// The plan. Its vectors and those of `also` become the session's traits.
    pub fn load(&self, session: &mut Session, also: &[String]) -> Result<Vec<NamedTerm>> {
        let mut terms = self.terms()?;
        for term in &mut terms {
            load_adapter(term, session)?;
        }
        let mut vectors = load_vectors(terms.iter_mut(), session)?;
        for name in also {
            if vectors.iter().all(|vector| vector.name != *name) {
                vectors.push(load_vector(name, session)?);
            }
        }
        session.set_vectors(vectors)?;
        Ok(terms)
    }
}

fn is_adapter(term: &NamedTerm) -> bool {
    matches!(term.operation, TermOperation::Tune { .. })
}

/// Makes the adapter of a term, which names its directory, one of the session's, and has the term name it as the session does.
pub fn load_adapter(term: &mut NamedTerm, session: &mut Session) -> Result<()> {
    if !is_adapter(term) {
        return Ok(());
    }
    let directory = Path::new(&term.vector);
    let (name, files) = (name_of(directory), AdapterFiles::read(directory)?);
    let known = session.adapters();
    let known = known.iter().find(|known| known.name == name);
    match known {
        Some(known) if known.sha256 == sha256(&files.weights) => {}
        Some(_) => bail!("two adapters' directories are called {name}; rename one of them"),
        None => {
            files.add(&name, session)?;
        }
    }
    term.vector = name;
    Ok(())
}

/// The vectors of `terms`, each once; those of adapters are passed over; terms without layers get those that their vector recommends. Warns of vectors that were
/// made on other weights than the session's.
pub fn load_vectors<'a>(
    terms: impl Iterator<Item = &'a mut NamedTerm>,
    session: &Session,
) -> Result<Vec<TraitVector>> {
    let mut vectors: Vec<TraitVector> = Vec::new();
    for term in terms.filter(|term| !is_adapter(term)) {
        let known = vectors.iter().position(|vector| vector.name == term.vector);
        let known = known.unwrap_or(vectors.len());
        if known == vectors.len() {
            let vector = load_vector(&term.vector, session)?;
            if let Some(warning) = session.model_warning(&vector) {
                progress::warn(&warning);
            }
            vectors.push(vector);
        }
        if term.layers.is_none() {
            let name = term.vector.clone();
            let recommended = vectors[known].recommended.as_ref();
            let recommended = recommended.ok_or(NamedPlanError::NoLayers { name })?;
            term.layers = Some(recommended.layers());
        }
    }
    Ok(vectors)
}

/// The vector called `name`: a ready-made trait, or `PATH[#TENSOR]`.
pub fn load_vector(name: &str, session: &Session) -> Result<TraitVector> {
    let (path, tensor, file) = open_vector(name)?;
    let vector = session.vector_of(name, &file, tensor.as_deref());
    vector.with_context(|| path.display().to_string())
}

/// The file of the vector called `name`, and the tensor that is asked for.
pub fn open_vector(name: &str) -> Result<(PathBuf, Option<String>, VectorFile)> {
    let (path, tensor) = locate(name)?;
    let bytes = read_bounded(&path, MAX_FILE_BYTES as u64)?;
    let file = VectorFile::parse(&bytes).with_context(|| path.display().to_string())?;
    Ok((path, tensor, file))
}

fn locate(name: &str) -> Result<(PathBuf, Option<String>)> {
    // A file's own name may contain a #; a tensor is meant only where no such file exists.
    if std::path::Path::new(name).is_file() {
        return Ok((name.into(), None));
    }
    let (path, tensor) = match name.rsplit_once('#') {
        Some((path, tensor)) => (path, Some(tensor.to_owned())),
        None => (name, None),
    };
    if std::path::Path::new(path).is_file() {
        return Ok((path.into(), tensor));
    }
    if (is_plain_name(path) || is_hash(path))
        && let Some(found) = find_up(&format!("{READY_MADE}/{path}.safetensors"))
    {
        return Ok((found, tensor));
    }
    bail!(
        "there is neither a file {path} nor a ready-made trait of that name; there are {}",
        ready_made().join(", ")
    )
}

/// Names of the ready-made traits, in order.
pub fn ready_made() -> Vec<String> {
    names_of(is_plain_name)
}

/// Ready-made vectors that others took the place of: links name them by their tensor's hash, and so are their files.
pub fn replaced() -> Vec<String> {
    names_of(is_hash)
}

/// The neutral answers that the ready-made vectors are calibrated on.
pub fn neutral_answers() -> Option<PathBuf> {
    find_up(&format!("{READY_MADE}/neutral.json"))
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn names_of(wanted: fn(&str) -> bool) -> Vec<String> {
    let entries = find_up(READY_MADE).and_then(|directory| std::fs::read_dir(directory).ok());
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".safetensors")
                .map(str::to_owned)
        })
        .filter(|name| wanted(name))
        .collect();
    names.sort();
    names
}
