//! Models by their name on the Hugging Face hub: what a name means, which of a repository's files make the model, and what the
//! hub's refusals mean. Fetches nothing.
//!
//! The addresses and answers are those of the hub's documented HTTP API: `/api/models/NAME/revision/REVISION?blobs=true`
//! lists a repository, `/NAME/resolve/REVISION/FILE` gives a file.

use crate::convert::names::{GENERATION_CONFIG, INDEX, is_weights_of_another_form};
use crate::manifest::{CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The hub itself.
pub const HUB: &str = "https://huggingface.co";
/// Longest listing that is read, in bytes.
pub const MAX_LISTING_BYTES: usize = 8 << 20;
const MAX_NAME_BYTES: usize = 512;

/// A model's name: `owner/name[@revision][:file]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `owner/name`
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A GGUF file of the repository.
    pub file: Option<String>,
}

/// Why a model cannot be fetched by its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    #[error(
        "{name:?} is no name of a model; they are written owner/name, perhaps with @revision and :file behind, as in \
         HuggingFaceTB/SmolLM2-360M-Instruct"
    )]
    Name { name: String },
    #[error("the hub's answer about {name} is not usable ({reason}); try again later")]
    Listing { name: String, reason: String },
    #[error("{name} has no {file:?}; of GGUF files it has {there}")]
    NoSuchFile {
        name: String,
        file: String,
        there: String,
    },
    #[error(
        "{name} has no weights that are read here: neither safetensors files with a config.json nor a GGUF file"
    )]
    NoModel { name: String },
    #[error(
        "{name} is only for people who accepted its conditions: log in at {page}, accept them, download the files there, and open \
         them from disk"
    )]
    Gated { name: String, page: String },
    #[error(
        "the hub has no public model {name}; check the spelling at {page}. Models that only their owners see cannot be fetched here"
    )]
    Missing { name: String, page: String },
    #[error("{name} has no revision {revision:?}; leave it out for the newest")]
    NoSuchRevision { name: String, revision: String },
    #[error(
        "the hub asks for a pause: it was asked too often from this network. Try again in {minutes} minutes"
    )]
    TooOften { minutes: u64 },
    #[error("the hub answered {status} about {name}; try again later")]
    Refused { name: String, status: u16 },
}

impl fmt::Display for HubName {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.repository)?;
        if self.revision != MAIN {
            write!(to, "@{}", self.revision)?;
        }
        match &self.file {
            Some(file) => write!(to, ":{file}"),
            None => Ok(()),
        }
    }
}

const MAIN: &str = "main";

impl FromStr for HubName {
    type Err = HubError;

    /// Takes the address of a model's page, too, as people copy it.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let text = text.trim();
        let wrong = || HubError::Name {
            name: text.chars().take(100).collect(),
        };
        if text.len() > MAX_NAME_BYTES {
            return Err(wrong());
        }
        let page = [
            "https://huggingface.co/",
            "http://huggingface.co/",
            "https://hf.co/",
        ]
        .iter()
        .find_map(|hub| text.strip_prefix(hub));
        let (repository, revision, file) = match page {
            Some(path) => of_address(path).ok_or_else(wrong)?,
            None => {
                let (rest, file) = match text.split_once(':') {
                    Some((rest, file)) => (rest, Some(file.to_owned())),
                    None => (text, None),
                };
                let (repository, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
                (repository.to_owned(), revision.to_owned(), file)
            }
        };
        let part = |part: &str| {
            let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && !part.starts_with('.') && part.chars().all(letter)
        };
        let (owner, name) = repository.split_once('/').ok_or_else(wrong)?;
        let path = |path: &str| path.split('/').all(part);
        let sound = part(owner) && part(name) && path(&revision);
        if !sound || file.as_deref().is_some_and(|file| !path(file)) {
            return Err(wrong());
        }
        Ok(Self {
            repository,
            revision,
            file,
        })
    }
}

/// `owner/name`, `owner/name/tree/REVISION`, `owner/name/blob/REVISION/FILE` and the like.
fn of_address(path: &str) -> Option<(String, String, Option<String>)> {
    let path = path.split(['?', '#']).next()?.trim_end_matches('/');
    let mut parts = path.split('/');
    let repository = format!("{}/{}", parts.next()?, parts.next()?);
    let revision = match parts.next() {
        None => return Some((repository, MAIN.into(), None)),
        Some("tree" | "blob" | "resolve") => parts.next()?.to_owned(),
        Some(_) => return None,
    };
    let file: Vec<&str> = parts.collect();
    Some((
        repository,
        revision,
        (!file.is_empty()).then(|| file.join("/")),
    ))
}

