//! The page's server as browsers and slow laptops meet it: over sockets, byte by byte.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use trimtab_server::embedded::{Embedded, EmbeddedFile};
use trimtab_server::{files, lan, listen};

/// A folder of this test in the build's own scratch folder, empty.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn put(folder: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: teacher.local:8420\r\nConnection: close\r\n");
    for header in headers {
        request += header;
        request += "\r\n";
    }
    stream
        .write_all(format!("{request}\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let split = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..split].to_vec()).unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: answer[split + 4..].to_vec(),
    }
}

fn get(address: SocketAddr, path: &str, headers: &[&str]) -> Answer {
    ask(address, "GET", path, headers)
}

const PAGE: &[(&str, &[u8])] = &[
    ("index.html", b"<p>page"),
    ("assets/app-4f2a.js", b"let long = 1;"),
    ("assets/app-4f2a.js.gz", b"pretended gzip"),
    ("assets/engine-99.wasm", b"wasm"),
    ("models/catalog.json", b"{}"),
    ("models/tiny/model.safetensors", b"0123456789"),
];

fn embedded(path: &str) -> Option<EmbeddedFile> {
    let (_, bytes) = PAGE.iter().find(|(name, _)| *name == path)?;
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Some(EmbeddedFile { bytes, modified })
}

/// From a folder and out of the program, the answers are the same.
fn both(name: &str) -> [SocketAddr; 2] {
    let folder = scratch(name);
    for (path, bytes) in PAGE {
        put(&folder.join("page"), path, bytes);
    }
    put(&folder, "secret", "secret");
    [
        files::folder(&folder.join("page")),
        files::embedded(Embedded(embedded)),
    ]
    .map(|router| listen::in_background(files::finished(router), None).unwrap())
}

#[test]
fn files_have_their_types_and_safe_headers() {
    for address in both("types") {
        let page = get(address, "/", &[]);
        assert_eq!((page.status, page.text()), (200, "<p>page"));
        for (path, mime) in [
            ("/index.html", "text/html"),
            ("/assets/app-4f2a.js", "text/javascript"),
            ("/assets/engine-99.wasm", "application/wasm"),
            ("/models/catalog.json", "application/json"),
            ("/models/tiny/model.safetensors", "application/octet-stream"),
        ] {
            let answer = get(address, path, &[]);
            assert_eq!(answer.header("content-type"), Some(mime), "{path}");
            for (name, value) in files::SECURITY {
                assert_eq!(answer.header(name), Some(*value), "{path}");
            }
        }
        assert_eq!(
            ask(address, "HEAD", "/", &[]).header("content-length"),
            Some("7")
        );
        assert_eq!(ask(address, "POST", "/", &[]).status, 405);
    }
}

#[test]
fn downloads_go_on_where_they_broke_off() {
    let path = "/models/tiny/model.safetensors";
    for address in both("ranges") {
        let part = get(address, path, &["Range: bytes=4-"]);
        assert_eq!((part.status, part.text()), (206, "456789"));
        assert_eq!(part.header("content-range"), Some("bytes 4-9/10"));
        assert_eq!(get(address, path, &["Range: bytes=2-3"]).text(), "23");
        assert_eq!(get(address, path, &["Range: bytes=-1"]).text(), "9");
        let beyond = get(address, path, &["Range: bytes=10-"]);
        assert_eq!(
            (beyond.status, beyond.header("content-range")),
            (416, Some("bytes */10"))
        );
        let whole = get(address, path, &[]);
        assert_eq!(
            (whole.text(), whole.header("accept-ranges")),
            ("0123456789", Some("bytes"))
        );
    }
}

