//! The long jobs: each an `async fn` that holds its own loop and is given a [`crate::watch::Watch`].

mod anew;
pub mod answers;
pub mod averages;
pub mod columns;
pub mod contrast;
mod judging;
pub mod reading;
pub mod replay;
pub mod responses;
mod screen;
mod shift;
mod studies;
mod train;
pub mod trials;
pub mod vectors;
