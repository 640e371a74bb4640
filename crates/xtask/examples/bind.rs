use wasm_bindgen_cli_support::Bindgen;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut b = Bindgen::new();
    b.input_path(&args[1])
        .web(true)
        .unwrap()
        .typescript(true)
        .omit_default_module_path(false);
    b.generate(&args[2]).unwrap();
}
