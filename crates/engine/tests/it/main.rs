//! The executors against each other on small random models, and against golden data on the default checkpoint.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adapters;
mod answers_agree;
mod executors_agree;
mod families;
mod forks;
mod golden;
mod golden_cpu;
mod golden_gpu;
mod sites;
mod training;
