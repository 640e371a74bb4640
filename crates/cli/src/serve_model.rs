//! A model directory of one's own in place of the models that the page was published with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use serde_json::{Value, json};
use tower_http::services::ServeFile;
use trimtab_checkpoint::convert::directory::hash_file;
use trimtab_checkpoint::manifest::{
    CHAT_TEMPLATE, CONFIG, MANIFEST, Manifest, ManifestFile, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS,
};

/// Files that the page asks a model directory for; nothing else of it is served.
const FILES: &[&str] = &[CONFIG, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, WEIGHTS];
const NEEDED: &[&str] = &[CONFIG, TOKENIZER, WEIGHTS];

/// A model directory that the page will offer, and nothing else.
#[derive(Debug)]
pub struct OwnModel {
    directory: PathBuf,
    id: String,
    manifest: Manifest,
}

impl OwnModel {
    /// Reads the directory's manifest; without one, its files are hashed.
    ///
    /// # Errors
    /// The directory is no model directory, or its manifest is broken.
    pub fn open(directory: &Path) -> Result<Self> {
        if let Some(missing) = NEEDED.iter().find(|name| !directory.join(name).is_file()) {
            bail!(
                "{} is no model directory, it has no {missing}; make one with `trimtab convert`",
                directory.display()
            );
        }
        let name = directory
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "model".into());
        let path = directory.join(MANIFEST);
        let mut manifest = if path.is_file() {
            let json = fs::read(&path).with_context(|| path.display().to_string())?;
            Manifest::from_json(&json).with_context(|| path.display().to_string())?
        } else {
            hashed(directory, &name)?
        };
        manifest
            .files
            .retain(|file| FILES.contains(&file.path.as_str()));
        // The page takes plain names only, and `vectors` is a folder of its own.
        let plain: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .take(100)
            .collect();
        Ok(Self {
            directory: directory.to_owned(),
            id: format!("own-{plain}"),
            manifest,
        })
    }

    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The catalogue with this model alone; `published` is the page's own, whose vectors are offered where the weights are the same.
    fn catalogue(&self, published: Option<&[u8]>) -> Value {
        let Manifest {
            name,
            licence,
            source,
            files,
            ..
        } = &self.manifest;
        let weights = self.manifest.weights().map(|file| file.sha256.as_str());
        let twin = published
            .and_then(|json| serde_json::from_slice::<Value>(json).ok())
            .and_then(|catalogue| model_of(&catalogue, weights?))
            .unwrap_or_default();
        let mut entry = json!({
            "id": self.id, "name": name, "licence": licence, "source": source, "files": files,
        });
        for list in ["vectors", "reports", "replaced", "neutral"] {
            entry[list] = twin.get(list).cloned().unwrap_or_else(|| json!([]));
        }
        json!({ "format": 1, "models": [entry] })
    }

    /// Puts the model before the page's own in `router`.
    pub fn before(&self, router: Router, published: Option<&[u8]>) -> Router {
        let catalogue = self.catalogue(published).to_string();
        let mut router = router.route(
            "/models/catalog.json",
            get(move || async move { ([(CONTENT_TYPE, "application/json")], catalogue) }),
        );
        for ManifestFile { path, .. } in &self.manifest.files {
            router = router.route_service(
                &format!("/models/{}/{path}", self.id),
                ServeFile::new(self.directory.join(path)),
            );
        }
        router
    }
}

fn hashed(directory: &Path, name: &str) -> Result<Manifest> {
    let mut files = Vec::new();
    for file in FILES {
        let path = directory.join(file);
        if !path.is_file() {
            continue;
        }
        let (bytes, sha256) = hash_file(&path).with_context(|| path.display().to_string())?;
        files.push(ManifestFile {
            path: (*file).into(),
            bytes,
            sha256,
        });
    }
    Ok(Manifest {
        format: 1,
        name: name.into(),
        licence: "unknown".into(),
        source: "a model directory without a manifest".into(),
        source_sha256: None,
        files,
        notes: Vec::new(),
    })
}

/// The catalogue's entry of the model with these weights.
fn model_of(catalogue: &Value, weights: &str) -> Option<Value> {
    let mut models = catalogue["models"].as_array()?.iter();
    let found = models.find(|model| {
        let files = model["files"].as_array();
        files.is_some_and(|files| files.iter().any(|file| file["sha256"] == weights))
    })?;
    Some(found.clone())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    use sha2::{Digest, Sha256};
    use trimtab_server::{files, listen};

    use super::*;

    /// The whole answer.
    fn get(address: SocketAddr, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{header}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_model_of_ones_own_takes_the_place_of_the_published_ones() {
        let folder = std::env::temp_dir().join(format!("trimtab-own-{}", std::process::id()));
        let own = folder.join("my model");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(folder.join("page")).unwrap();
        fs::write(folder.join("page/index.html"), "<p>page").unwrap();
        for (path, text) in [
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            ("model.safetensors", "weights"),
            ("diary.txt", "secret"),
        ] {
            fs::write(own.join(path), text).unwrap();
        }
        let sha256: String = Sha256::digest("weights")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let published = json!({"models": [{
            "files": [{"path": "model.safetensors", "sha256": sha256}],
            "vectors": [{"path": "calm.safetensors"}],
        }]})
        .to_string();
        let model = OwnModel::open(&own).unwrap();
        let page = files::folder(&folder.join("page"));
        let router = files::finished(model.before(page, Some(published.as_bytes())));
        let address = listen::in_background(router, None).unwrap();

        let answer = get(address, "/models/catalog.json", "Accept: */*");
        let (head, json) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/json"), "{head}");
        let catalogue: Value = serde_json::from_str(json).unwrap();
        let entry = &catalogue["models"][0];
        assert_eq!(entry["id"], "own-mymodel");
        assert_eq!(entry["name"], "my model");
        // The same weights have the same traits.
        assert_eq!(entry["vectors"][0]["path"], "calm.safetensors");
        assert_eq!(entry["files"].as_array().unwrap().len(), 3);
        assert_eq!(entry["files"][2]["sha256"], sha256.as_str());
        let rest = get(
            address,
            "/models/own-mymodel/model.safetensors",
            "Range: bytes=3-",
        );
        assert!(
            rest.starts_with("HTTP/1.1 206") && rest.ends_with("\r\n\r\nghts"),
            "{rest}"
        );
        let refused = get(address, "/models/own-mymodel/diary.txt", "Accept: */*");
        assert!(refused.starts_with("HTTP/1.1 404"), "{refused}");
        assert!(get(address, "/", "Accept: */*").ends_with("<p>page"));

        fs::remove_file(own.join("tokenizer.json")).unwrap();
        let error = OwnModel::open(&own).unwrap_err().to_string();
        assert!(
            error.contains("no tokenizer.json") && error.contains("trimtab convert"),
            "{error}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
