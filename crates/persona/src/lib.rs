//! Trait packs, contrast sets, trait vectors, calibrations and readings: the method of persona
//! vectors (arXiv 2507.21509) over the engine. Knows no browser, no files and no threads.

pub mod calibration;
pub mod conversation;
pub mod extract;
pub mod plan;
pub mod reread;
pub mod trait_pack;
pub mod vector_file;
