//! Work shared among threads where there are any: natively, and in a browser whose page is isolated.

use std::fmt;

#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
use super::team::TEAM;

/// Tasks that a thread should have of each piece of work, so that none waits long for the other.
const TASKS_A_THREAD: usize = 4;

#[derive(Clone, Debug)]
pub struct Tasks {
    threads: usize,
}

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.threads {
            1 => write!(f, "1 thread"),
            threads => write!(f, "{threads} threads"),
        }
    }
}

impl Tasks {
    /// How many of `rows` rows one task should take.
    pub fn share(&self, rows: usize) -> usize {
        match self.threads {
            1 => rows,
            threads => rows.div_ceil(threads * TASKS_A_THREAD).max(16),
        }
    }
}

impl Tasks {
    /// With as many threads as rayon would take (`RAYON_NUM_THREADS`, else one a core).
    #[cfg(not(target_family = "wasm"))]
    pub fn new() -> Self {
        let helpers = TEAM.hire(rayon::current_num_threads() - 1);
        Self {
            threads: 1 + helpers,
        }
    }

    /// With as many threads as help when the executor is made.
    #[cfg(all(target_family = "wasm", feature = "threads"))]
    pub fn new() -> Self {
        Self {
            threads: 1 + TEAM.helpers(),
        }
    }

    #[cfg(all(target_family = "wasm", not(feature = "threads")))]
    pub fn new() -> Self {
        Self { threads: 1 }
    }

    /// Calls `task` with every `size` elements of `out` and their number; on several threads if `shared`.
    pub fn run(
        &self,
        out: &mut [f32],
        size: usize,
        shared: bool,
        task: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        #[cfg(any(not(target_family = "wasm"), feature = "threads"))]
        if self.threads > 1 && shared && out.len() > size {
            return TEAM.chunks(out, size, &task);
        }
        let _ = shared;
        out.chunks_mut(size)
            .enumerate()
            .for_each(|(index, out)| task(index, out));
    }

    /// How many pieces work should come in.
    pub fn pieces(&self) -> usize {
        match self.threads {
            1 => 1,
            threads => threads * TASKS_A_THREAD,
        }
    }

    /// Calls `task` with every number below `count`, on several threads.
    pub fn each(&self, count: usize, task: impl Fn(usize) + Sync) {
        #[cfg(any(not(target_family = "wasm"), feature = "threads"))]
        if self.threads > 1 && count > 1 {
            return TEAM.share(count, &task);
        }
        (0..count).for_each(task);
    }

    /// Calls `task` with corresponding parts of `a` and `b`; on several threads if `shared`.
    pub fn zip(
        &self,
        a: &mut [f32],
        b: &[f32],
        shared: bool,
        task: impl Fn(&mut [f32], &[f32]) + Sync,
    ) {
        let size = match shared {
            true => a.len().div_ceil(self.threads).max(1),
            false => a.len(),
        };
        self.run(a, size, shared, |index, a| {
            task(a, &b[index * size..][..a.len()])
        });
    }
}
