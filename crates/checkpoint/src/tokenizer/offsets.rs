//! What a `post_processor` changes where nothing is added to a text: whether blanks belong to their tokens.

use super::component::Component;
use serde_json::Value;
use tokenizers::Encoding;
use tokenizers::pre_tokenizers::byte_level::process_offsets;

/// For each time that offsets are trimmed, whether a first blank was not in the text.
pub(super) struct Trimming(Vec<bool>);

impl Trimming {
    /// # Errors
    /// Names what only the program knows.
    pub fn new(post_processor: &Value) -> Result<Self, String> {
        let mut trimmings = Vec::new();
        for component in Component::list("post_processor", post_processor, "processors")? {
            match component.kind {
                "ByteLevel" | "RobertaProcessing" => {
                    if component.flag("trim_offsets")? {
                        trimmings.push(component.flag("add_prefix_space")?);
                    }
                }
                // These add special tokens, and a chat template does that here.
                "TemplateProcessing" | "BertProcessing" => {}
                _ => return Err(component.unknown()),
            }
        }
        Ok(Self(trimmings))
    }

    pub fn apply(&self, encoding: &mut Encoding) {
        for &add_prefix_space in &self.0 {
            process_offsets(encoding, add_prefix_space);
        }
    }
}
