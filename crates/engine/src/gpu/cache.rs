//! The cache on the device: a pool of pages for the keys and one for the values of each block, which grow with the text.
//! [`PageTable`] says which sequence holds which page; the kernels read the same table (`shaders/include/cache.wgsl`).

use super::attention::AttentionShape;
use super::buffers::Buffers;
use super::device::Device;
use super::graph::Slot;
use crate::cache::{PAGE, PageTable, Write};
use crate::error::EngineError;
use crate::executor::{Batch, Limits, Row};
use crate::index::SequenceIndex;
use trimtab_checkpoint::ModelConfig;

/// Pages that a pool grows by at least: 1,024 positions.
const STEP: usize = 1024 / PAGE;

/// Pages of a sequence that holds `context` tokens.
pub fn pages_of(context: usize) -> usize {
    context.div_ceil(PAGE)
}

#[derive(Debug)]
pub struct PagedCache {
    table: PageTable,
    /// The table before the batch in the making, which holds again where the pool cannot grow.
    before: PageTable,
    /// The table as the device has it, `[sequence][page]`.
    words: Vec<u32>,
    sequence_pages: usize,
    page_words: usize,
    /// Pages that the pools have room for, and the most that they may have.
    capacity: usize,
    most: usize,
    /// One for each block.
    keys: Vec<wgpu::Buffer>,
    values: Vec<wgpu::Buffer>,
    table_buffer: wgpu::Buffer,
    /// One page on its way: WebGPU copies from one buffer to another only.
    scratch: wgpu::Buffer,
}

/// What a batch asks of the cache before it runs.
#[derive(Debug, Default)]
pub struct Reserved {
    /// Pages to be copied, each from one number to another, in this order.
    copies: Vec<[u32; 2]>,
    /// Whether keys and values lie in other buffers now.
    pub moved: bool,
}

impl PagedCache {
    /// `None` where no buffer of this device could hold the pages of one sequence.
    pub fn new(
        buffers: &Buffers<'_>,
        config: &ModelConfig,
        limits: &Limits,
        shape: AttentionShape,
        largest_buffer: u64,
    ) -> Option<Self> {
        let page_words = shape.cache_words(PAGE * config.kv_heads * config.head_dim);
        let sequence_pages = pages_of(limits.context);
        let largest = largest_buffer / (page_words as u64 * 4);
        let most = (largest as usize).min(limits.sequences * sequence_pages);
        let capacity = STEP.min(most);
        let pools = |label| pools(buffers, label, config.layers, capacity * page_words);
        let table = PageTable::new(limits.sequences);
        (most >= sequence_pages).then(|| Self {
            before: table.clone(),
            table,
            words: vec![0; limits.sequences * sequence_pages],
            sequence_pages,
            page_words,
            capacity,
            most,
            keys: pools("keys"),
            values: pools("values"),
            table_buffer: buffers.storage("pages", limits.sequences * sequence_pages),
            scratch: buffers.storage("page", page_words),
        })
    }

    /// The buffer in a slot; `None` where it is no part of the cache.
    pub fn slot(&self, slot: Slot) -> Option<&wgpu::Buffer> {
        match slot {
            Slot::Keys(block) => Some(&self.keys[block]),
            Slot::Values(block) => Some(&self.values[block]),
            Slot::Pages => Some(&self.table_buffer),
            _ => None,
        }
    }

    /// The page that holds the position of a row.
    pub fn page(&self, row: &Row) -> u32 {
        self.table.page(row.sequence, row.position)
    }

    /// See [`crate::executor::Execute::fork`].
    pub fn fork(&mut self, from: SequenceIndex, to: SequenceIndex, length: usize) {
        self.table.fork(from, to, length);
    }

    /// Finds a page for every row of `batch`.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`] where the pool has to grow and cannot; then nothing was changed.
    pub async fn reserve(
        &mut self,
        device: &Device,
        batch: &Batch,
    ) -> Result<Reserved, EngineError> {
        self.before.clone_from(&self.table);
        let mut reserved = Reserved::default();
        for row in &batch.rows {
            let Write { page, copy_of } = self.table.write(row.sequence, row.position);
            reserved.copies.extend(copy_of.map(|source| [source, page]));
        }
        if self.table.pool() > self.capacity {
            let grown = self.grow(device, self.table.pool()).await;
            if grown.is_err() {
                self.table.clone_from(&self.before);
            }
            grown?;
            reserved.moved = true;
        }
        self.upload(device);
        Ok(reserved)
    }

