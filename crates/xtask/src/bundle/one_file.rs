//! `dist/trimtab-offline.html`: everything in one file, for a double click where there is no network and no server.
//!
//! Page and worker are scripts in it, allowed by their hashes; every other file is text in elements that are never
//! run, which `web/src/state/one_file/collect.ts` takes out again while the file is being read.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{gzip, megabytes};
use crate::catalogue::{self, Catalogue};
use crate::files::{files_below, read};
use crate::page::{self, PublicAddress};
use crate::process;

/// One element's bytes before compression: its text is at most a mebibyte.
const PIECE: usize = 768 * 1024;

/// Which models go in, and where the file is written.
#[derive(Debug)]
pub struct Contents {
    pub models: PathBuf,
    pub out: PathBuf,
}

impl Contents {
    pub fn published(root: &Path) -> Self {
        Self {
            models: root.join("models"),
            out: root.join("dist/trimtab-offline.html"),
        }
    }
}

/// Needs what [`crate::page::prepare`] makes.
pub fn make(root: &Path, address: &PublicAddress, contents: &Contents) -> Result<()> {
    process::run(&mut page::script(root, "build:one-file", address)?)?;
    let built = root.join("target/one-file");
    let page = Page::split(&built)?;
    let out = &contents.out;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let file = File::create(out).with_context(|| format!("{} cannot be written", out.display()))?;
    let mut file = BufWriter::new(file);
    let files = embedded(&contents.models, &built)?;
    page.write_head(&mut file, files.iter().map(|file| file.bytes).sum())?;
    for Embedded { path, from, .. } in files {
        write_pieces(&mut file, &path, &read(&from)?)?;
    }
    file.write_all(
        b"<script type=\"application/octet-stream\" data-end></script>\n</body>\n</html>\n",
    )?;
    file.flush()?;
    println!(
        "{}: {}. Copy it anywhere and open it in Chrome or Edge",
        out.display(),
        megabytes(fs::metadata(out)?.len())
    );
    Ok(())
}

/// The built page's own parts.
struct Page {
    /// What is between `<head>` and `</head>`, without the files that are named there.
    head: String,
    body: String,
    style: String,
    script: String,
    worker: String,
    /// An SVG picture.
    icon: String,
}

impl Page {
    fn split(built: &Path) -> Result<Self> {
        let text = |path: &str| -> Result<String> {
            String::from_utf8(read(&built.join(path))?)
                .with_context(|| format!("{path} is no text"))
        };
        let html = text("index.html")?;
        let (head, body) = Option::zip(
            between(&html, "<head>", "</head>"),
            between(&html, "<body>", "</body>"),
        )
        .context("the built index.html has no head or no body")?;
        let kept: Vec<&str> = head
            .lines()
            .filter(|line| !line.contains("<script") && !line.contains("<link"))
            .collect();
        let script = between(&html, "crossorigin src=\"/", "\"")
            .context("the built index.html names no script")?;
        let style = between(&html, "crossorigin href=\"/", "\"")
            .context("the built index.html names no style sheet")?;
        let worker = files_below(built)?
            .into_iter()
            .find(|path| path.starts_with("assets/worker-") && path.ends_with(".js"))
            .context("the build made no worker")?;
        Ok(Self {
            head: kept.join("\n"),
            body: body.trim().to_owned(),
            style: inline("style sheet", text(style)?)?,
            script: inline("script", text(script)?)?,
            worker: inline("worker", text(&worker)?)?,
            icon: text("icon.svg")?,
        })
    }

    fn write_head(&self, out: &mut impl Write, bytes: u64) -> Result<()> {
        let Self {
            head,
            body,
            style,
            script,
            worker,
            icon,
        } = self;
        let policy = [
            "default-src 'none'".into(),
            format!("script-src '{}' 'wasm-unsafe-eval'", source(script)),
            format!("style-src '{}'", source(style)),
            "img-src data: blob:".into(),
            "worker-src blob:".into(),
            "base-uri 'none'".into(),
            "form-action 'none'".into(),
        ]
        .join("; ");
        let icon = STANDARD.encode(icon);
        writeln!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\" />\n{head}\n\
             <meta name=\"trimtab-bytes\" content=\"{bytes}\" />\n\
             <link rel=\"icon\" href=\"data:image/svg+xml;base64,{icon}\" type=\"image/svg+xml\" />\n\
             <style>{style}</style>\n</head>\n<body>\n{body}\n\
             <script type=\"text/plain\" id=\"worker\">{worker}</script>\n\
             <script type=\"module\" async>{script}</script>"
        )?;
        Ok(())
    }
}

/// A file that the page would fetch. Ordered by length first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Embedded {
    bytes: u64,
    /// Below the page's folder.
    path: String,
    from: PathBuf,
}

