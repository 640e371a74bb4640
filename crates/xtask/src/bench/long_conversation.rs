//! Whether the page stays fluid with a long conversation on the screen: `tests/bench/long_conversation.ts`.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::browser::driver;
use crate::process;
use crate::program::Programs;

#[derive(Debug, Serialize, Deserialize)]
pub struct LongConversation {
    /// On the screen at the end, in both columns.
    tokens: usize,
    writing: Task,
    dragging: Task,
    colouring: Task,
    opening: Task,
}

/// The task of the page's main thread that took the processor longest, in milliseconds; 0 where none took over 20 by the clock.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    processor: f64,
    clock: f64,
}

pub fn measure(root: &Path, browser: &Path) -> Result<LongConversation> {
    let served = Programs::AsBuilt.serve(root)?;
    let mut driver = driver(root, browser, "main.ts");
    driver.env("TRIMTAB_URL", served.url());
    process::ask(&mut driver, &json!({ "only": "longConversation" }))
}

impl fmt::Display for LongConversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| longest main-thread task with {} tokens on the screen | processor time, ms | by the clock, ms |\n| --- | --- | --- |",
            self.tokens
        )?;
        for (what, task) in [
            ("writing up to there", &self.writing),
            ("dragging a slider", &self.dragging),
            ("changing the coloured trait", &self.colouring),
            ("opening it again", &self.opening),
        ] {
            writeln!(f, "| {what} | {:.0} | {:.0} |", task.processor, task.clock)?;
        }
        Ok(())
    }
}
