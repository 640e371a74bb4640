//! The code of a WebAssembly module by the crate that it comes from, told by its functions' names.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wasmparser::{KnownCustom, Name, Parser, Payload, TypeRef};

use super::weight::gzipped;

/// The standard library's own crates: generic code of theirs counts for the crate it is made for.
const STANDARD: &[&str] = &["core", "alloc", "std"];
const UNNAMED: &str = "(unnamed)";

#[derive(Debug, Serialize)]
pub struct CrateSize {
    pub name: String,
    /// Of its functions.
    pub bytes: usize,
    /// The same, compressed by themselves; the sum is a little more than the whole's.
    pub gzipped: usize,
}

#[derive(Debug, Serialize)]
pub struct Breakdown {
    /// Largest first.
    pub crates: Vec<CrateSize>,
    /// Constants: texts, shaders, tables of Unicode.
    pub data: CrateSize,
}

/// `module` must have its name section.
pub fn breakdown(module: &[u8]) -> Result<Breakdown> {
    let mut imported = 0;
    let mut bodies = Vec::new();
    let mut names = BTreeMap::new();
    let mut data = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.context("the module is no WebAssembly")? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(body.range()),
            Payload::DataSection(section) => data = module[section.range()].to_vec(),
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(section) = section.as_known() {
                    for subsection in section {
                        if let Name::Function(functions) = subsection? {
                            for function in functions {
                                let function = function?;
                                names.insert(function.index, function.name);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    ensure!(!names.is_empty(), "the module has no names of functions");

    let mut code: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (index, range) in (imported..).zip(bodies) {
        let name = names
            .get(&index)
            .map_or(UNNAMED.to_owned(), |name| crate_of(name));
        code.entry(name).or_default().extend(&module[range]);
    }
    let size = |name: String, bytes: &[u8]| {
        anyhow::Ok(CrateSize {
            name,
            bytes: bytes.len(),
            gzipped: gzipped(bytes)?,
        })
    };
    let mut crates = code
        .into_iter()
        .map(|(name, bytes)| size(name, &bytes))
        .collect::<Result<Vec<_>>>()?;
    crates.sort_by_key(|size| std::cmp::Reverse(size.bytes));
    Ok(Breakdown {
        crates,
        data: size("constants".into(), &data)?,
    })
}

/// `tokenizers` for `<tokenizers::models::ModelWrapper as serde_core::de::Deserialize>::deserialize`.
fn crate_of(symbol: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(symbol));
    let paths = crate_names(&name);
    let own = paths.iter().find(|path| !STANDARD.contains(path));
    match own.or(paths.first()) {
        Some(name) => (*name).to_owned(),
        // Names without a path are of C-like functions: the allocator's and the compiler's.
        None => UNNAMED.to_owned(),
    }
}

/// The first words of the paths in a demangled name, in order.
fn crate_names(name: &str) -> Vec<&str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = name.as_bytes();
    let mut found = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let length = bytes[start..]
            .iter()
            .take_while(|byte| word(**byte))
            .count();
        if length == 0 {
            start += 1;
            continue;
        }
        let end = start + length;
        let begins = start == 0 || bytes[start - 1] != b':';
        if begins && bytes[end..].starts_with(b"::") {
            found.push(&name[start..end]);
        }
        start = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_belong_to_the_crate_that_made_them_necessary() {
        let cases = [
            (
                "_ZN14regex_automata4meta8strategy3new17hd4d1c7312f74bbfbE",
                "regex_automata",
            ),
            (
                "_RNvNtCs1kdg7kQiWB7_12aho_corasick9automaton3new",
                "aho_corasick",
            ),
            ("core::fmt::Formatter::pad", "core"),
            (
                "core::ptr::drop_in_place<tokenizers::models::ModelWrapper>",
                "tokenizers",
            ),
            (
                "<&mut serde_json::de::Deserializer<R> as serde_core::de::Deserializer>::deserialize_map",
                "serde_json",
            ),
            ("memcpy", UNNAMED),
        ];
        for (symbol, expected) in cases {
            assert_eq!(crate_of(symbol), expected, "{symbol}");
        }
    }

    #[test]
    fn a_module_without_names_is_refused() {
        let empty = b"\0asm\x01\0\0\0";
        assert!(breakdown(empty).is_err());
    }
}
