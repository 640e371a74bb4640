//! The memory that reading a model takes, counted at the allocator. A browser's wasm heap never shrinks, so the peaks are what counts.
//! Each thread has its own count, because other tests run beside this one.

use pollster::block_on;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use trimtab_checkpoint::{FileSource, Tokenizer, WeightFile};

struct Counting;

thread_local! {
    /// Bytes that this thread holds; negative where it frees what another one made.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.get() + layout.size().cast_signed();
        NOW.set(now);
        PEAK.set(PEAK.get().max(now));
        // SAFETY: the caller's promises are the system's requirements.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.set(NOW.get() - layout.size().cast_signed());
        // SAFETY: `pointer` came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result, the peak while it was made and what it still holds, both above what was there before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, isize, isize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before, NOW.get() - before)
}

const MEGABYTE: isize = 1_000_000;

#[test]
fn reading_the_default_model_stays_small() {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/smollm2-135m-instruct");
    let path = directory.join("model.safetensors");
    let source = FileSource::open(&path)
        .unwrap_or_else(|error| panic!("{error}; `cargo xtask model` fetches the model"));
    let (file, peak, held) = measured(|| block_on(WeightFile::open(source)).unwrap());
    println!("header: peak {peak}, held {held}");
    assert!(
        peak < MEGABYTE && held < MEGABYTE,
        "header: peak {peak}, held {held}"
    );

    let embedding = file.tensor("model.embed_tokens.weight").unwrap();
    let ((), peak, held) = measured(|| {
        for start in (0..embedding.rows).step_by(4096) {
            let rows =
                block_on(file.read_rows(embedding, start..(start + 4096).min(embedding.rows)))
                    .unwrap();
            assert!(!rows.data.is_empty());
        }
    });
    // 4096 rows of 576 weights and 18 scales; nothing is kept.
    assert!(
        peak < 4096 * (576 + 36) + 10_000 && held == 0,
        "rows: peak {peak}, held {held}"
    );

    let json = std::fs::read(directory.join("tokenizer.json")).unwrap();
    let (tokenizer, peak, held) = measured(|| Tokenizer::from_json(&json).unwrap());
    println!("tokenizer: peak {peak}, held {held}");
    assert!(
        peak < 40 * MEGABYTE && held < 20 * MEGABYTE,
        "tokenizer: peak {peak}, held {held}"
    );
    drop(tokenizer);
}
