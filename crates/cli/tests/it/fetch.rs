//! `trimtab fetch`, from a server with the hub's addresses and answers.

use crate::{command, emptied};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use trimtab_testing::files::repository;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A server of files under the hub's addresses. The first answer of a file in `cut` ends half-way.
struct Hub {
    address: String,
    /// Paths that were asked for, with the range, if any.
    asked: Arc<Mutex<Vec<String>>>,
}

type Answers = BTreeMap<String, (u16, &'static str, Vec<u8>)>;

impl Hub {
    fn start(answers: Answers, cut: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, cut) = (asked.clone(), cut.to_owned());
        std::thread::spawn(move || {
            let mut cut = Some(cut);
            for stream in listener.incoming() {
                answer(stream.unwrap(), &answers, &noted, &mut cut);
            }
        });
        Self { address, asked }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = command(arguments);
        command.env("HF_ENDPOINT", &self.address).output().unwrap()
    }
}

fn answer(
    mut stream: TcpStream,
    answers: &Answers,
    asked: &Mutex<Vec<String>>,
    cut: &mut Option<String>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .collect();
    let range = headers.iter().find_map(|line| {
        let line = line.to_ascii_lowercase();
        line.strip_prefix("range: bytes=")?
            .trim_end_matches('-')
            .parse::<usize>()
            .ok()
    });
    asked.lock().unwrap().push(match range {
        Some(from) => format!("{path} from {from}"),
        None => path.clone(),
    });
    let missing = (404, "X-Error-Code: RepoNotFound\r\n", Vec::new());
    let (status, header, body) = answers.get(&path).unwrap_or(&missing);
    let rest = body.get(range.unwrap_or(0)..).unwrap_or_default();
    let status = match (*status, range) {
        (200, Some(_)) => 206,
        (status, _) => status,
    };
    let sent = match cut.take_if(|cut| path.ends_with(cut.as_str())) {
        Some(_) => &rest[..rest.len() / 2],
        None => rest,
    };
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Length: {}\r\n{header}Connection: close\r\n\r\n",
        rest.len()
    )
    .unwrap();
    // Somebody who has seen enough may have gone.
    let _ = stream.write_all(sent);
}

fn model(sha256: &str) -> (Answers, Vec<u8>) {
    let bytes = std::fs::read(repository().join("tests/golden/tiny/tiny.gguf")).unwrap();
    let listing = json!({
        "sha": SHA,
        "gated": false,
        "cardData": {"license": "apache-2.0"},
        "siblings": [
            {"rfilename": "README.md", "size": 3},
            {"rfilename": "tiny.gguf", "size": bytes.len(), "lfs": {"sha256": sha256}},
        ],
    });
    let listing = listing.to_string().into_bytes();
    let moved = "Location: /cdn/tiny.gguf\r\n";
    let answers = BTreeMap::from([
        (
            "/api/models/a/tiny/revision/main?blobs=true".to_owned(),
            (200, "", listing),
        ),
        (
            format!("/a/tiny/resolve/{SHA}/tiny.gguf"),
            (302, moved, Vec::new()),
        ),
        ("/cdn/tiny.gguf".to_owned(), (200, "", bytes.clone())),
    ]);
    (answers, bytes)
}

fn said(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    texts.concat()
}

#[test]
fn a_model_is_fetched_by_its_name_and_taken_up_where_the_network_broke() {
    let folder = emptied("fetched");
    let out = folder.join("tiny");
    let out = out.to_str().unwrap();
    let file = repository().join("tests/golden/tiny/tiny.gguf");
    let (bytes, sha256) = trimtab_checkpoint::convert::directory::hash_file(&file).unwrap();
    let hub = Hub::start(model(&sha256).0, "/cdn/tiny.gguf");

    let listed = hub.run(&["fetch", "a/tiny", out, "--dry-run"]);
    assert!(said(&listed).contains("licence apache-2.0") && said(&listed).contains("tiny.gguf"));
    assert_eq!(hub.asked.lock().unwrap().len(), 1);

    let broken = hub.run(&["fetch", "a/tiny", out]);
    assert!(!broken.status.success());
    assert!(
        said(&broken).contains("run the same command again"),
        "{}",
        said(&broken)
    );
    assert!(!std::path::Path::new(out).exists());

    let fetched = hub.run(&["fetch", "a/tiny", out]);
    assert!(fetched.status.success(), "{}", said(&fetched));
    let last = hub.asked.lock().unwrap().last().cloned();
    assert_eq!(last, Some(format!("/cdn/tiny.gguf from {}", bytes / 2)));
    let manifest = std::fs::read(format!("{out}/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["source_sha256"], *sha256);
    assert_eq!(manifest["licence"], "apache-2.0");
    assert!(manifest["source"].as_str().unwrap().contains(SHA));
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_is_not_the_listed_file_and_what_is_not_there_is_refused() {
    let folder = emptied("not-fetched");
    let out = folder.join("tiny");
    let out = out.to_str().unwrap();
    let hub = Hub::start(model(&"0".repeat(64)).0, "nothing");
    let other = said(&hub.run(&["fetch", "a/tiny", out]));
    assert!(
        other.contains("did not arrive as the hub lists it"),
        "{other}"
    );
    let missing = said(&hub.run(&["fetch", "a/other", out]));
    assert!(missing.contains("no public model a/other"), "{missing}");
    let wrong = hub.run(&["fetch", "other", out]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(&wrong).contains("owner/name"), "{}", said(&wrong));
    assert!(!std::path::Path::new(out).exists());
}
