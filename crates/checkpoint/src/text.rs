//! Text files as editors and shells save them.

use std::borrow::Cow;

/// The text as UTF-8 without a byte order mark. Only a mark tells UTF-16, which PowerShell writes; what cannot be decoded
/// becomes U+FFFD.
pub fn as_utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let from_utf16 = |units: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = units.as_chunks::<2>().0.iter().map(|two| unit(*two));
        let text: String = char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        Cow::Owned(text.into_bytes())
    };
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => Cow::Borrowed(text),
        [0xff, 0xfe, units @ ..] => from_utf16(units, u16::from_le_bytes),
        [0xfe, 0xff, units @ ..] => from_utf16(units, u16::from_be_bytes),
        text => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_are_understood() {
        let text = "{\"a\": \"é🦙\"}";
        let units = || text.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", little.as_slice()].concat(),
            [b"\xfe\xff", big.as_slice()].concat(),
        ] {
            assert_eq!(as_utf8(&bytes), text.as_bytes());
        }
        assert_eq!(as_utf8(b""), b"".as_slice());
    }
}
