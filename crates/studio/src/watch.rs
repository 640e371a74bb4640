//! The two sides of a run: a long job holds its own loop, in which it tells how far it is, pauses, and hears what is asked.

use crate::failure::Failure;
use crate::verbs::Event;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_persona::plan::NamedTerm;

/// Requests to a run since it last paused.
#[derive(Debug, Default)]
pub struct Asked {
    pub plan: Option<NewPlan>,
    pub stop: bool,
}

/// Another plan for a run's steered answers, from the next token on that is not yet queued.
pub struct NewPlan {
    pub terms: Vec<NamedTerm>,
    /// Hears whether the plan can be; the run goes on under the old one where it cannot.
    pub answer: Box<dyn FnOnce(Result<(), Failure>)>,
}

impl std::fmt::Debug for NewPlan {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("NewPlan")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

/// The other side of a run.
pub trait Watch {
    fn tell(&mut self, event: Event);

    /// Lets messages for this run in, and says what they asked for.
    fn pause(&mut self) -> LocalFuture<'_, Asked>;

    /// From any beginning: for how long something takes, and how often something is kept.
    fn seconds(&self) -> f64;
}

impl dyn Watch + '_ {
    /// Pauses, and goes on unless a stop was asked for.
    pub async fn go_on(&mut self) -> Result<(), Halt> {
        match self.pause().await.stop {
            true => Err(Halt::Stopped),
            false => Ok(()),
        }
    }
}

/// Why a job ended early.
#[derive(Debug)]
pub enum Halt {
    Stopped,
    Failed(Failure),
}

impl Halt {
    /// As a failure; a stop is one that says what became of the work.
    pub fn failure(self, kept: &str) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Stopped => Failure::usage(format!("stopped, as you asked{kept}")),
        }
    }
}

impl<E: Into<Failure>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Something that is done every so many seconds.
#[derive(Clone, Copy, Debug)]
pub struct Every {
    seconds: f64,
    last: f64,
}

impl Every {
    pub fn new(seconds: f64, now: f64) -> Self {
        Self { seconds, last: now }
    }

    /// Whether it is time again.
    pub fn due(&mut self, now: f64) -> bool {
        let due = now - self.last > self.seconds;
        if due {
            self.last = now;
        }
        due
    }
}

/// Seconds of work, and its share of what is left, before a time left is told.
const MEASURED_SECONDS: f64 = 1.0;
const MEASURED_SHARE: f64 = 0.02;

/// How long something will take, from how long its part so far took.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    began: f64,
    /// Work that was done before: no measure of this run's speed.
    before: usize,
}

impl Pace {
    pub fn new(now: f64, before: usize) -> Self {
        Self { began: now, before }
    }

    /// `None` until enough is done to tell: what comes first, a prompt or a kernel's first run, takes longer than the rest.
    pub fn seconds_left(&self, now: f64, done: usize, total: usize) -> Option<f64> {
        let worked = done.checked_sub(self.before).filter(|worked| *worked > 0)?;
        let (elapsed, left) = (now - self.began, total.saturating_sub(done));
        let measured = elapsed >= MEASURED_SECONDS && worked as f64 >= MEASURED_SHARE * left as f64;
        measured.then(|| elapsed / worked as f64 * left as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_told_before_there_is_something_to_tell_it_from() {
        let pace = Pace::new(10.0, 100);
        // One token of a long study after a slow first prompt; much at once, but no time to measure it; nothing new.
        assert_eq!(pace.seconds_left(13.0, 101, 8_000), None);
        assert_eq!(pace.seconds_left(10.1, 1_000, 8_000), None);
        assert_eq!(pace.seconds_left(20.0, 100, 8_000), None);
        assert_eq!(pace.seconds_left(20.0, 600, 1_100), Some(10.0));
        assert_eq!(pace.seconds_left(20.0, 1_100, 1_100), Some(0.0));
    }
}
