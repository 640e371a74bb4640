//! Threads that help the one that holds the model. Of a token's hundred and fifty short tasks each takes about as long as
//! waking a thread: rayon's workers sleep between them in a browser, where a thread cannot yield, and natively yield to
//! nobody, again and again. A helper here looks for the next task for a while before it sleeps.
//!
//! Whoever has work opens it to the team, takes pieces of it like everybody else, closes it when no piece is left, and waits
//! for those who joined. A helper that is late, or that the machine has no time for, is not waited for.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// How often a helper looks before it sleeps: about a tenth of a millisecond, longer than what a token's tasks lie apart.
const LOOKS: u32 = 50_000;

/// How often who shared the work looks whether its helpers are done before it offers them its core: longer than the pieces that
/// they have left should take.
const PATIENCE: u32 = 5_000;

#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
pub static TEAM: Team = Team::new();

/// In [`Team::state`]: work is there and may be joined. The bits below count who joined, those above tell one piece of work
/// from the next.
const OPEN: u32 = 1 << 8;
const JOINED: u32 = OPEN - 1;
const NEXT_WORK: u32 = OPEN << 1;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

#[derive(Debug)]
pub struct Team {
    helpers: AtomicUsize,
    /// Whether somebody has work at the moment.
    busy: AtomicBool,
    state: AtomicU32,
    work: UnsafeCell<Option<*const Work<'static>>>,
    pieces: AtomicUsize,
    next: AtomicUsize,
    asleep: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
}

// SAFETY: `work` is written only by who holds `busy`, while `state` is closed and nobody has joined; it is read only by
// those who joined open work.
unsafe impl Sync for Team {}

impl Team {
    pub const fn new() -> Self {
        Self {
            helpers: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            state: AtomicU32::new(0),
            work: UnsafeCell::new(None),
            pieces: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
        }
    }

    pub fn helpers(&self) -> usize {
        self.helpers.load(Ordering::Relaxed)
    }

    /// Has at least `wanted` helpers from now on, where the machine grants the threads and they can be counted; returns how
    /// many there are, at most `wanted`.
    #[cfg(not(target_family = "wasm"))]
    pub fn hire(&'static self, wanted: usize) -> usize {
        static HIRED: Mutex<usize> = Mutex::new(0);
        let mut hired = HIRED.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = wanted.min(JOINED as usize);
        while *hired < wanted {
            let helper = std::thread::Builder::new().name("trimtab-helper".to_owned());
            if helper.spawn(|| self.help()).is_err() {
                break;
            }
            *hired += 1;
        }
        wanted.min(*hired)
    }

    /// Makes the calling thread a helper, for ever.
    pub fn help(&self) -> ! {
        self.helpers.fetch_add(1, Ordering::Relaxed);
        let mut done = 0;
        loop {
            done = self.wait_for_other_than(done);
            self.join(done);
        }
    }

