//! Trait packs, contrast sets, trait vectors, calibrations and readings: the method of persona
//! vectors (arXiv 2507.21509) over the engine. Knows no browser, no files and no threads.

pub mod answers;
pub mod calibration;
pub mod columns;
pub mod contrast;
pub mod control;
pub mod conversation;
pub mod evidence;
pub mod extract;
pub mod neutral;
pub mod plan;
pub mod reading_block;
pub mod reread;
pub mod sweep;
pub mod trait_pack;
pub mod trait_vector;
pub mod vector_file;
pub mod vector_metadata;