impl Embedded {
    fn new(path: String, from: PathBuf) -> Result<Self> {
        let bytes = fs::metadata(&from)
            .with_context(|| format!("{} is missing", from.display()))?
            .len();
        Ok(Self { bytes, path, from })
    }
}

/// Everything that the page would fetch, small files first.
fn embedded(models: &Path, built: &Path) -> Result<Vec<Embedded>> {
    let mut files = Vec::new();
    for path in files_below(built)? {
        // Scripts, styles and the icon are parts of the page already; what installs a page has no use in a file.
        let wanted = path.starts_with("assets/") || path.starts_with("generated/");
        if wanted && !path.ends_with(".js") && !path.ends_with(".css") {
            let from = built.join(&path);
            files.push(Embedded::new(path, from)?);
        }
    }
    let mut catalogue = Catalogue::read(models)?;
    let listed = catalogue.files().map(|(path, _)| path);
    for path in listed.chain([catalogue::FILE.to_owned()]) {
        let from = models.join(&path);
        files.push(Embedded::new(format!("models/{path}"), from)?);
    }
    files.sort();
    Ok(files)
}

fn write_pieces(out: &mut impl Write, path: &str, bytes: &[u8]) -> Result<()> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._-".contains(&c);
    if !path.bytes().all(plain) {
        bail!("{path:?} is no plain path");
    }
    let pieces = bytes.chunks(PIECE);
    let last = pieces.len().saturating_sub(1);
    for (index, piece) in pieces.enumerate() {
        let smaller = gzip(piece)?;
        // Weights hardly get smaller, and are sooner there as they are.
        let helps = smaller.len() < piece.len() / 10 * 9;
        let text = STANDARD.encode(if helps { &smaller } else { piece });
        let gzip = if helps { " data-gzip" } else { "" };
        let end = if index == last { " data-last" } else { "" };
        writeln!(
            out,
            "<script type=\"application/octet-stream\" data-file=\"{path}\"{gzip}{end}>{text}</script>"
        )?;
    }
    Ok(())
}

/// The text between the first `start` and the `end` after it.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let from = text.find(start)? + start.len();
    let length = text[from..].find(end)?;
    Some(&text[from..from + length])
}

/// A text that can stand between tags as it is, and whose hash the browser therefore finds again.
fn inline(what: &str, text: String) -> Result<String> {
    let lower = text.to_ascii_lowercase();
    for mark in ["<script", "</script", "</style", "\r", "\0"] {
        if lower.contains(mark) {
            bail!(
                "the {what} contains {mark:?}, which cannot stand in one file with the page; write it in another way"
            );
        }
    }
    Ok(text)
}

/// The text's hash as a Content-Security-Policy names it.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_as_the_file_they_were() {
        let text: Vec<u8> = (0..PIECE * 2 + 5).map(|i| (i % 7) as u8).collect();
        let mut noise = vec![0u8; PIECE + 1];
        let mut state = 1u32;
        for byte in &mut noise {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        for (bytes, pieces, compressed) in [(text, 3, true), (noise, 2, false)] {
            let mut out = Vec::new();
            write_pieces(&mut out, "models/a.bin", &bytes).unwrap();
            let html = String::from_utf8(out).unwrap();
            let mut found = Vec::new();
            for line in html.lines() {
                let piece = STANDARD.decode(between(line, ">", "<").unwrap()).unwrap();
                let opening = between(line, "<script", ">").unwrap();
                if opening.contains("data-gzip") {
                    let mut plain = Vec::new();
                    std::io::copy(&mut flate2::read::GzDecoder::new(&piece[..]), &mut plain)
                        .unwrap();
                    found.extend(plain);
                } else {
                    found.extend(piece);
                }
            }
            assert!(found == bytes);
            assert_eq!(html.lines().count(), pieces);
            assert_eq!(html.contains("data-gzip"), compressed);
            assert!(html.lines().last().unwrap().contains("data-last"));
            assert_eq!(html.matches("data-last").count(), 1);
        }
        assert!(write_pieces(&mut Vec::new(), "a\"><b", b"x").is_err());
    }

    #[test]
    fn what_would_end_the_page_early_is_refused() {
        assert!(inline("script", "const a = 1;".into()).is_ok());
        assert!(inline("script", "const a = '</SCRIPT>';".into()).is_err());
        assert!(inline("script", "a\r\nb".into()).is_err());
    }

    /// <https://www.w3.org/TR/CSP3/#example-e9e56b51>
    #[test]
    fn hashes_are_written_as_policies_have_them() {
        assert_eq!(
            source("doSomething();"),
            "sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc="
        );
    }
}
