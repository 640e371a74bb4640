//! GPT-2's spelling of bytes as printable characters (`bytes_to_unicode` in OpenAI's encoder.py).

#[cfg(any(target_family = "wasm", test))]
use tokenizers::NormalizedString;

// Bytes that are no printable character are spelt from 0x100 on: those up to the blank, those from 0x7f to the no-break
// space, and the soft hyphen.
const UP_TO_BLANK: u32 = 0x100;
const FROM_DELETE: u32 = 0x121;
const SOFT_HYPHEN: u32 = 0x143;

#[cfg(any(target_family = "wasm", test))]
fn character(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match byte {
        0..=0x20 => UP_TO_BLANK + code,
        0x7f..=0xa0 => FROM_DELETE + (code - 0x7f),
        0xad => SOFT_HYPHEN,
        _ => code,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn byte(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        UP_TO_BLANK..FROM_DELETE => code - UP_TO_BLANK,
        FROM_DELETE..SOFT_HYPHEN => code - FROM_DELETE + 0x7f,
        SOFT_HYPHEN => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Bytes of a byte-level token; a token with other characters (a special one) is its own text.
pub(crate) fn token_bytes(token: &str) -> Vec<u8> {
    token
        .chars()
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| token.as_bytes().to_vec())
}

/// Spells the bytes of a text; each of a character's stands for the whole of it.
#[cfg(any(target_family = "wasm", test))]
pub(super) fn spell(text: &mut NormalizedString) {
    let mut spelling = Vec::with_capacity(text.get().len());
    for character in text.get().chars() {
        let mut bytes = [0; 4];
        for (index, byte) in character.encode_utf8(&mut bytes).bytes().enumerate() {
            spelling.push((self::character(byte), isize::from(index > 0)));
        }
    }
    text.transform(spelling, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_byte_has_a_character_of_its_own_and_comes_back_from_it() {
        let characters: BTreeSet<char> = (0..=255).map(character).collect();
        assert_eq!(characters.len(), 256);
        assert!((0..=255).all(|code| byte(character(code)) == Some(code)));
        let known = [
            (b' ', 'Ġ'),
            (b'\n', 'Ċ'),
            (b'\t', 'ĉ'),
            (0x7f, 'ġ'),
            (0xa0, 'ł'),
            (0xad, 'Ń'),
        ];
        for (byte, expected) in known {
            assert_eq!(character(byte), expected);
        }
    }
}