#[test]
fn files_named_by_their_content_are_kept_and_others_asked_for_again() {
    for address in both("caching") {
        let kept = Some("public, max-age=31536000, immutable");
        assert_eq!(
            get(address, "/assets/app-4f2a.js", &[]).header("cache-control"),
            kept
        );
        assert_eq!(
            get(address, "/", &[]).header("cache-control"),
            Some("no-cache")
        );
        let model = "/models/tiny/model.safetensors";
        assert_eq!(
            get(address, model, &[]).header("cache-control"),
            Some("no-cache")
        );
        // What is missing now may be there after the next build.
        assert_eq!(
            get(address, "/assets/none-1.js", &[]).header("cache-control"),
            Some("no-cache")
        );

        let tag = get(address, "/", &[]).header("etag").unwrap().to_owned();
        let again = get(address, "/", &[&format!("If-None-Match: {tag}")]);
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
}

#[test]
fn the_compressed_twin_is_sent_to_whoever_takes_it() {
    for address in both("compression") {
        let path = "/assets/app-4f2a.js";
        let small = get(address, path, &["Accept-Encoding: gzip, br"]);
        assert_eq!(small.header("content-encoding"), Some("gzip"));
        assert_eq!(small.header("content-type"), Some("text/javascript"));
        assert_eq!(small.header("vary"), Some("accept-encoding"));
        assert_eq!(small.text(), "pretended gzip");
        assert_eq!(get(address, path, &[]).text(), "let long = 1;");
        let none = get(
            address,
            "/assets/engine-99.wasm",
            &["Accept-Encoding: gzip"],
        );
        assert_eq!(
            (none.header("content-encoding"), none.text()),
            (None, "wasm")
        );
    }
}

#[test]
fn nothing_outside_the_page_is_served() {
    for address in both("outside") {
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/models/../../secret",
            "/models/%2e%2e%2f%2e%2e%2fsecret",
            "/..%5csecret",
            "//etc/passwd",
            "/%00",
            "/none",
        ] {
            let refused = get(address, path, &[]);
            assert!(
                matches!(refused.status, 400..500),
                "{path}: {}",
                refused.status
            );
            assert!(
                !refused.text().contains("secret") && !refused.text().contains("root:"),
                "{path}"
            );
        }
        let missing = get(address, "/none", &[]);
        assert_eq!(missing.status, 404);
        assert!(
            missing.text().contains("no such file"),
            "{}",
            missing.text()
        );
    }
}

#[test]
fn the_first_page_of_a_classroom_leads_to_https_and_has_the_page_beside_it() {
    let page = files::finished(files::embedded(Embedded(embedded)));
    let address = listen::in_background(lan::welcome(page, 9443), None).unwrap();
    let first = get(address, "/", &[]);
    assert_eq!(first.status, 200);
    assert!(
        first
            .header("content-security-policy")
            .unwrap()
            .starts_with("default-src 'none'")
    );
    // What the policy would refuse would be missing.
    assert!(
        !first.text().contains("<style")
            && !first.text().contains("style=")
            && !first.text().contains("<script")
    );
    for path in ["/welcome.css", "/welcome.svg", "/secure", "/page/"] {
        assert!(first.text().contains(&format!("\"{path}\"")), "{path}");
    }
    assert_eq!(
        get(address, "/welcome.svg", &[]).header("content-type"),
        Some("image/svg+xml")
    );
    let secure = get(address, "/secure", &[]);
    assert_eq!(
        secure.header("location"),
        Some("https://teacher.local:9443/")
    );
    assert_eq!(get(address, "/page/", &[]).text(), "<p>page");
    assert_eq!(
        get(address, "/page/assets/engine-99.wasm", &[]).text(),
        "wasm"
    );
    // An address that somebody mistyped.
    assert_eq!(get(address, "/pgae", &[]).header("location"), Some("/"));
}

#[test]
fn a_code_for_cameras_is_square() {
    let code = lan::qr("http://192.168.178.100:8420/").unwrap();
    let lines: Vec<&str> = code.lines().collect();
    let width = lines[0].chars().count();
    assert!(lines.iter().all(|line| line.chars().count() == width));
    assert!(
        width.div_ceil(2) == lines.len() && width > 20,
        "{width} by {}",
        lines.len()
    );
}

