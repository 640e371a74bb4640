//! A dataset's rows as training examples: the conversation as the chat template has it, and which of its tokens the model is to learn.

use crate::conversation::ChatText;
use crate::dataset::Conversation;
use trimtab_checkpoint::{ChatError, Part};
use trimtab_engine::TokenId;
use trimtab_engine::train::Example;

/// The row as an example. What the assistant says is learnt, and with it the token that ends each turn, so that the model goes on
/// stopping; everything else is read.
///
/// # Errors
/// A template that refuses the conversation, and models without one.
pub fn example(
    chat: &ChatText,
    end_tokens: &[TokenId],
    row: &Conversation,
) -> Result<Example, ChatError> {
    chat.template.check_answers()?;
    let whole = chat
        .template
        .encode(&chat.tokenizer, &row.messages, false)?;
    let said = |part: &Part| match part {
        Part::Message(index) => row
            .messages
            .get(*index)
            .is_some_and(|message| message.role == "assistant"),
        Part::Template => false,
    };
    let mut response: Vec<bool> = whole.parts.iter().map(said).collect();
    let tokens: Vec<TokenId> = whole.ids.into_iter().map(TokenId).collect();
    for at in 1..tokens.len() {
        // Some templates put a blank between what is said and the token that ends it.
        let blank = |at: &usize| chat.decode(&tokens[*at..=*at]).trim().is_empty();
        if response[at] || !end_tokens.contains(&tokens[at]) {
            continue;
        }
        let is_template = |at: &usize| !response[*at] && !end_tokens.contains(&tokens[*at]);
        let blanks = (0..at).rev().take_while(|at| is_template(at) && blank(at));
        let first = at - blanks.count();
        if first > 0 && response[first - 1] {
            response[first..=at].fill(true);
        }
    }
    // What a template writes behind the last turn says nothing.
    let end = response.iter().rposition(|own| *own).map_or(0, |at| at + 1);
    Ok(Example {
        tokens: tokens[..end].to_vec(),
        response: response[..end].to_vec(),
    })
}

/// Whether a row is held out of training where `share` of all are: the same rows whatever the order of training.
pub fn is_held_out(row: usize, share: f64) -> bool {
    // By a low-discrepancy sequence: of any stretch of rows about the same share.
    let golden = 0.618_033_988_749_895;
    let place = (row as f64 * golden).fract();
    place < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_rows_are_spread_evenly() {
        let held: Vec<usize> = (0..200).filter(|&row| is_held_out(row, 0.1)).collect();
        assert_eq!(held.len(), 20);
        assert!(held.windows(2).all(|pair| pair[1] - pair[0] < 20));
        assert!(!(0..50).any(|row| is_held_out(row, 0.0)));
    }
}
