//! The functions of a WebAssembly module in an order in which those that are alike stand together. Deflate finds again
//! only what it saw within 32 kB, and the compiler leaves a hundred copies of a generic function (sorting, reading of
//! JSON) far apart; together they are a thirteenth less to download.

use std::collections::{BTreeMap, HashMap, VecDeque};

use anyhow::{Context, Result};
use wasmparser::{Parser, Payload, TypeRef};

/// Bytes that two functions have in common, at the least.
const SHARED: usize = 5;
/// What stands in more functions than this says nothing about any two.
const COMMON: usize = 60;
/// How far back likeness counts, in bytes: less than what deflate sees, for what lies between.
const WINDOW: usize = 20_000;

/// `module` with a name section that numbers its functions in that order, for wasm-opt's `--reorder-functions-by-name`.
/// It must have no names yet.
///
/// # Errors
/// Bytes that are no WebAssembly.
pub fn with_ordinals(module: &[u8]) -> Result<Vec<u8>> {
    let mut imported = 0;
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.context("the module is no WebAssembly")? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += usize::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(&module[body.range()]),
            _ => {}
        }
    }
    let mut names = BTreeMap::new();
    for (ordinal, function) in together(&bodies).into_iter().enumerate() {
        names.insert(imported + function, format!("{ordinal:06}"));
    }
    let mut functions = number(names.len());
    for (index, name) in names {
        functions.extend(number(index));
        functions.extend(sized(name.as_bytes()));
    }
    const FUNCTIONS: u8 = 1;
    const CUSTOM: u8 = 0;
    let mut section = sized(b"name");
    section.push(FUNCTIONS);
    section.extend(sized(&functions));
    let mut named = module.to_vec();
    named.push(CUSTOM);
    named.extend(sized(&section));
    Ok(named)
}

/// Indices of `bodies`: behind each one that which shares most with those before it, for its length.
fn together(bodies: &[&[u8]]) -> Vec<usize> {
    let mut owners: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (index, body) in bodies.iter().enumerate() {
        for part in body.windows(SHARED) {
            let owners = owners.entry(part).or_default();
            if owners.last() != Some(&index) {
                owners.push(index);
            }
        }
    }
    // Of each function those that share a part with it, as often as they do.
    let relatives = |index: usize| {
        let mut parts: Vec<&[u8]> = bodies[index].windows(SHARED).collect();
        parts.sort_unstable();
        parts.dedup();
        let owners = parts.into_iter().filter_map(|part| owners.get(part));
        let telling = owners.filter(|owners| owners.len() <= COMMON);
        telling.flatten().copied().collect::<Vec<usize>>()
    };

    let mut shared = vec![0_i32; bodies.len()];
    let mut placed = vec![false; bodies.len()];
    let mut order = Vec::with_capacity(bodies.len());
    let mut window = VecDeque::new();
    let mut length = 0;
    for _ in bodies {
        let worth = |index: usize| {
            f64::from(shared[index]) / ((bodies[index].len() as f64).powf(0.75) + 20.0)
        };
        // The first of the best, so that the order is the same each time.
        let best = (0..bodies.len())
            .filter(|&index| !placed[index])
            .reduce(|best, index| {
                if worth(index) > worth(best) {
                    index
                } else {
                    best
                }
            });
        let Some(best) = best else { break };
        placed[best] = true;
        order.push(best);
        let own = relatives(best);
        for &relative in &own {
            shared[relative] += 1;
        }
        length += bodies[best].len();
        window.push_back((bodies[best].len(), own));
        while length > WINDOW && window.len() > 1 {
            let Some((gone, relatives)) = window.pop_front() else {
                break;
            };
            length -= gone;
            for relative in relatives {
                shared[relative] -= 1;
            }
        }
    }
    order
}

/// In WebAssembly's spelling, seven bits a byte.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut sized = number(bytes.len());
    sized.extend(bytes);
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_stands_together() {
        let bodies: [&[u8]; 5] = [
            b"sorting of words",
            b"0123456789",
            b"sorting of numbers",
            b"012345678",
            b"sorting of dates",
        ];
        let mut order = together(&bodies);
        assert_eq!(order[0], 0);
        assert!(
            order[1..3].contains(&2) && order[1..3].contains(&4),
            "{order:?}"
        );
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_module_gets_a_name_section() {
        // One type, one function of that type, its body.
        let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";
        let named = with_ordinals(module).unwrap();
        assert!(named.starts_with(module));
        assert!(named.ends_with(b"\0\x06000000"));
        assert!(with_ordinals(b"nothing").is_err());
    }

    #[test]
    fn numbers_are_spelt_in_sevens() {
        assert_eq!(number(0), [0]);
        assert_eq!(number(300), [0xac, 0x02]);
    }
}