/// Bytes of a pretended model, different everywhere.
fn weights(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    (0..bytes)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A browser's connection after its warning was clicked away: any certificate will do.
fn clicked_through(
    address: SocketAddr,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("teacher.local").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Seconds that each of `clients` took to fetch `path` whole, all at the same time; every copy has to be sound.
fn download_together(
    address: SocketAddr,
    path: &'static str,
    clients: usize,
    secure: bool,
    expected: &[u8],
) -> Vec<f64> {
    let expected = Sha256::digest(expected);
    let all: Vec<_> = (0..clients)
        .map(|_| {
            thread::spawn(move || {
                let start = Instant::now();
                let mut stream: Box<dyn Stream> = match secure {
                    true => Box::new(clicked_through(address)),
                    false => Box::new(TcpStream::connect(address).unwrap()),
                };
                write!(
                    stream,
                    "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                )
                .unwrap();
                let mut piece = vec![0; 1 << 16];
                let mut head = Vec::new();
                let mut hash: Option<Sha256> = None;
                loop {
                    let count = match stream.read(&mut piece) {
                        // The server says goodbye to the connection, not always to TLS.
                        Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                        read => read.unwrap(),
                    };
                    if count == 0 {
                        break;
                    }
                    if let Some(hash) = &mut hash {
                        hash.update(&piece[..count]);
                        continue;
                    }
                    head.extend_from_slice(&piece[..count]);
                    if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                        hash = Some(Sha256::new_with_prefix(&head[end + 4..]));
                    }
                }
                assert_eq!(hash.unwrap().finalize(), expected);
                start.elapsed().as_secs_f64()
            })
        })
        .collect();
    all.into_iter()
        .map(|client| client.join().unwrap())
        .collect()
}

#[test]
fn several_downloads_at_once_are_whole() {
    let folder = scratch("together");
    let bytes = weights(3_000_000);
    put(&folder, "index.html", "");
    put(&folder, "model.safetensors", &bytes);
    let address = listen::in_background(files::finished(files::folder(&folder)), None).unwrap();
    assert_eq!(
        download_together(address, "/model.safetensors", 6, false, &bytes).len(),
        6
    );
}

#[test]
fn several_downloads_at_once_are_whole_behind_a_certificate_made_on_the_spot() {
    let folder = scratch("together-secure");
    let bytes = weights(3_000_000);
    put(&folder, "index.html", "");
    put(&folder, "model.safetensors", &bytes);
    let tls = lan::certificate(&[Ipv4Addr::new(192, 168, 1, 7)]).unwrap();
    let router = files::finished(files::folder(&folder));
    let address = listen::in_background(router, Some(tls)).unwrap();
    assert_eq!(
        download_together(address, "/model.safetensors", 6, true, &bytes).len(),
        6
    );
}

/// A classroom, measured: `cargo test --release -p trimtab-server classroom -- --ignored --nocapture`.
#[test]
#[ignore = "reads 3 GB over the loopback"]
fn a_classroom_of_thirty() {
    let folder = scratch("classroom");
    let bytes = weights(97_000_000);
    put(&folder, "index.html", "");
    put(&folder, "model.safetensors", &bytes);
    let tls = lan::certificate(&[Ipv4Addr::new(192, 168, 1, 7)]).unwrap();
    let router = files::finished(files::folder(&folder));
    let address = listen::in_background(router, Some(tls)).unwrap();
    let before = resident();
    let start = Instant::now();
    let seconds = download_together(address, "/model.safetensors", 30, true, &bytes);
    let wall = start.elapsed().as_secs_f64();
    let (min, max) = seconds
        .iter()
        .fold((f64::MAX, 0f64), |(min, max), &s| (min.min(s), max.max(s)));
    println!(
        "30 downloads of 97 MB by HTTPS: {wall:.1} s, {:.0} MB/s in all; the first was done after {min:.1} s, the last after {max:.1} s; \
         resident memory {before} kB before, {} kB at most",
        30.0 * 97.0 / wall,
        peak()
    );
    assert!(max / min < 2.0, "unfair shares");
}

fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn resident() -> u64 {
    status("VmRSS")
}

fn peak() -> u64 {
    status("VmHWM")
}

#[test]
fn this_machine_has_no_loopback_among_its_addresses() {
    assert!(!lan::addresses().unwrap().contains(&Ipv4Addr::LOCALHOST));
}
