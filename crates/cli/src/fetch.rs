//! `trimtab fetch`: a model by its name on the Hugging Face hub, made a model directory.

use crate::convert::{QuantArgument, make};
use crate::progress;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use trimtab_checkpoint::convert::Options;
use trimtab_checkpoint::convert::directory::hash_file;
use trimtab_checkpoint::hub::{Files, HUB, HubFile, HubModel, HubName, MAX_LISTING_BYTES};
use ureq::http::Response;
use ureq::{Agent, Body};

/// Longest file that is taken without a hash to check it by.
const MOST_UNCHECKED_BYTES: u64 = 64 << 20;
const AGAIN: &str = "run the same command again: it goes on where it stopped";

#[derive(Debug, Args)]
pub struct Arguments {
    /// The model's name: owner/name, perhaps with @revision and :file.gguf behind
    #[arg(value_name = "NAME")]
    name: HubName,
    /// The model directory to make; must not exist, or be empty
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Quantise the weights of safetensors files; without it they are kept as they are
    #[arg(long)]
    quant: Option<QuantArgument>,
    /// Say what would be fetched, and fetch nothing but the list
    #[arg(long)]
    dry_run: bool,
    /// Print the manifest
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { name, output, .. } = arguments;
    if fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} exists and is not empty", output.display());
    }
    // The variable of the hub's own library, for mirrors.
    let hub = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| HUB.into());
    let hub = Hub {
        address: hub.trim_end_matches('/').into(),
        agent: Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("trimtab/", env!("CARGO_PKG_VERSION")))
            .build()
            .into(),
    };
    let model = hub.look_up(name)?;
    let files = match &model.files {
        Files::Model(files) => files,
        Files::OneOf(files) => {
            let forms = files.iter();
            let forms = forms.map(|file| format!("\n  {name}:{}  {}", file.path, size(file.bytes)));
            bail!(
                "{name} has the model in several forms; name one of them:{}",
                forms.collect::<String>()
            );
        }
    };
    println!(
        "{} at {:.12}: {}, licence {}",
        model.name,
        model.commit,
        size(files.iter().map(|file| file.bytes).sum()),
        model.licence.as_deref().unwrap_or("not stated")
    );
    if arguments.dry_run {
        for file in files {
            println!("  {}  {}", file.path, size(file.bytes));
        }
        return Ok(());
    }
    let folder = beside(output, &model.commit)?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for file in files {
        hub.fetch(name, file, &folder)?;
    }
    let (input, source_sha256) = match &files[..] {
        [file] => (folder.join(own_name(file)), file.sha256.clone()),
        _ => (folder.clone(), None),
    };
    let options = Options {
        quantisation: arguments.quant.map(Into::into),
        name: Some(model.name.clone()),
        licence: model.licence.clone(),
        source: Some(format!("{}/tree/{}", model.page, model.commit)),
        source_sha256,
    };
    make(&input, output, &options, arguments.json)?;
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())
}

/// Where files of that version wait until all of them are there.
fn beside(output: &Path, commit: &str) -> Result<PathBuf> {
    let name = output
        .file_name()
        .with_context(|| format!("{} has no name", output.display()))?;
    let waiting = format!(".{}.{commit:.12}.fetched", name.to_string_lossy());
    Ok(output.with_file_name(waiting))
}

fn own_name(file: &HubFile) -> &str {
    file.path.rsplit('/').next().unwrap_or(&file.path)
}

struct Hub {
    address: String,
    agent: Agent,
}

impl Hub {
    fn look_up(&self, name: &HubName) -> Result<HubModel> {
        let mut answer = self.ask(name, &name.listing(&self.address), 0)?;
        let listing = answer.body_mut().with_config();
        let listing = listing.limit(MAX_LISTING_BYTES as u64 + 1).read_to_vec()?;
        Ok(name.model(&self.address, &listing)?)
    }

    /// The answer of that address, from byte `from` on.
    fn ask(&self, name: &HubName, address: &str, from: u64) -> Result<Response<Body>> {
        let mut request = self.agent.get(address);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let answer = request.call().with_context(|| {
            format!(
                "{} could not be reached; check the connection",
                self.address
            )
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let header = |name| answer.headers().get(name)?.to_str().ok();
        let after = header("Retry-After").and_then(|seconds| seconds.parse().ok());
        let (status, code) = (answer.status().as_u16(), header("X-Error-Code"));
        Err(name.refusal(&self.address, status, code, after).into())
    }

    /// Fetches what is missing of a file, and checks all of it.
    fn fetch(&self, name: &HubName, file: &HubFile, folder: &Path) -> Result<()> {
        let whole = folder.join(own_name(file));
        if whole.is_file() {
            return Ok(());
        }
        if file.sha256.is_none() && file.bytes > MOST_UNCHECKED_BYTES {
            bail!(
                "the hub lists no hash for {}, so that it cannot be checked; download it yourself and use `trimtab convert`",
                file.path
            );
        }
        let part = folder.join(format!("{}.part", own_name(file)));
        let there = fs::metadata(&part).map_or(0, |metadata| metadata.len());
        if there < file.bytes || there == 0 {
            self.append(name, file, &part, there)?;
        }
        let (bytes, sha256) = hash_file(&part).with_context(|| part.display().to_string())?;
        if bytes < file.bytes {
            bail!(
                "the connection ended after {} of {} of {}; {AGAIN}",
                size(bytes),
                size(file.bytes),
                file.path
            );
        }
        if bytes > file.bytes || file.sha256.as_ref().is_some_and(|told| *told != sha256) {
            fs::remove_file(&part).with_context(|| part.display().to_string())?;
            bail!(
                "{} did not arrive as the hub lists it and was thrown away; run the command again",
                file.path
            );
        }
        fs::rename(&part, &whole).with_context(|| whole.display().to_string())
    }

    fn append(&self, name: &HubName, file: &HubFile, part: &Path, there: u64) -> Result<()> {
        let mut answer = self.ask(name, &file.address, there)?;
        // A server that knows no ranges sends all of it.
        let goes_on = answer.status() == 206;
        let mut done = if goes_on { there } else { 0 };
        let mut to = OpenOptions::new()
            .create(true)
            .write(true)
            .append(goes_on)
            .truncate(!goes_on)
            .open(part)
            .with_context(|| part.display().to_string())?;
        let mut from = answer.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = from
                .read(&mut buffer)
                .with_context(|| format!("{} came only in part; {AGAIN}", file.path))?;
            if read == 0 {
                progress::finish();
                return Ok(());
            }
            write_whole(&mut to, &buffer[..read], part)?;
            done += read as u64;
            if done > file.bytes {
                // Told by the check of the whole file.
                return Ok(());
            }
            let share = 100.0 * done as f64 / file.bytes.max(1) as f64;
            progress::show(&format!("fetching {}: {share:.0} %", file.path));
        }
    }
}

fn write_whole(to: &mut File, bytes: &[u8], path: &Path) -> Result<()> {
    to.write_all(bytes)
        .with_context(|| format!("{}; {AGAIN} when there is room", path.display()))
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
