//! What the other runtimes read, made from the very checkpoint that ours is made from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest::Stamp;
use crate::{model, process};

/// Files and Python packages of the peers, all below `target/bench`.
#[derive(Debug, Clone)]
pub struct PeerFiles {
    pub gguf: PathBuf,
    python: &'static str,
    packages: PathBuf,
}

/// Makes what is not there yet: installs the packages (llama.cpp is compiled, which takes minutes),
/// takes the GGUF file out of its wheel, writes it again with Q8_0 matrices and as ONNX in f32.
pub fn ensure(root: &Path, folder: &Path) -> Result<PeerFiles> {
    let files = folder.join("files");
    fs::create_dir_all(&files).with_context(|| format!("{} cannot be made", files.display()))?;
    let peers = PeerFiles {
        gguf: files.join("q4_1.gguf"),
        python: model::python_with_pip(root)?,
        packages: folder.join("python"),
    };
    peers.install(root)?;
    if !peers.gguf.is_file() {
        fs::rename(model::ensure_gguf(root)?, &peers.gguf)?;
    }
    peers.write(root, "q8_0_file.py", &files.join("q8_0.gguf"))?;
    peers.write(root, "onnx_file.py", &files.join("f32.onnx"))?;
    Ok(peers)
}

impl PeerFiles {
    /// A script of `tests/bench` with the packages at hand.
    pub fn script(&self, root: &Path, name: &str) -> std::process::Command {
        let mut command = process::command(self.python, &root.join("tests/bench"));
        command.env("PYTHONPATH", &self.packages).arg(name);
        command
    }

    fn install(&self, root: &Path) -> Result<()> {
        let requirements = root.join("tests/bench/requirements.txt");
        let stamp = Stamp::new(
            self.packages.with_extension("installed"),
            "1",
            &[&requirements],
        )?;
        if stamp.current() {
            return Ok(());
        }
        let mut pip = process::command(self.python, root);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
            .args(["--upgrade", "--target"])
            .arg(&self.packages)
            .arg("--requirement")
            .arg(&requirements)
            // Every instruction that this processor has, as for our own program.
            .env("CMAKE_ARGS", "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF");
        process::run(&mut pip)?;
        stamp.write()
    }

    fn write(&self, root: &Path, script: &str, out: &Path) -> Result<()> {
        let source = root.join("tests/bench").join(script);
        let stamp = Stamp::new(out.with_extension("made"), "1", &[&source])?;
        if stamp.current() && out.is_file() {
            return Ok(());
        }
        process::run(self.script(root, script).arg(&self.gguf).arg(out))?;
        stamp.write()
    }
}
