//! A session (an engine, a model's text side, vectors, what they are calibrated on) and every verb once: requests, responses,
//! events, and the long jobs. Knows no browser and no terminal.

pub mod adapters;
pub mod failure;
pub mod generation;
pub mod jobs;
pub mod links;
pub mod making;
pub mod reading;
pub mod records;
pub mod screening;
pub mod session;
pub mod shift;
pub mod studies;
pub mod tokens;
pub mod training;
pub mod verbs;
pub mod watch;
