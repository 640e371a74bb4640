//! Small numbers as text: base64url's alphabet, six bits a character.

use crate::recipe::{RecipeError, refuse};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The last sextet of [`push_sum`]: more follows.
const MORE: usize = 63;

pub(crate) fn character(sextet: usize) -> char {
    char::from(ALPHABET[sextet & 63])
}

/// Fails on a character that is none of the 64.
pub(crate) fn sextet(character: u8) -> Result<usize, RecipeError> {
    let at = ALPHABET.iter().position(|&one| one == character);
    at.ok_or_else(|| refuse("packed numbers", "have a character that is not base64url"))
}

pub(crate) fn is_alphabet(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// Ascending indices as the distances between them: each a sum of sextets that ends below 63.
pub(crate) fn pack_indices(indices: impl IntoIterator<Item = usize>) -> String {
    let mut text = String::new();
    let mut next = 0;
    for index in indices {
        let mut distance = index - next;
        while distance >= MORE {
            text.push(character(MORE));
            distance -= MORE;
        }
        text.push(character(distance));
        next = index + 1;
    }
    text
}

/// Ascending indices below `end`.
pub(crate) fn unpack_indices(text: &str, end: usize) -> Result<Vec<usize>, RecipeError> {
    let broken = || refuse("packed numbers", "point outside what they belong to");
    let mut indices = Vec::new();
    let (mut next, mut distance) = (0, 0);
    for byte in text.bytes() {
        let sextet = sextet(byte)?;
        distance += sextet;
        if sextet == MORE {
            continue;
        }
        let index = next + distance;
        if index >= end {
            return Err(broken());
        }
        indices.push(index);
        (next, distance) = (index + 1, 0);
    }
    if distance > 0 {
        return Err(broken());
    }
    Ok(indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn indices_come_back(indices in proptest::collection::btree_set(0_usize..1000, 0..40)) {
            let indices: Vec<usize> = indices.into_iter().collect();
            let text = pack_indices(indices.iter().copied());
            proptest::prop_assert_eq!(unpack_indices(&text, 1000).unwrap(), indices);
        }

        #[test]
        fn any_text_gives_indices_in_range_or_an_error(text in ".{0,20}") {
            if let Ok(indices) = unpack_indices(&text, 50) {
                proptest::prop_assert!(indices.is_sorted_by(|a, b| a < b));
                proptest::prop_assert!(indices.iter().all(|index| *index < 50));
            }
        }
    }
}
