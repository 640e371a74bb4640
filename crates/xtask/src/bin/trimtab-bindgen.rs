//! `trimtab-bindgen MODULE FOLDER`: the JavaScript glue of a compiled module, and the module as the glue wants it. A program of its
//! own, because it takes longer to compile than everything else that `cargo xtask` is.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, folder] = &arguments[..] else {
        eprintln!("usage: trimtab-bindgen MODULE FOLDER");
        return ExitCode::FAILURE;
    };
    let mut bindgen = Bindgen::new();
    let made = bindgen.input_path(module).web(true).and_then(|bindgen| {
        bindgen
            .typescript(true)
            .remove_name_section(true)
            .remove_producers_section(true)
            // The glue finds the module beside itself, and the bundler sees the file it names.
            .omit_default_module_path(false)
            .generate(folder)
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "the glue of {} could not be made: {error:#}",
                module.display()
            );
            ExitCode::FAILURE
        }
    }
}