impl HubName {
    /// Where the hub lists the repository's files.
    pub fn listing(&self, hub: &str) -> String {
        let Self {
            repository,
            revision,
            ..
        } = self;
        let revision = revision.replace('/', "%2F");
        format!("{hub}/api/models/{repository}/revision/{revision}?blobs=true")
    }

    /// The model's page, for people.
    pub fn page(&self, hub: &str) -> String {
        format!("{hub}/{}", self.repository)
    }

    /// What the hub means when it answers with that status; `code` is its `X-Error-Code`, `retry_after` its `Retry-After` in
    /// seconds. A repository that nobody may see is answered as one that asks for a log-in.
    pub fn refusal(
        &self,
        hub: &str,
        status: u16,
        code: Option<&str>,
        retry_after: Option<u64>,
    ) -> HubError {
        let (name, page) = (self.repository.clone(), self.page(hub));
        match (status, code) {
            (_, Some("GatedRepo")) | (403, _) => HubError::Gated { name, page },
            (_, Some("RevisionNotFound")) => HubError::NoSuchRevision {
                name,
                revision: self.revision.clone(),
            },
            (401 | 404, _) => HubError::Missing { name, page },
            (429, _) => HubError::TooOften {
                minutes: retry_after.unwrap_or(300).div_ceil(60).max(1),
            },
            _ => HubError::Refused { name, status },
        }
    }

    /// Reads the hub's listing of the repository.
    ///
    /// # Errors
    /// An answer of another form, models with conditions, and repositories without weights that are read here.
    pub fn model(&self, hub: &str, listing: &[u8]) -> Result<HubModel, HubError> {
        let name = || self.repository.clone();
        let unusable = |reason: String| HubError::Listing {
            name: name(),
            reason,
        };
        if listing.len() > MAX_LISTING_BYTES {
            return Err(unusable(format!("it is {} bytes long", listing.len())));
        }
        let listing: Listing =
            serde_json::from_slice(listing).map_err(|error| unusable(error.to_string()))?;
        if listing.gated.is_gated() {
            let page = self.page(hub);
            return Err(HubError::Gated { name: name(), page });
        }
        let commit = listing
            .sha
            .filter(|sha| sha.len() == 40 && sha.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let commit = commit.ok_or_else(|| unusable("it names no commit".into()))?;
        let file = |sibling: &Sibling| HubFile {
            // The commit, so that every file is of one version however long fetching takes.
            address: format!(
                "{hub}/{}/resolve/{commit}/{}",
                self.repository, sibling.rfilename
            ),
            path: sibling.rfilename.clone(),
            bytes: sibling.size.unwrap_or(0),
            sha256: sibling.lfs.as_ref().map(|lfs| lfs.sha256.clone()),
        };
        let all: Vec<HubFile> = listing.siblings.iter().map(file).collect();
        let tags = listing.tags.iter();
        let tagged = || tags.clone().find_map(|tag| tag.strip_prefix("license:"));
        let card = listing.card_data.and_then(|card| card.license);
        Ok(HubModel {
            name: name(),
            page: self.page(hub),
            licence: card.or_else(|| tagged().map(str::to_owned)),
            files: self.chosen(all)?,
            commit,
        })
    }

    fn chosen(&self, all: Vec<HubFile>) -> Result<Files, HubError> {
        let gguf = |file: &&HubFile| file.path.to_lowercase().ends_with(".gguf");
        // A vision model's other half.
        let whole = |file: &&HubFile| !file.path.to_lowercase().contains("mmproj");
        let ggufs: Vec<HubFile> = all.iter().filter(gguf).filter(whole).cloned().collect();
        if let Some(wanted) = &self.file {
            let found = ggufs.iter().find(|file| file.path == *wanted);
            let paths = || ggufs.iter().map(|file| &file.path[..]).collect::<Vec<_>>();
            return match found {
                Some(file) => Ok(Files::Model(vec![file.clone()])),
                None => Err(HubError::NoSuchFile {
                    name: self.repository.clone(),
                    file: wanted.clone(),
                    there: match ggufs.is_empty() {
                        true => "none".into(),
                        false => paths().join(", "),
                    },
                }),
            };
        }
        let folder: Vec<HubFile> = all.into_iter().filter(|file| belongs(&file.path)).collect();
        let has = |end: &str| folder.iter().any(|file| file.path.ends_with(end));
        if has(CONFIG) && has(".safetensors") {
            let single = folder.iter().any(|file| file.path == WEIGHTS);
            let wanted = |file: &HubFile| !single || file.path == WEIGHTS || !is_part(&file.path);
            return Ok(Files::Model(folder.into_iter().filter(wanted).collect()));
        }
        match ggufs.len() {
            0 => Err(HubError::NoModel {
                name: self.repository.clone(),
            }),
            1 => Ok(Files::Model(ggufs)),
            _ => Ok(Files::OneOf(ggufs)),
        }
    }
}

/// Whether a file of a repository belongs to the folder that is converted.
fn belongs(path: &str) -> bool {
    let small = [
        CONFIG,
        TOKENIZER,
        TOKENIZER_CONFIG,
        CHAT_TEMPLATE,
        GENERATION_CONFIG,
        INDEX,
    ];
    small.contains(&path) || is_part(path)
}

/// Whether it is a weight file of the folder itself.
fn is_part(path: &str) -> bool {
    path.ends_with(".safetensors") && !path.contains('/') && !is_weights_of_another_form(path)
}

/// A model on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HubModel {
    /// `owner/name`
    pub name: String,
    /// Its page, for people.
    pub page: String,
    /// As its owner states it; nobody has checked that.
    pub licence: Option<String>,
    pub files: Files,
    /// The version that the files are of.
    pub commit: String,
}

