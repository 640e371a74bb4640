//! A Rust toolchain that can build for wasm32-unknown-unknown: rustup's, or else Debian's.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::system;

const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's toolchain for building browsers is current and has the standard library's source,
/// from which `-Zbuild-std` makes the library for the target.
const DEBIAN_PACKAGES: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-clippy",
    "lld-22",
];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-22";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasmToolchain {
    /// The person's own, which has the target's standard library.
    Installed,
    Debian,
}

impl WasmToolchain {
    /// Finds or installs one.
    pub fn ensure(root: &Path) -> Result<Self> {
        if target_installed(root) {
            return Ok(Self::Installed);
        }
        if debian_complete() {
            return Ok(Self::Debian);
        }
        if process::find("rustup").is_some() {
            let mut add = process::command("rustup", root);
            if process::run(add.args(["target", "add", TARGET])).is_ok() && target_installed(root) {
                return Ok(Self::Installed);
            }
            eprintln!("rustup could not add {TARGET} here; trying Debian's own toolchain");
        }
        system::apt_install(
            DEBIAN_PACKAGES,
            "building the page needs Rust's wasm32-unknown-unknown target (`rustup target add wasm32-unknown-unknown`)",
        )?;
        if !debian_complete() {
            bail!(
                "apt installed {}, but {DEBIAN_CARGO} or {DEBIAN_LINKER} is missing",
                DEBIAN_PACKAGES.join(" ")
            );
        }
        Ok(Self::Debian)
    }

    /// What building for shared memory still lacks, in words. The target's standard library knows only memory of its own, so
    /// that it is built anew from its source.
    pub fn ensure_shared_memory(self, root: &Path) -> std::result::Result<(), &'static str> {
        if self == Self::Installed && !source_installed(root) {
            let mut add = process::command("rustup", root);
            let added = process::find("rustup").is_some()
                && process::run(add.args(["component", "add", "rust-src"])).is_ok();
            if !added || !source_installed(root) {
                return Err("the standard library's source (`rustup component add rust-src`)");
            }
        }
        let fetch = self
            .cargo(root, "fetch", Memory::Shared)
            .and_then(|mut fetch| process::run(&mut fetch));
        fetch.map_err(|_| "the crates that the standard library is built from (a registry)")
    }

    /// `cargo SUBCOMMAND … --target wasm32-unknown-unknown`, in a target directory of its own.
    pub fn cargo(self, root: &Path, subcommand: &str, memory: Memory) -> Result<Command> {
        let mut command = match self {
            Self::Installed => process::cargo(root),
            Self::Debian => {
                let mut command = process::command(DEBIAN_CARGO, root);
                command.env("PATH", path_with_debian_first()?);
                command.env("RUSTC", DEBIAN_RUSTC);
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
                command
            }
        };
        command.arg(subcommand).args(["--target", TARGET]);
        if self == Self::Debian || memory == Memory::Shared {
            // Building the standard library is not a stable feature; the source is of the same version.
            command.env("RUSTC_BOOTSTRAP", "1");
            command.arg("-Zbuild-std=std,panic_abort");
        }
        if memory == Memory::Shared {
            // Added to those of `.cargo/config.toml`.
            let flags = SHARED_MEMORY.map(|flag| format!("{flag:?}")).join(",");
            command.args(["--config", &format!("target.{TARGET}.rustflags=[{flags}]")]);
        }
        if subcommand != "fetch" {
            command
                .arg("--target-dir")
                .arg(target_directory(root, memory));
        }
        Ok(command)
    }

    pub fn output(root: &Path, profile: &str, memory: Memory) -> PathBuf {
        target_directory(root, memory).join(TARGET).join(profile)
    }
}

/// Of a module: its own, or one that several workers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Own,
    Shared,
}

/// The exports are what wasm-bindgen starts a thread with.
const SHARED_MEMORY: [&str; 8] = [
    "-Ctarget-feature=+atomics,+bulk-memory",
    "-Clink-arg=--shared-memory",
    "-Clink-arg=--import-memory",
    "-Clink-arg=--max-memory=4294967296",
    "-Clink-arg=--export=__wasm_init_tls",
    "-Clink-arg=--export=__tls_size",
    "-Clink-arg=--export=__tls_align",
    "-Clink-arg=--export=__tls_base",
];

/// Apart from the native one, and one for each way to build: compilers would throw away each other's work.
fn target_directory(root: &Path, memory: Memory) -> PathBuf {
    root.join(match memory {
        Memory::Own => "target/wasm",
        Memory::Shared => "target/wasm-shared-memory",
    })
}

fn source_installed(root: &Path) -> bool {
    let mut question = process::command("rustc", root);
    process::answer(question.args(["--print", "sysroot"]))
        .is_some_and(|sysroot| source_in(&sysroot))
}

fn source_in(sysroot: &str) -> bool {
    let std = "lib/rustlib/src/rust/library/std/Cargo.toml";
    Path::new(sysroot).join(std).exists()
}

fn target_installed(root: &Path) -> bool {
    let mut question = process::command("rustc", root);
    let Some(folder) =
        process::answer(question.args(["--print", "target-libdir", "--target", TARGET]))
    else {
        return false;
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries
        .filter_map(Result::ok)
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

fn debian_complete() -> bool {
    let files = [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_CLIPPY, DEBIAN_LINKER];
    if !files.iter().all(|file| Path::new(file).exists()) {
        return false;
    }
    let mut question = process::command(DEBIAN_RUSTC, Path::new("/"));
    process::answer(question.args(["--print", "sysroot"]))
        .is_some_and(|sysroot| source_in(&sysroot))
}

fn path_with_debian_first() -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").context("PATH is not set")?;
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(env::split_paths(&path));
    env::join_paths(folders).context("PATH has a folder with a separator in its name")
}
