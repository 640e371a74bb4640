//! The studio for the page's worker: converts types, nothing else.

mod blob;
mod conversion;
mod convert;
mod device_trial;
mod hash;
mod hub;
mod model_files;
mod room;
#[cfg(feature = "threads")]
mod threads;
mod trimtab;
