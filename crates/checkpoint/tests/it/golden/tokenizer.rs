//! Token ids against the Python package `tokenizers` (tests/golden/tokenizer.py).

use super::default_model::{golden, model_file};
use serde::Deserialize;
use trimtab_checkpoint::{ChatTemplate, Message, Part, Tokenizer};

#[derive(Deserialize)]
struct Golden {
    texts: Vec<Text>,
    chats: Vec<Chat>,
    lookalikes: Vec<Chat>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    answer_next: bool,
    rendered: Option<String>,
    ids: Vec<u32>,
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(&model_file("tokenizer.json")).unwrap()
}

fn template() -> ChatTemplate {
    ChatTemplate::from_files(
        Some(&model_file("chat_template.jinja")),
        Some(&model_file("tokenizer_config.json")),
    )
    .unwrap()
}

fn tokens_golden() -> Golden {
    serde_json::from_slice(&golden("tokenizer.json")).unwrap()
}

#[test]
fn ordinary_text_has_the_reference_ids() {
    let (tokenizer, golden) = (tokenizer(), tokens_golden());
    assert!(golden.texts.len() > 30);
    for Text { text, ids } in &golden.texts {
        assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text:?}");
        assert!(ids.iter().all(|&id| !tokenizer.is_special(id)), "{text:?}");
    }
}

#[test]
fn decoding_gives_the_text_back_and_so_do_the_pieces() {
    let (tokenizer, golden) = (tokenizer(), tokens_golden());
    for Text { text, ids } in &golden.texts {
        assert_eq!(&tokenizer.decode(ids), text);
        assert_eq!(&tokenizer.pieces(ids).concat(), text);
    }
}

#[test]
fn a_character_stands_with_the_token_that_completes_it() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("🧑🏿‍🚀").unwrap();
    let pieces = tokenizer.pieces(&ids);
    assert!(
        ids.len() > 4 && pieces.iter().any(String::is_empty),
        "{pieces:?}"
    );
    assert!(
        pieces.iter().all(|piece| !piece.contains('\u{fffd}')),
        "{pieces:?}"
    );
    // Cut in the middle of a character: what is whole comes, the rest waits.
    assert_eq!(tokenizer.pieces(&ids[..1]).concat(), "");
    // Bytes that can be no character are shown as such, and what follows is not lost.
    let broken = [ids[0], tokenizer.encode("a").unwrap()[0]];
    assert_eq!(
        tokenizer.pieces(&broken).concat(),
        tokenizer.decode(&broken)
    );
    assert!(tokenizer.decode(&broken).ends_with("\u{fffd}a"));
}

#[test]
fn chats_render_as_with_jinja_and_have_the_ids_of_the_rendered_whole() {
    let (tokenizer, template, golden) = (tokenizer(), template(), tokens_golden());
    assert!(golden.chats.len() > 10);
    for chat in &golden.chats {
        let rendered = chat.rendered.as_ref().unwrap();
        assert_eq!(
            &template.render(&chat.messages, chat.answer_next).unwrap(),
            rendered
        );
        assert_eq!(
            &tokenizer.encode_with_special(rendered).unwrap(),
            &chat.ids,
            "{rendered:?}"
        );
        let tokens = template
            .encode(&tokenizer, &chat.messages, chat.answer_next)
            .unwrap();
        assert_eq!(tokens.ids, chat.ids, "{rendered:?}");
        assert_eq!(&tokens.text, rendered);
    }
}

#[test]
fn special_tokens_in_a_message_are_ordinary_text() {
    let (tokenizer, template, golden) = (tokenizer(), template(), tokens_golden());
    assert!(!golden.lookalikes.is_empty());
    for chat in &golden.lookalikes {
        let tokens = template
            .encode(&tokenizer, &chat.messages, chat.answer_next)
            .unwrap();
        assert_eq!(tokens.ids, chat.ids, "{:?}", chat.messages);
        assert_eq!(
            tokens.text,
            template.render(&chat.messages, chat.answer_next).unwrap()
        );
        for (id, part) in tokens.ids.iter().zip(&tokens.parts) {
            assert!(!tokenizer.is_special(*id) || *part == Part::Template);
        }
    }
}

#[test]
fn each_token_is_the_templates_or_a_messages() {
    let (tokenizer, template, golden) = (tokenizer(), template(), tokens_golden());
    for chat in golden.chats.iter().chain(&golden.lookalikes) {
        let tokens = template
            .encode(&tokenizer, &chat.messages, chat.answer_next)
            .unwrap();
        assert_eq!(tokens.ids.len(), tokens.parts.len());
        for (index, message) in chat.messages.iter().enumerate() {
            let of_message: Vec<u32> = tokens
                .ids
                .iter()
                .zip(&tokens.parts)
                .filter(|(_, part)| **part == Part::Message(index))
                .map(|(id, _)| *id)
                .collect();
            let text = tokenizer.decode(&of_message);
            // A token may join the newline before a content with its first characters, or its last
            // ones with what follows; otherwise it is exactly the content.
            assert_eq!(text.trim(), message.content.trim(), "{:?}", chat.messages);
        }
    }
    let messages = [Message {
        role: "user".into(),
        content: "user\nuser".into(),
    }];
    let tokens = template.encode(&tokenizer, &messages, true).unwrap();
    let own = tokens
        .parts
        .iter()
        .filter(|part| **part == Part::Message(0))
        .count();
    assert_eq!(own, 3);
}

#[test]
fn a_role_cannot_smuggle_in_a_special_token() {
    let message = Message {
        role: "user<|im_end|>".into(),
        content: String::new(),
    };
    let error = template()
        .encode(&tokenizer(), &[message], true)
        .unwrap_err();
    assert!(error.to_string().contains("is no role"), "{error}");
}
