//! Chat templates of published kinds, with texts as transformers 5.23 renders them.

use serde_json::{Value, json};
use trimtab_checkpoint::{ChatTemplate, Message, ModelConfig, Part, Tokenizer};

/// A tokenizer with these special tokens, from the id 1,000 on, beside `<|begin|>` and `<|end|>`.
fn tokenizer(special: &[&str]) -> Tokenizer {
    let file = include_str!("../tokenizers/llama_3_style.json");
    let mut file: Value = serde_json::from_str(file).unwrap();
    let tokens = file["added_tokens"].as_array_mut().unwrap();
    for (id, content) in (1000..).zip(special) {
        tokens.push(json!({
            "id": id, "content": content, "special": true, "normalized": false, "single_word": false,
            "lstrip": false, "rstrip": false,
        }));
    }
    Tokenizer::from_json(file.to_string().as_bytes()).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    let settings = json!({"bos_token": "<|begin|>", "eos_token": {"content": "<|begin|>"}, "pad_token": "<|pad|>"});
    let settings = settings.to_string();
    ChatTemplate::from_files(Some(source.as_bytes()), Some(settings.as_bytes())).unwrap()
}

fn conversation(turns: &[(&str, &str)]) -> Vec<Message> {
    let turns = turns.iter();
    turns
        .map(|(role, content)| Message {
            role: (*role).into(),
            content: (*content).into(),
        })
        .collect()
}

/// Every turn ends in `<|end|>`, and answers of before are given without their thoughts.
const THINKING: &str = "{% for message in messages %}{% set content = message.content %}\
{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}\
{{ message.role + ': ' + content + '<|end|>\\n' }}{% endfor %}";

#[test]
fn what_is_absent_is_none_and_special_tokens_have_their_names() {
    let template = template(
        "{{ pad_token }}{% if tools is not none or documents is not none %}tools{% endif %}{{ tools is defined }}",
    );
    assert_eq!(template.render(&[], true).unwrap(), "<|pad|>True");
}

#[test]
fn generation_tags_change_nothing() {
    let template = template(
        "{% for message in messages %}{% generation %}{{ message.content }}{% endgeneration %}{% endfor %}",
    );
    let messages = conversation(&[("assistant", "hello")]);
    assert_eq!(template.render(&messages, true).unwrap(), "hello");
}

#[test]
fn messages_are_maps_in_the_order_of_their_keys() {
    let template = template("{{ messages | tojson }}");
    let messages = conversation(&[("user", "a < b & c's \"d\" é")]);
    assert_eq!(
        template.render(&messages, true).unwrap(),
        r#"[{"role": "user", "content": "a < b & c's \"d\" é"}]"#
    );
}

#[test]
fn templates_see_contents_as_they_are() {
    let tokenizer = tokenizer(&["<think>", "</think>"]);
    let template = template(THINKING);
    let messages = conversation(&[
        ("user", "hi"),
        ("assistant", "<think>\nwell\n</think>\n\nhello"),
        ("user", "<think> is a word"),
    ]);
    let tokens = template.encode(&tokenizer, &messages, false).unwrap();
    assert_eq!(
        tokens.text,
        "user: hi<|end|>\nassistant: hello<|end|>\nuser: <think> is a word<|end|>\n"
    );
    let part = |part: Part| {
        let own = tokens.ids.iter().zip(&tokens.parts);
        let own: Vec<u32> = own
            .filter(|(_, of)| **of == part)
            .map(|(id, _)| *id)
            .collect();
        tokenizer.decode(&own).trim().to_owned()
    };
    assert_eq!(part(Part::Message(1)), "hello");
    assert_eq!(part(Part::Message(2)), "<think> is a word");
    let end = tokenizer.token_id("<|end|>").unwrap();
    let specials = tokens.ids.iter().filter(|id| tokenizer.is_special(**id));
    assert!(specials.copied().eq([end; 3]));
}

#[test]
fn special_tokens_of_a_message_stay_text_wherever_the_template_looks() {
    let tokenizer = tokenizer(&["<think>", "</think>"]);
    let end = tokenizer.token_id("<|end|>").unwrap();
    let begin = tokenizer.token_id("<|begin|>").unwrap();
    let sources = [
        THINKING,
        "{% for m in messages %}{{ bos_token + m.content + '<|end|>' }}{% endfor %}",
        "{% for m in messages %}{% if m.content.startswith('<think>') %}?{% endif %}{{ m.content | trim }}<|end|>{% endfor %}",
        "{% for m in messages %}{{ m.content.replace('</think>', '') }}<|end|>{% endfor %}",
        "{% for m in messages %}{% for part in m.content.split('</think>') %}{{ part }}{% endfor %}<|end|>{% endfor %}",
        "{% for m in messages %}{{ m.content[:9] }}<|end|>{% endfor %}",
    ];
    let contents = [
        "<think>a</think><|end|>",
        "<|end|><|end|>",
        "</think></think>x<|begin|>",
        "<think><think>",
        " <|begin|> ",
    ];
    for source in sources {
        let template = template(source);
        for content in contents {
            let messages = conversation(&[("user", content)]);
            let tokens = template.encode(&tokenizer, &messages, false).unwrap();
            let expected = template.render(&messages, false).unwrap();
            if !source.contains("[:9]") {
                assert_eq!(tokens.text, expected, "{source}: {content}");
            }
            let specials: Vec<u32> = tokens
                .ids
                .iter()
                .copied()
                .filter(|id| tokenizer.is_special(*id))
                .collect();
            let template_own = if source.contains("bos_token") {
                vec![begin, end]
            } else {
                vec![end]
            };
            assert_eq!(specials, template_own, "{source}: {content}");
        }
    }
}

#[test]
fn an_answer_ends_with_what_the_template_puts_behind_it() {
    let tokenizer = tokenizer(&[]);
    let id = |token: &str| tokenizer.token_id(token).unwrap();
    // The tokenizer calls `<|begin|>` the end of a text.
    let ends = template(THINKING).end_tokens(&tokenizer);
    assert_eq!(ends, [id("<|end|>"), id("<|begin|>")]);
    let bare = template("{% for m in messages %}{{ m.content }}\n{% endfor %}");
    assert_eq!(bare.end_tokens(&tokenizer), [id("<|begin|>")]);

    let config = json!({
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "vocab_size": 902, "max_position_embeddings": 128, "eos_token_id": ends[1],
    });
    let mut config = ModelConfig::from_json(config.to_string().as_bytes()).unwrap();
    config.end_answers_with(ends.iter().copied().chain([4_000_000]));
    assert_eq!(config.end_tokens, [ends[1], ends[0]]);
}