    /// The state of open work that is not `done`.
    fn wait_for_other_than(&self, done: u32) -> u32 {
        let fresh = || {
            let state = self.state.load(Ordering::SeqCst) & !JOINED;
            (state & OPEN != 0 && state != done).then_some(state)
        };
        for _ in 0..LOOKS {
            if let Some(state) = fresh() {
                return state;
            }
            std::hint::spin_loop();
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            if let Some(state) = fresh() {
                break state;
            }
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Takes pieces of the work that was open as `work`, if it still is.
    fn join(&self, work: u32) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & !JOINED != work {
                return;
            }
            match self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: it was open when this thread joined, so that `share` waits for it and what it points to lives.
        if let Some(work) = unsafe { *self.work.get() } {
            self.take_pieces(unsafe { &*work });
        }
        self.state.fetch_sub(1, Ordering::Release);
    }

    fn take_pieces(&self, work: &Work<'_>) {
        let _whole = Whole;
        let pieces = self.pieces.load(Ordering::Relaxed);
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return;
            }
            work(piece);
        }
    }

    /// Calls `work` once with every number below `pieces`, on any threads. Where it unwinds, the process ends.
    pub fn share(&self, pieces: usize, work: &Work<'_>) {
        if self.busy.swap(true, Ordering::Acquire) {
            // From inside a piece, or from another thread: the team has something to do already.
            (0..pieces).for_each(work);
            return;
        }
        let longer: *const Work<'_> = work;
        // SAFETY: only the lifetime changes, and nobody reads it after this function.
        let longer: *const Work<'static> = unsafe { std::mem::transmute(longer) };
        // SAFETY: the work before is closed and nobody is in it.
        unsafe { *self.work.get() = Some(longer) };
        self.pieces.store(pieces, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        let before = self.state.load(Ordering::Relaxed);
        let open = before.wrapping_add(NEXT_WORK) | OPEN;
        self.state.store(open, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            let _bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
            self.bell.notify_all();
        }
        self.take_pieces(work);
        self.state.fetch_and(!OPEN, Ordering::Relaxed);
        let mut looks = 0_u32;
        while self.state.load(Ordering::Acquire) & JOINED != 0 {
            looks = looks.saturating_add(1);
            // A helper without a core is waiting for this one. In a browser a thread cannot yield.
            match looks > PATIENCE && cfg!(not(target_family = "wasm")) {
                true => std::thread::yield_now(),
                false => std::hint::spin_loop(),
            }
        }
        self.busy.store(false, Ordering::Release);
    }

    /// Calls `task` with every `size` elements of `out` and their number.
    pub fn chunks(&self, out: &mut [f32], size: usize, task: &(impl Fn(usize, &mut [f32]) + Sync)) {
        struct Start(*mut f32);
        // SAFETY: each piece touches elements of its own.
        unsafe impl Sync for Start {}
        impl Start {
            fn at(&self, index: usize) -> *mut f32 {
                unsafe { self.0.add(index) }
            }
        }
        let length = out.len();
        let start = Start(out.as_mut_ptr());
        self.share(length.div_ceil(size), &|piece| {
            let from = piece * size;
            let count = size.min(length - from);
            // SAFETY: inside `out`, which is borrowed until all pieces are done, and apart from every other piece.
            task(piece, unsafe {
                std::slice::from_raw_parts_mut(start.at(from), count)
            });
        });
    }
}

/// Others use what a thread's work points to, so that none may leave it half-way.
struct Whole;

impl Drop for Whole {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Default for Team {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_piece_is_done_once_whoever_helps() {
        let team: &'static Team = Box::leak(Box::default());
        let mut out = vec![0.0_f32; 10_007];
        for helpers in 0..4 {
            while team.helpers() < helpers {
                std::thread::sleep(Duration::from_millis(1));
            }
            for round in 0..2_000 {
                // Short and long breaks, so that helpers are awake, late and asleep.
                if round % 500 == 499 {
                    std::thread::sleep(Duration::from_millis(20));
                }
                let size = 1 + round % 1_300;
                let want = out[0] + 1.0;
                team.chunks(&mut out, size, &|index, out| {
                    assert!(out.len() == size || (index + 1) * size > 10_007);
                    out.iter_mut().for_each(|x| *x += 1.0);
                });
                assert!(
                    out.iter().all(|x| *x == want),
                    "{helpers} helpers, round {round}"
                );
            }
            std::thread::spawn(|| team.help());
        }
    }

    #[test]
    fn work_inside_of_work_is_done_by_who_has_it() {
        let team: &'static Team = Box::leak(Box::default());
        std::thread::spawn(|| team.help());
        let mut out = vec![0.0_f32; 64];
        team.chunks(&mut out, 8, &|_, out| {
            team.chunks(out, 2, &|index, out| out.fill(index as f32));
        });
        let want: Vec<f32> = (0..64).map(|i| (i % 8 / 2) as f32).collect();
        assert_eq!(out, want);
    }
}
