//! Types of tensors in GGUF files that candle's reader does not know. It names their number alone; here they get the name of
//! the tensor and of the type (`ggml_type` in ggml.h).

use std::io::{self, Read};

/// Types that are read, for a sentence.
pub const KNOWN: &str = "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_1 or Q4_0";

/// Most tensors, pairs of metadata and dimensions that are looked through.
const MANY: u64 = 1 << 24;

/// Name and type of the first tensor whose type candle does not read; nothing, where there is none, or where the header is
/// broken in another way.
pub fn first_unknown(file: &mut impl Read) -> Option<(String, String)> {
    find(file).ok().flatten()
}

fn find(file: &mut impl Read) -> io::Result<Option<(String, String)>> {
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    let (tensors, pairs) = (count(file)?, count(file)?);
    for _ in 0..pairs {
        text(file)?;
        let kind = number(file)?;
        skip_value(file, kind)?;
    }
    for _ in 0..tensors {
        let name = text(file)?;
        let dimensions = number(file)?;
        skip(file, u64::from(dimensions) * 8)?;
        let kind = number(file)?;
        skip(file, 8)?;
        if let Some(unknown) = unknown(kind) {
            return Ok(Some((name, unknown)));
        }
    }
    Ok(None)
}

fn unknown(kind: u32) -> Option<String> {
    let name = match kind {
        0..=3 | 6..=15 | 30 => return None,
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return Some(format!("type {kind}")),
    };
    Some(name.into())
}

/// Arrays are kind 9, texts are kind 8; all others have one length.
fn skip_value(file: &mut impl Read, kind: u32) -> io::Result<()> {
    match kind {
        8 => text(file).map(drop),
        9 => {
            let (kind, count) = (number(file)?, count(file)?);
            match kind {
                8 => (0..count).try_for_each(|_| text(file).map(drop)),
                kind => skip(file, count.saturating_mul(width(kind)?)),
            }
        }
        kind => skip(file, width(kind)?),
    }
}

fn width(kind: u32) -> io::Result<u64> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn number(file: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn count(file: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes)).and_then(|count| match count {
        0..=MANY => Ok(count),
        _ => Err(io::ErrorKind::InvalidData.into()),
    })
}

fn text(file: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    let length = count(file)?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn skip(file: &mut impl Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut file.take(bytes), &mut io::sink())? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
