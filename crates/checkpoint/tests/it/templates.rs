//! Chat templates of published kinds, with texts as transformers 5.23 renders them.

use serde_json::{Value, json};
use trimtab_checkpoint::{ChatTemplate, ChatTokens, Message, ModelConfig, Part, Tokenizer};

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

#[test]
fn a_model_that_can_think_before_it_answers_does_not() {
    let template = template(
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% else %}<think>{% endif %}",
    );
    assert_eq!(template.render(&[], true).unwrap(), "<think>\n\n</think>");
}

/// The text that each message's tokens stand for, `None` the template's.
fn written_by(encoded: &ChatTokens, tokenizer: &Tokenizer, part: Part) -> String {
    let own = encoded.ids.iter().zip(&encoded.parts);
    let own: Vec<u32> = own
        .filter(|(_, of)| **of == part)
        .map(|(id, _)| *id)
        .collect();
    tokenizer.decode(&own)
}

/// One refuses a system message, the other says nothing of it to the model.
#[test]
fn a_system_prompt_without_a_place_opens_the_first_turn() {
    let refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}\
{% for message in messages %}[{{ message.role }}] {{ message.content | trim }}<|end|>{% endfor %}";
    let silent = "{% for message in messages %}{% if message.role != 'system' %}[{{ message.role }}] {{ message.content | trim }}<|end|>{% endif %}{% endfor %}";
    for source in [refusing, silent] {
        let (template, tokenizer) = (template(source), tokenizer(&[]));
        assert!(template.notice().unwrap().contains("system prompt"));
        let messages = conversation(&[
            ("system", " Be brief "),
            ("user", "What is rain?"),
            ("assistant", "Water."),
        ]);
        let encoded = template.encode(&tokenizer, &messages, true).unwrap();
        let text = "[user] Be brief\n\nWhat is rain?<|end|>[assistant] Water.<|end|>";
        assert_eq!(encoded.text, text);
        let of = |index| written_by(&encoded, &tokenizer, Part::Message(index));
        assert_eq!(of(0).trim(), "Be brief");
        assert_eq!(of(1).trim(), "What is rain?");
        assert_eq!(of(2).trim(), "Water.");

        let alone = conversation(&[("system", "Be brief.")]);
        assert_eq!(
            template.render(&alone, true).unwrap(),
            "[user] Be brief.<|end|>"
        );
        let empty = conversation(&[("system", ""), ("user", "Hi")]);
        assert_eq!(template.render(&empty, true).unwrap(), "[user] Hi<|end|>");
    }
    let with_a_place = template("{% for message in messages %}{{ message.content }}{% endfor %}");
    assert_eq!(with_a_place.notice(), None);
}

#[test]
fn a_model_without_a_template_continues_a_text() {
    let file = include_str!("../tokenizers/llama_3_style.json");
    let opening = Tokenizer::from_json(file.as_bytes()).unwrap();
    let mut file: Value = serde_json::from_str(file).unwrap();
    file["post_processor"] = Value::Null;
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
    let made = |settings: Value, tokenizer: &Tokenizer| {
        let settings = settings.to_string();
        ChatTemplate::of_model(None, Some(settings.as_bytes()), tokenizer).unwrap()
    };
    let of = |settings| made(settings, &tokenizer);
    let messages = conversation(&[
        ("user", "Once upon"),
        ("assistant", " a time"),
        ("user", ", far"),
    ]);
    let plain = of(json!({"eos_token": "<|end|>"}));
    assert_eq!(
        plain.render(&messages, true).unwrap(),
        "Once upon a time, far"
    );
    let opened = of(json!({"bos_token": "<|begin|>", "add_bos_token": true}));
    let by_its_tokenizer = made(json!({}), &opening);
    let text = by_its_tokenizer.render(&messages, true).unwrap();
    assert_eq!(text, "<|begin|>Once upon a time, far");
    let encoded = opened.encode(&tokenizer, &messages, true).unwrap();
    assert_eq!(encoded.text, "<|begin|>Once upon a time, far");
    assert_eq!(encoded.parts[0], Part::Template);
    assert!(plain.notice().unwrap().contains("continues"));
    let refused = plain.check_answers().unwrap_err().to_string();
    assert!(refused.contains("no chat template"), "{refused}");
    assert_eq!(template("").check_answers().ok(), Some(()));
}
