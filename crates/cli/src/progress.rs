//! One line of progress on standard error, where that is a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;
use trimtab_checkpoint::convert::directory::Progress;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_studio::generation::GenerateEvent;
use trimtab_studio::links::LinkEvent;
use trimtab_studio::making::{MakingEvent, MakingPhase};
use trimtab_studio::reading::ReadingEvent;
use trimtab_studio::studies::{StudyEvent, StudyPhase};
use trimtab_studio::verbs::Event;
use trimtab_studio::watch::{Asked, Watch};

/// Shows `text` in place of the line before it. Nothing is written to a file or a pipe.
pub fn show(text: &str) {
    let mut error = std::io::stderr().lock();
    if error.is_terminal() {
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(error, "\r\x1b[K{text}");
        let _ = error.flush();
    }
}

/// Shows how far a conversion is.
pub fn converting(done: Progress) {
    let share = done.bytes_done as f64 / done.bytes_total.max(1) as f64;
    show(&format!("converting: {:.0} %", 100.0 * share));
}

/// Clears the line.
pub fn finish() {
    show("");
}

/// Watches a run for a person at a terminal: how far it is, in one line, and what `heard` does with everything else.
pub struct Terminal<'a> {
    began: Instant,
    heard: Box<dyn FnMut(Event) + 'a>,
}

impl<'a> Terminal<'a> {
    pub fn new(heard: impl FnMut(Event) + 'a) -> Self {
        Self {
            began: Instant::now(),
            heard: Box::new(heard),
        }
    }
}

impl Terminal<'_> {
    /// Shows how far a run is, and hears nothing else.
    pub fn quiet() -> Self {
        Self::new(|_| {})
    }
}

/// Waits for a job, and clears its line.
pub fn wait<T>(job: impl Future<Output = T>) -> T {
    let done = pollster::block_on(job);
    finish();
    done
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Terminal").finish_non_exhaustive()
    }
}

impl Watch for Terminal<'_> {
    fn tell(&mut self, event: Event) {
        let (what, done, total, seconds_left) = match event {
            Event::Study(StudyEvent::Progress {
                phase,
                done,
                total,
                seconds_left,
            }) => {
                let what = match phase {
                    StudyPhase::Reading => "reading responses",
                    StudyPhase::Writing => "writing answers",
                    StudyPhase::Measuring => "measuring them",
                };
                (what, done, total, seconds_left)
            }
            Event::Making(MakingEvent::Progress {
                phase,
                done,
                total,
                seconds_left,
            }) => {
                let what = match phase {
                    MakingPhase::Writing => "writing answers",
                    MakingPhase::Judging => "judging them",
                    MakingPhase::Vector => "making vectors",
                };
                (what, done, total, seconds_left)
            }
            Event::Generate(GenerateEvent::Prompt {
                done,
                total,
                seconds_left,
            }) => ("reading the prompt", done, total, seconds_left),
            Event::Link(LinkEvent::Replay { done, total }) => ("replaying", done, total, None),
            Event::Reading(ReadingEvent::Tokens { done, total }) => ("reading", done, total, None),
            Event::Reading(ReadingEvent::Conversations { done, total }) => {
                ("reading conversations", done, total, None)
            }
            Event::Reading(ReadingEvent::Answers { done, total }) => {
                ("writing neutral answers", done, total, None)
            }
            other => return (self.heard)(other),
        };
        show(&format!("{what}: {done} of {total}{}", left(seconds_left)));
    }

    /// Nobody asks for anything while the program works: it is ended from outside.
    fn pause(&mut self) -> LocalFuture<'_, Asked> {
        Box::pin(std::future::ready(Asked::default()))
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

/// `, about 3 min left`, where it is known.
pub fn left(seconds: Option<f64>) -> String {
    match seconds {
        None => String::new(),
        Some(seconds) if seconds < 90.0 => format!(", about {seconds:.0} s left"),
        Some(seconds) => format!(", about {:.0} min left", seconds / 60.0),
    }
}

/// Something the person should know although the work goes on.
pub fn warn(text: &str) {
    finish();
    eprintln!("trimtab: warning: {}", printable(text));
}

/// Somebody else's text without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(
            printable("a\u{1b}]0;title\u{7}b\u{9b}2J\rc"),
            "a\u{fffd}]0;title\u{fffd}b\u{fffd}2J\u{fffd}c"
        );
        assert_eq!(printable("two\n\tlines, é"), "two\n\tlines, é");
    }
}