    /// Moves the cache into pools with room for at least `pages` pages.
    async fn grow(&mut self, device: &Device, pages: usize) -> Result<(), EngineError> {
        let what = format!("the keys and values of {} tokens", pages * PAGE);
        if pages > self.most {
            return Err(EngineError::OutOfMemory { what });
        }
        let capacity = (pages.max(self.capacity + STEP)).min(self.most);
        let (blocks, words) = (self.keys.len(), capacity * self.page_words);
        let buffers = Buffers::new(&device.device);
        let make = || ["keys", "values"].map(|label| pools(&buffers, label, blocks, words));
        let [keys, values] = device.allocate(&what, make).await?;
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let old = self.keys.iter().chain(&self.values);
        for (old, new) in old.zip(keys.iter().chain(&values)) {
            encoder.copy_buffer_to_buffer(old, 0, new, 0, old.size());
        }
        device.queue.submit([encoder.finish()]);
        // The device frees them when what was submitted is done; a browser would wait for its collector otherwise.
        self.keys
            .iter()
            .chain(&self.values)
            .for_each(wgpu::Buffer::destroy);
        (self.keys, self.values, self.capacity) = (keys, values, capacity);
        Ok(())
    }

    /// Tells the device what changed of the table.
    fn upload(&mut self, device: &Device) {
        let (mut first, mut end) = (usize::MAX, 0);
        for (sequence, words) in (0..).zip(self.words.chunks_mut(self.sequence_pages)) {
            let pages = self.table.pages(SequenceIndex(sequence));
            for (index, (word, page)) in words.iter_mut().zip(pages).enumerate() {
                if word != page {
                    *word = *page;
                    let at = sequence as usize * self.sequence_pages + index;
                    (first, end) = (first.min(at), at + 1);
                }
            }
        }
        if first < end {
            let changed = bytemuck::cast_slice(&self.words[first..end]);
            let at = first as u64 * 4;
            device.queue.write_buffer(&self.table_buffer, at, changed);
        }
    }

    /// Records the copies of pages that a batch writes into and others hold, too.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, reserved: &Reserved) {
        let bytes = self.page_words as u64 * 4;
        for places in &reserved.copies {
            for pool in self.keys.iter().chain(&self.values) {
                let [from, to] = places.map(|page| u64::from(page) * bytes);
                encoder.copy_buffer_to_buffer(pool, from, &self.scratch, 0, bytes);
                encoder.copy_buffer_to_buffer(&self.scratch, 0, pool, to, bytes);
            }
        }
    }
}

fn pools(buffers: &Buffers<'_>, label: &str, blocks: usize, words: usize) -> Vec<wgpu::Buffer> {
    (0..blocks).map(|_| buffers.storage(label, words)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::stand_in::published_shapes;
    use crate::executor::{Head, TokenSource};
    use crate::gpu::Assumptions;
    use crate::gpu::variant::Workgroups;
    use crate::index::{Position, TokenId};
    use crate::types::Precision;
    use pollster::block_on;

    fn batch(sequence: u32, positions: std::ops::Range<u32>) -> Batch {
        let row = |position| Row {
            sequence: SequenceIndex(sequence),
            position: Position(position),
            token: TokenSource::Id(TokenId(0)),
            change: None,
            want: Head::Skip.into(),
        };
        Batch {
            rows: positions.map(row).collect(),
        }
    }

    #[test]
    fn where_the_pool_cannot_grow_it_is_said_and_nothing_is_lost() {
        let (_, config) = published_shapes().next().unwrap();
        let limits = Limits {
            rows: 2048,
            head_rows: 1,
            sequences: 2,
            context: 1280,
            change_slots: 1,
            in_flight: 1,
        };
        let device = block_on(Device::open(Assumptions::default())).unwrap();
        let buffers = Buffers::new(&device.device);
        let shape = AttentionShape::of(&config, Precision::Exact, Workgroups::Wide);
        let page = PAGE * config.kv_heads * config.head_dim * 4;
        let new = |pages| PagedCache::new(&buffers, &config, &limits, shape, pages * page as u64);
        assert!(new(19).is_none(), "one sequence has 20 pages");
        let mut cache = new(20).unwrap();
        let reserve =
            |cache: &mut PagedCache, batch: &Batch| block_on(cache.reserve(&device, batch));
        assert!(!reserve(&mut cache, &batch(0, 0..1024)).unwrap().moved);
        assert!(reserve(&mut cache, &batch(1, 0..256)).unwrap().moved);
        for _ in 0..2 {
            let told = reserve(&mut cache, &batch(0, 1024..1088)).unwrap_err();
            let told = told.to_string();
            assert!(told.contains("keys and values of 1344 tokens"), "{told}");
        }
        assert_eq!(cache.table.pages(SequenceIndex(0)).len(), 16);
        cache.fork(SequenceIndex(1), SequenceIndex(1), 0);
        assert!(!reserve(&mut cache, &batch(0, 1024..1088)).unwrap().moved);
        device.check("the cache").unwrap();
    }
}
