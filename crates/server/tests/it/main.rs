//! The page's server over sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod server;
