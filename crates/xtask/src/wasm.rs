//! `crates/wasm` as the page's worker imports it: compiled, given its JavaScript glue, optimised for a release.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest::Stamp;
use crate::files::{files_below, read, remove_folder, write};
use crate::process;
use crate::toolchain::{Memory, WasmToolchain};

const PACKAGE: &str = "trimtab-wasm";
const NAME: &str = "trimtab_wasm";

/// What every browser with WebGPU can run; wasm-opt refuses instructions it was not told of.
const FEATURES: &[&str] = &[
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-multivalue",
];
/// The compiler has optimised already. What wasm-opt does beyond this makes the module a twentieth smaller and, compressed, a
/// tenth larger (inlined functions and shared locals are alike no more), and answers no faster.
const OPTIMISATION: &str = "-O1";

/// What the modules are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Visitors: all modules, made fast and small.
    Release,
    /// Tests: one module, compiled quickly, in the place of those with memory of their own.
    Test,
}

impl Build {
    /// Cargo's profile.
    fn profile(self) -> &'static str {
        match self {
            Self::Release => "web",
            Self::Test => "web-test",
        }
    }
}

/// A module of the page, in a folder of `web/src/generated/`. A browser refuses a module with instructions that it
/// does not know, so that there is one without relaxed SIMD and one with it; and one more whose memory workers share, for
/// pages that are isolated from other origins.
struct Module {
    folder: &'static str,
    memory: Memory,
    cargo_features: &'static [&'static str],
    features: &'static [&'static str],
}

const SIMD: Module = Module {
    folder: "simd",
    memory: Memory::Own,
    cargo_features: &[],
    features: &[],
};
const RELAXED_SIMD: Module = Module {
    folder: "relaxed_simd",
    memory: Memory::Own,
    cargo_features: &["--features", "relaxed-simd"],
    features: &["--enable-relaxed-simd"],
};
const THREADS: Module = Module {
    folder: "threads",
    memory: Memory::Shared,
    cargo_features: &["--features", "relaxed-simd,threads"],
    features: &["--enable-relaxed-simd", "--enable-threads"],
};

/// Builds `web/src/generated/`; needs the page's node packages for wasm-opt.
pub fn build(root: &Path, build: Build) -> Result<()> {
    let toolchain = WasmToolchain::ensure(root)?;
    if build == Build::Test {
        RELAXED_SIMD.build(root, toolchain, build)?;
        remove_folder(&THREADS.generated(root))?;
        return SIMD.copy_from(root, &RELAXED_SIMD);
    }
    SIMD.build(root, toolchain, build)?;
    RELAXED_SIMD.build(root, toolchain, build)?;
    if let Err(missing) = toolchain.ensure_shared_memory(root) {
        eprintln!(
            "The page is built without threads: {missing} cannot be had here. On every server it computes on one thread."
        );
        return remove_folder(&THREADS.generated(root));
    }
    THREADS.build(root, toolchain, build)
}

impl Module {
    fn generated(&self, root: &Path) -> PathBuf {
        root.join("web/src/generated").join(self.folder)
    }

    fn build(&self, root: &Path, toolchain: WasmToolchain, build: Build) -> Result<()> {
        let generated = self.generated(root);
        let mut cargo = toolchain.cargo(root, "build", self.memory)?;
        cargo.args(["--package", PACKAGE, "--profile", build.profile()]);
        process::run(cargo.args(self.cargo_features))?;
        let compiled =
            WasmToolchain::output(root, build.profile(), self.memory).join(format!("{NAME}.wasm"));

        fs::create_dir_all(&generated)
            .with_context(|| format!("{} cannot be made", generated.display()))?;
        let glue = generated.join(format!("{NAME}.js"));
        let features = self.features;
        let version = format!("5 {build:?} {OPTIMISATION} {FEATURES:?} {features:?}");
        let lock = root.join("web/package-lock.json");
        let stamp = Stamp::new(generated.join(".inputs"), &version, &[&compiled, &lock])?;
        if stamp.current() && glue.is_file() {
            return Ok(());
        }
        bind(root, &compiled, &generated)?;
        if build == Build::Release {
            optimise(root, &generated.join(format!("{NAME}_bg.wasm")), features)?;
        }
        stamp.write()
    }

    /// Another module's files under this one's name.
    fn copy_from(&self, root: &Path, other: &Self) -> Result<()> {
        let (from, to) = (other.generated(root), self.generated(root));
        for file in files_below(&from)? {
            let bytes = read(&from.join(&file))?;
            // A file that is the same keeps its date, so that nothing is made of it again.
            if fs::read(to.join(&file)).ok().as_ref() != Some(&bytes) {
                write(&to.join(&file), &bytes)?;
            }
        }
        Ok(())
    }
}

/// Clippy on the target itself, where `cfg(target_family = "wasm")` code is seen.
pub fn lint(root: &Path) -> Result<()> {
    let toolchain = WasmToolchain::ensure(root)?;
    let mut clippy = toolchain.cargo(root, "clippy", Memory::Own)?;
    process::run(clippy.args([
        "--package",
        PACKAGE,
        "--profile",
        Build::Test.profile(),
        // Only what threads add to the code; without shared memory they are never started.
        "--features",
        "threads",
        "--",
        "--deny",
        "warnings",
    ]))
}

/// Builds the program that makes the glue, in a folder of its own: the native build holds the other one for minutes.
pub fn ensure_bindgen(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/tools");
    let mut cargo = process::cargo(root);
    cargo
        .args(["build", "--release", "--package", "trimtab-xtask"])
        .args(["--bin", "trimtab-bindgen", "--features", "bindgen"])
        .arg("--target-dir")
        .arg(&folder);
    process::run(&mut cargo)?;
    Ok(folder
        .join("release")
        .join(format!("trimtab-bindgen{EXE_SUFFIX}")))
}

fn bind(root: &Path, compiled: &Path, generated: &Path) -> Result<()> {
    let bindgen = ensure_bindgen(root)?;
    process::run(process::command(bindgen, root).arg(compiled).arg(generated))
}

fn optimise(root: &Path, module: &Path, features: &[&str]) -> Result<()> {
    let before = size(module)?;
    let web = root.join("web");
    let mut command = process::command("node", &web);
    command
        .arg(web.join("node_modules/binaryen/bin/wasm-opt"))
        .args(FEATURES)
        .args(features)
        .arg(OPTIMISATION)
        .arg(module)
        .arg("-o")
        .arg(module);
    process::run(&mut command)?;
    eprintln!("{NAME}: {before} bytes, {} after wasm-opt", size(module)?);
    Ok(())
}

fn size(file: &Path) -> Result<u64> {
    let metadata = fs::metadata(file).with_context(|| format!("{} is missing", file.display()))?;
    Ok(metadata.len())
}
