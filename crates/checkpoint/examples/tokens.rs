//! Tokens of a conversation, or the text of tokens, for whoever compares runtimes: reads
//! `{"model": DIRECTORY, "messages": […]}` and prints `{"text", "ids", "end_tokens"}`, or reads `{"model", "ids": […]}` and prints
//! `{"text"}`.

use serde::Deserialize;
use serde_json::json;
use std::error::Error;
use std::path::PathBuf;
use trimtab_checkpoint::{ChatTemplate, Message, ModelConfig, Tokenizer, manifest};

#[derive(Deserialize)]
struct Request {
    model: PathBuf,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    ids: Vec<u32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let request: Request = serde_json::from_reader(std::io::stdin())?;
    let file = |name: &str| std::fs::read(request.model.join(name));
    let tokenizer = Tokenizer::from_json(&file(manifest::TOKENIZER)?)?;
    if request.messages.is_empty() {
        println!("{}", json!({"text": tokenizer.decode(&request.ids)}));
        return Ok(());
    }
    let template = ChatTemplate::from_files(Some(&file(manifest::CHAT_TEMPLATE)?), None)?;
    let rendered = template.encode(&tokenizer, &request.messages, true)?;
    let config = ModelConfig::from_json(&file(manifest::CONFIG)?)?;
    println!(
        "{}",
        json!({"text": rendered.text, "ids": rendered.ids, "end_tokens": config.end_tokens})
    );
    Ok(())
}
