//! `crates/wasm` as the page's worker imports it: compiled, given its JavaScript glue, optimised.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use wasm_bindgen_cli_support::Bindgen;

use crate::digest::Stamp;
use crate::ordering;
use crate::process;
use crate::toolchain::{Memory, WasmToolchain};

const PACKAGE: &str = "trimtab-wasm";
const NAME: &str = "trimtab_wasm";
const PROFILE: &str = "web";

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

/// A module of the page, in a folder of `web/src/generated/`. A browser refuses a module with instructions that it
/// does not know, so that there is one without relaxed SIMD and one with it; and one more whose memory workers share, for
/// pages that are isolated from other origins.
struct Module {
    folder: &'static str,
    memory: Memory,
    cargo_features: &'static [&'static str],
    features: &'static [&'static str],
}

const MODULES: &[Module] = &[
    Module {
        folder: "simd",
        memory: Memory::Own,
        cargo_features: &[],
        features: &[],
    },
    Module {
        folder: "relaxed_simd",
        memory: Memory::Own,
        cargo_features: &["--features", "relaxed-simd"],
        features: &["--enable-relaxed-simd"],
    },
    Module {
        folder: "threads",
        memory: Memory::Shared,
        cargo_features: &["--features", "relaxed-simd,threads"],
        features: &["--enable-relaxed-simd", "--enable-threads"],
    },
];

/// Builds `web/src/generated/`; needs the page's node packages for wasm-opt.
pub fn build(root: &Path) -> Result<()> {
    MODULES.iter().try_for_each(|module| module.build(root))
}

impl Module {
    fn build(&self, root: &Path) -> Result<()> {
        let generated = root.join("web/src/generated").join(self.folder);
        let toolchain = WasmToolchain::ensure(root)?;
        if self.memory == Memory::Shared
            && let Err(missing) = toolchain.ensure_shared_memory(root)
        {
            eprintln!(
                "The page is built without threads: {missing} cannot be had here. On every server it computes on one thread."
            );
            if generated.exists() {
                fs::remove_dir_all(&generated)
                    .with_context(|| format!("{} cannot be removed", generated.display()))?;
            }
            return Ok(());
        }
        let mut cargo = toolchain.cargo(root, "build", self.memory)?;
        cargo.args(["--package", PACKAGE, "--profile", PROFILE]);
        process::run(cargo.args(self.cargo_features))?;
        let compiled =
            WasmToolchain::output(root, PROFILE, self.memory).join(format!("{NAME}.wasm"));

        fs::create_dir_all(&generated)
            .with_context(|| format!("{} cannot be made", generated.display()))?;
        let glue = generated.join(format!("{NAME}.js"));
        let features = self.features;
        let version = format!("4 {OPTIMISATION} {FEATURES:?} {features:?}");
        let lock = root.join("web/package-lock.json");
        let stamp = Stamp::new(generated.join(".inputs"), &version, &[&compiled, &lock])?;
        if stamp.current() && glue.is_file() {
            return Ok(());
        }
        bind(&compiled, &generated, Names::Dropped)?;
        optimise(root, &module_in(&generated), features, Names::Dropped)?;
        reorder(root, &module_in(&generated), features)?;
        stamp.write()
    }
}

/// The module with relaxed SIMD as the page has it, with its functions' names, in `folder`; [`build`], whose last
/// module with memory of its own it is, comes before.
pub fn with_names(root: &Path, folder: &Path) -> Result<PathBuf> {
    let features = &["--enable-relaxed-simd"];
    let compiled = WasmToolchain::output(root, PROFILE, Memory::Own).join(format!("{NAME}.wasm"));
    let module = module_in(folder);
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let version = format!("3 {OPTIMISATION} {FEATURES:?} {features:?}");
    let lock = root.join("web/package-lock.json");
    let stamp = Stamp::new(folder.join(".inputs"), &version, &[&compiled, &lock])?;
    if !stamp.current() || !module.is_file() {
        bind(&compiled, folder, Names::Kept)?;
        optimise(root, &module, features, Names::Kept)?;
        stamp.write()?;
    }
    Ok(module)
}

/// Of functions, for whoever measures the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Kept,
    Dropped,
}

fn module_in(folder: &Path) -> PathBuf {
    folder.join(format!("{NAME}_bg.wasm"))
}

/// Clippy on the target itself, where `cfg(target_family = "wasm")` code is seen.
pub fn lint(root: &Path) -> Result<()> {
    let toolchain = WasmToolchain::ensure(root)?;
    let mut clippy = toolchain.cargo(root, "clippy", Memory::Own)?;
    process::run(clippy.args([
        "--package",
        PACKAGE,
        "--profile",
        PROFILE,
        // Only what threads add to the code; without shared memory they are never started.
        "--features",
        "threads",
        "--",
        "--deny",
        "warnings",
    ]))
}

fn bind(compiled: &Path, generated: &Path, names: Names) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(compiled)
        .web(true)
        .map_err(|error| anyhow!("wasm-bindgen: {error}"))?
        .typescript(true)
        .remove_name_section(names == Names::Dropped)
        // Whoever measures the module reads the compiler's own names.
        .demangle(names == Names::Dropped)
        .remove_producers_section(true)
        // The glue finds the module beside itself, and the bundler sees the file it names.
        .omit_default_module_path(false);
    bindgen.generate(generated).map_err(|error| {
        anyhow!(
            "wasm-bindgen could not make the glue of {}: {error}",
            compiled.display()
        )
    })
}

fn optimise(root: &Path, module: &Path, features: &[&str], names: Names) -> Result<()> {
    let before = size(module)?;
    let mut command = wasm_opt(root, module, features);
    command.arg(OPTIMISATION);
    if names == Names::Kept {
        command.arg("--debuginfo");
    }
    process::run(&mut command)?;
    eprintln!("{NAME}: {before} bytes, {} after wasm-opt", size(module)?);
    Ok(())
}

/// For whoever compresses the module; see [`ordering`].
fn reorder(root: &Path, module: &Path, features: &[&str]) -> Result<()> {
    let bytes = fs::read(module).with_context(|| format!("{} is missing", module.display()))?;
    let named = ordering::with_ordinals(&bytes)?;
    fs::write(module, named).with_context(|| format!("{} cannot be written", module.display()))?;
    let mut command = wasm_opt(root, module, features);
    process::run(command.args(["--reorder-functions-by-name", "--strip-debug"]))
}

/// wasm-opt from `module` to `module`, but for what it is to do.
fn wasm_opt(root: &Path, module: &Path, features: &[&str]) -> Command {
    let web = root.join("web");
    let mut command = process::command("node", &web);
    command
        .arg(web.join("node_modules/binaryen/bin/wasm-opt"))
        .args(FEATURES)
        .args(features)
        .arg(module)
        .arg("-o")
        .arg(module);
    command
}

fn size(file: &Path) -> Result<u64> {
    let metadata = fs::metadata(file).with_context(|| format!("{} is missing", file.display()))?;
    Ok(metadata.len())
}
