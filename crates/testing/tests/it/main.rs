//! The folder that a browser's tests are given holds a model that chats.

use pollster::block_on;
use std::path::Path;
use std::process::Command;
use trimtab_checkpoint::{FileSource, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::{Backend, Engine, EngineOptions, Precision};
use trimtab_testing::chat_model;

#[test]
fn the_random_model_is_a_whole_directory() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("small-models");
    let program = Command::new(env!("CARGO_BIN_EXE_small-model"))
        .arg(&folder)
        .status();
    assert!(program.unwrap().success());
    let model = folder.join(chat_model::ID);
    let file = |name: &str| std::fs::read(model.join(name)).unwrap();
    let config = ModelConfig::from_json(&file("config.json")).unwrap();
    let source = FileSource::open(&model.join("model.safetensors")).unwrap();
    let options = EngineOptions {
        backend: Backend::Cpu,
        precision: Precision::Exact,
        context: Some(64),
        sequences: 1,
    };
    let engine = block_on(async {
        let weights = WeightFile::open(source).await.unwrap();
        Engine::load(&config, &weights, options, &mut |_| ()).await
    });
    assert_eq!(engine.unwrap().layer_rows(), chat_model::BLOCKS + 1);
    let tokenizer = Tokenizer::from_json(&file("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.token_id("<|im_start|>"), Some(1));
    assert!(folder.join("catalog.json").is_file());
}
