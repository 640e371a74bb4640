//! Work shared among threads where there are any: natively by rayon, whose workers keep looking for work
//! between the short tasks of one token. In the browser there is one thread, or a [`super::team`].

use std::fmt;

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

#[cfg(not(target_family = "wasm"))]
impl Tasks {
    /// As many threads as rayon's global pool has (`RAYON_NUM_THREADS`, else one a core).
    pub fn new() -> Self {
        Self {
            threads: rayon::current_num_threads(),
        }
    }

    /// Runs `work` on a thread of the pool, from which tasks are handed out without waking anybody.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self.threads {
            1 => work(),
            _ => rayon::scope(|_| work()),
        }
    }

    /// Calls `task` with every `size` elements of `out` and their number; on several threads if `shared`.
    pub fn run(
        &self,
        out: &mut [f32],
        size: usize,
        shared: bool,
        task: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        use rayon::prelude::*;
        if self.threads == 1 || !shared || out.len() <= size {
            out.chunks_mut(size)
                .enumerate()
                .for_each(|(index, out)| task(index, out));
        } else {
            out.par_chunks_mut(size)
                .enumerate()
                .for_each(|(index, out)| task(index, out));
        }
    }

    /// Calls `task` with corresponding parts of `a` and `b`; on several threads if `shared`.
    pub fn zip(
        &self,
        a: &mut [f32],
        b: &[f32],
        shared: bool,
        task: impl Fn(&mut [f32], &[f32]) + Sync,
    ) {
        use rayon::prelude::*;
        if self.threads == 1 || !shared {
            task(a, b);
        } else {
            let size = a.len().div_ceil(self.threads).max(1);
            a.par_chunks_mut(size)
                .zip(b.par_chunks(size))
                .for_each(|(a, b)| task(a, b));
        }
    }
}

#[cfg(target_family = "wasm")]
impl Tasks {
    /// As many threads as help when the executor is made.
    pub fn new() -> Self {
        Self {
            #[cfg(feature = "threads")]
            threads: 1 + super::team::TEAM.helpers(),
            #[cfg(not(feature = "threads"))]
            threads: 1,
        }
    }

    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        work()
    }

    /// Calls `task` with every `size` elements of `out` and their number; on several threads if `shared`.
    pub fn run(
        &self,
        out: &mut [f32],
        size: usize,
        shared: bool,
        task: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        #[cfg(feature = "threads")]
        if self.threads > 1 && shared && out.len() > size {
            return super::team::TEAM.chunks(out, size, &task);
        }
        let _ = shared;
        out.chunks_mut(size)
            .enumerate()
            .for_each(|(index, out)| task(index, out));
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
