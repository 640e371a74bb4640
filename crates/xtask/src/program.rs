//! The project's own programs, run as a person runs them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// How `trimtab` and `trimtab-server` are come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// Built first, unless nothing changed.
    Fresh,
    /// As the tests' build left them.
    AsBuilt,
}

/// The program `trimtab`, built first.
pub fn trimtab(root: &Path) -> Command {
    let mut command = process::cargo(root);
    command.args(["run", "--release", "--bin", "trimtab", "--"]);
    command
}

impl Programs {
    pub fn trimtab(self, root: &Path) -> Command {
        match self {
            Self::Fresh => trimtab(root),
            Self::AsBuilt => process::command(built(root, "trimtab"), root),
        }
    }

    /// The server of the page and the models of `checkout`, which may be another one.
    fn server(self, root: &Path, checkout: &Path) -> Result<Command> {
        if self == Self::Fresh {
            process::run(process::cargo(root).args([
                "build",
                "--release",
                "--bin",
                "trimtab-server",
            ]))?;
        }
        let mut command = process::command(built(root, "trimtab-server"), root);
        command
            .arg(checkout.join("web/dist"))
            .arg("--folder")
            .arg(format!("/models={}", checkout.join("models").display()));
        Ok(command)
    }

    /// Serves the built page and the models until Ctrl-C; `port` 0 takes any free one.
    pub fn serve_until_interrupted(self, root: &Path, port: u16) -> Result<()> {
        let mut server = self.server(root, root)?;
        process::run(server.args(["--port", &port.to_string()]))
    }

    /// Serves them for as long as what is returned lives.
    pub fn serve(self, root: &Path) -> Result<Serving> {
        Serving::start(self.server(root, root)?)
    }

    /// Those of `checkout` for timing: `folders` (path, folder) too, and no cross-origin isolation, so that every runtime has one thread.
    pub fn serve_for_timing(
        self,
        root: &Path,
        checkout: &Path,
        folders: &[(&str, PathBuf)],
    ) -> Result<Serving> {
        let mut server = self.server(root, checkout)?;
        server.arg("--not-isolated");
        for (path, folder) in folders {
            server
                .arg("--folder")
                .arg(format!("{path}={}", folder.display()));
        }
        Serving::start(server)
    }
}

fn built(root: &Path, name: &str) -> PathBuf {
    root.join("target/release")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// A server in a process of its own, which ends when this is dropped.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    fn start(mut server: Command) -> Result<Self> {
        let line = process::announce(server.args(["--port", "0"]));
        let mut child = server
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("`{line}` could not be started"))?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        let address = said.split("http://").nth(1).map(str::trim);
        let address = address.and_then(|address| {
            let end = address.find([' ', '/']).unwrap_or(address.len());
            address[..end].parse().ok()
        });
        match address {
            Some(address) => Ok(Self { child, address }),
            None => {
                // What it said on standard error is already on the terminal.
                let _ = child.kill();
                let status = child.wait()?;
                bail!("`{line}` named no address ({status})")
            }
        }
    }
}

impl Serving {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has nothing to finish, and may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