/// Files to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Files {
    /// All of them make the model.
    Model(Vec<HubFile>),
    /// Each is the model in another form: somebody has to choose.
    OneOf(Vec<HubFile>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HubFile {
    pub path: String,
    /// Where it is fetched; the hub may redirect.
    pub address: String,
    pub bytes: u64,
    /// Of large files; the hub lists none of small ones.
    pub sha256: Option<String>,
}

/// The hub's answer, as far as it is used.
#[derive(Deserialize)]
struct Listing {
    sha: Option<String>,
    #[serde(default)]
    gated: Gated,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(rename = "cardData")]
    card_data: Option<CardData>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

/// `false`, `"auto"` or `"manual"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Gated {
    Said(bool),
    Kind(String),
}

impl Default for Gated {
    fn default() -> Self {
        Self::Said(false)
    }
}

impl Gated {
    fn is_gated(&self) -> bool {
        match self {
            Self::Said(gated) => *gated,
            Self::Kind(kind) => !kind.is_empty(),
        }
    }
}

#[derive(Deserialize)]
struct CardData {
    /// Some cards have a list.
    #[serde(default, deserialize_with = "text_or_none")]
    license: Option<String>,
}

fn text_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_str().map(str::to_owned))
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(text: &str) -> HubName {
        text.parse().unwrap()
    }

    #[test]
    fn names_and_pasted_addresses_are_read() {
        let plain = name("HuggingFaceTB/SmolLM2-360M-Instruct");
        assert_eq!((&plain.revision[..], &plain.file), ("main", &None));
        let whole = name("a/b.c@refs/pr/1:sub/x-Q4_K_M.gguf");
        assert_eq!(whole.repository, "a/b.c");
        assert_eq!(whole.revision, "refs/pr/1");
        assert_eq!(whole.file.as_deref(), Some("sub/x-Q4_K_M.gguf"));
        assert!(
            whole
                .listing(HUB)
                .ends_with("/api/models/a/b.c/revision/refs%2Fpr%2F1?blobs=true")
        );
        assert_eq!(name("a/b@v1:x.gguf").to_string(), "a/b@v1:x.gguf");
        for address in [
            "https://huggingface.co/a/b",
            " https://hf.co/a/b/ ",
            "https://huggingface.co/a/b/tree/main?x#y",
        ] {
            assert_eq!(name(address).to_string(), "a/b", "{address}");
        }
        let file = name("https://huggingface.co/a/b/blob/v1/x.gguf");
        assert_eq!(file.to_string(), "a/b@v1:x.gguf");
        for wrong in [
            "",
            "b",
            "a/b/c",
            "../b",
            "a/b:../../etc",
            "a/b@",
            "a b/c",
            "https://huggingface.co/a/b/discussions/1",
            "<b>/x",
        ] {
            assert!(wrong.parse::<HubName>().is_err(), "{wrong:?}");
        }
    }

    const SHA: &str = "0123456789012345678901234567890123456789";

    fn listing(files: &[(&str, u64, Option<&str>)]) -> Vec<u8> {
        let siblings: Vec<_> = files
            .iter()
            .map(|(path, size, sha256)| match sha256 {
                Some(sha256) => json!({"rfilename": path, "size": size, "lfs": {"sha256": sha256, "size": size, "pointerSize": 134}}),
                None => json!({"rfilename": path, "size": size, "blobId": "x"}),
            })
            .collect();
        json!({"id": "a/b", "sha": SHA, "gated": false, "private": false, "tags": ["license:mit"], "siblings": siblings})
            .to_string()
            .into_bytes()
    }

    fn paths(files: &Files) -> Vec<&str> {
        let (Files::Model(files) | Files::OneOf(files)) = files;
        files.iter().map(|file| &file.path[..]).collect()
    }

    #[test]
    fn a_folder_is_its_own_files_of_one_commit() {
        let all = listing(&[
            ("README.md", 9, None),
            ("config.json", 10, None),
            ("tokenizer.json", 11, None),
            ("generation_config.json", 12, None),
            ("model.safetensors", 300, Some("ff")),
            ("onnx/model.onnx", 400, Some("aa")),
            ("onnx/config.json", 400, None),
            ("adapter_model.safetensors", 5, Some("bb")),
        ]);
        let model = name("a/b").model("http://hub", &all).unwrap();
        assert_eq!(model.licence.as_deref(), Some("mit"));
        assert_eq!(
            paths(&model.files),
            [
                "config.json",
                "tokenizer.json",
                "generation_config.json",
                "model.safetensors"
            ]
        );
        let Files::Model(files) = model.files else {
            panic!()
        };
        assert_eq!(
            files[3].address,
            format!("http://hub/a/b/resolve/{SHA}/model.safetensors")
        );
        assert_eq!(
            (files[3].bytes, files[3].sha256.as_deref()),
            (300, Some("ff"))
        );
    }

    #[test]
    fn gguf_files_are_alternatives() {
        let all = listing(&[
            ("x-Q4_K_M.gguf", 1, Some("aa")),
            ("x-Q8_0.gguf", 2, Some("bb")),
            ("mmproj-x.gguf", 3, Some("cc")),
        ]);
        let several = name("a/b").model(HUB, &all).unwrap().files;
        assert!(matches!(several, Files::OneOf(_)));
        assert_eq!(paths(&several), ["x-Q4_K_M.gguf", "x-Q8_0.gguf"]);
        let one = name("a/b:x-Q8_0.gguf").model(HUB, &all).unwrap().files;
        assert!(matches!(&one, Files::Model(files) if files.len() == 1));
        let error = name("a/b:y.gguf").model(HUB, &all).unwrap_err();
        assert!(
            error.to_string().contains("x-Q4_K_M.gguf, x-Q8_0.gguf"),
            "{error}"
        );
        let none = name("a/b").model(HUB, &listing(&[("pytorch_model.bin", 1, None)]));
        assert!(matches!(none, Err(HubError::NoModel { .. })));
    }

    #[test]
    fn what_the_hub_refuses_is_said_with_a_way_on() {
        let say =
            |status, code, after| name("a/b@v2").refusal(HUB, status, code, after).to_string();
        assert!(say(401, Some("GatedRepo"), None).contains("accept them"));
        assert!(say(401, Some("RepoNotFound"), None).contains("no public model a/b"));
        assert!(say(404, Some("RevisionNotFound"), None).contains("no revision \"v2\""));
        assert!(say(429, None, Some(90)).contains("in 2 minutes"));
        assert!(say(503, None, None).contains("answered 503"));
        let gated = json!({"sha": SHA, "gated": "manual", "siblings": []}).to_string();
        let error = name("a/b").model(HUB, gated.as_bytes()).unwrap_err();
        assert!(matches!(error, HubError::Gated { .. }));
    }

    proptest::proptest! {
        #[test]
        fn any_name_and_any_listing_give_a_model_or_a_sentence(text in ".{0,60}", json in ".{0,200}") {
            if let Ok(name) = text.parse::<HubName>() {
                proptest::prop_assert!(!name.listing(HUB).contains(".."));
                proptest::prop_assert!(name.model(HUB, json.as_bytes()).is_err());
            }
        }
    }
}
