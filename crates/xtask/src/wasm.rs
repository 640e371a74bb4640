//! `crates/wasm` as the page's worker imports it: compiled, given its JavaScript glue, optimised.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use wasm_bindgen_cli_support::Bindgen;

use crate::digest::Stamp;
use crate::process;
use crate::toolchain::WasmToolchain;

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
const OPTIMISATION: &str = "-O3";

/// Builds `web/src/generated/`; needs the page's node packages for wasm-opt.
pub fn build(root: &Path) -> Result<()> {
    let toolchain = WasmToolchain::ensure(root)?;
    let mut cargo = toolchain.cargo(root, "build")?;
    process::run(cargo.args(["--package", PACKAGE, "--profile", PROFILE]))?;
    let compiled = WasmToolchain::output(root, PROFILE).join(format!("{NAME}.wasm"));

    let generated = root.join("web/src/generated");
    fs::create_dir_all(&generated)
        .with_context(|| format!("{} cannot be made", generated.display()))?;
    let glue = generated.join(format!("{NAME}.js"));
    let version = format!("2 {OPTIMISATION} {FEATURES:?}");
    let lock = root.join("web/package-lock.json");
    let stamp = Stamp::new(generated.join(".inputs"), &version, &[&compiled, &lock])?;
    if stamp.current() && glue.is_file() {
        return Ok(());
    }
    bind(&compiled, &generated)?;
    optimise(root, &generated.join(format!("{NAME}_bg.wasm")))?;
    stamp.write()
}

/// Clippy on the target itself, where `cfg(target_family = "wasm")` code is seen.
pub fn lint(root: &Path) -> Result<()> {
    let toolchain = WasmToolchain::ensure(root)?;
    let mut clippy = toolchain.cargo(root, "clippy")?;
    process::run(clippy.args([
        "--package",
        PACKAGE,
        "--profile",
        PROFILE,
        "--",
        "--deny",
        "warnings",
    ]))
}

fn bind(compiled: &Path, generated: &Path) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(compiled)
        .web(true)
        .map_err(|error| anyhow!("wasm-bindgen: {error}"))?
        .typescript(true)
        .remove_name_section(true)
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

fn optimise(root: &Path, module: &Path) -> Result<()> {
    let before = size(module)?;
    let web = root.join("web");
    let program: PathBuf = web.join("node_modules/binaryen/bin/wasm-opt");
    let mut command = process::command("node", &web);
    command
        .arg(program)
        .arg(OPTIMISATION)
        .args(FEATURES)
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
