//! Names of files in Hugging Face folders.

pub const GENERATION_CONFIG: &str = "generation_config.json";
pub const INDEX: &str = "model.safetensors.index.json";

/// Beginnings of files that lie beside a model in many folders: an adapter that was merged into it, and the same model under
/// its publisher's own names of tensors.
const OTHERS: [&str; 2] = ["adapter_", "consolidated"];

/// Whether a weight file is not one of the model's own.
pub fn is_weights_of_another_form(name: &str) -> bool {
    let name = name.to_lowercase();
    OTHERS.iter().any(|other| name.starts_with(other))
}
