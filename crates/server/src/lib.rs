//! The page over HTTP, for `trimtab serve` and `cargo xtask`: which files, with which headers, on which addresses.

pub mod embedded;
pub mod files;
pub mod lan;
pub mod listen;
