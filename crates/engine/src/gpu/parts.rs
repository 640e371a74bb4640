//! How a batch of few rows is taken apart, so that a block needs four dispatches (`shaders/include/parts.wgsl`).

use super::attention::AttentionShape;
use super::layout::TILE;
use super::shader::{Constants, constants};
use super::variant::Workgroups;
use crate::executor::Batch;
use crate::types::Precision;
use trimtab_checkpoint::ModelConfig;

/// Splits of a head's keys at most, and the keys at which there is one more. A software adapter has none: its few threads
/// have enough to do with a workgroup for each key/value head, and would pay for adding more parts up.
const SPLITS: usize = 8;
const SPLIT_KEYS: usize = 512;
/// Every part is read again by whoever needs the whole row: more of them than these do not pay.
const FEED_FORWARD_PARTS: usize = 24;
/// A software adapter has a handful of threads and pays for every load; fewer workgroups share more of them.
const NARROW_FEED_FORWARD_PARTS: usize = 8;
/// Pairs of tiles that a wide workgroup of the feed-forward part may make; its accumulators lie in registers.
const MOST_TILES: usize = 4;
/// Bytes of workgroup memory that WebGPU promises.
pub const WORKGROUP_BYTES: usize = 16_384;

/// Rows of the widest such batch, and of one workgroup of its feed-forward part.
pub const FEW_ROWS: usize = 4;
const WIDEST: usize = 2;

/// Columns of the residual stream that an invocation adds up side by side.
const MOST_COLUMNS: usize = 9;

/// How many columns each of `lanes` invocations adds up at once.
pub const fn columns(d: usize, lanes: usize) -> usize {
    let all = d.div_ceil(lanes);
    if all < MOST_COLUMNS {
        all
    } else {
        MOST_COLUMNS
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Workgroups that a row's heads take, for each split of their keys.
    pub groups: usize,
    splits: usize,
    d: usize,
    feed_forward: usize,
    /// Pairs of tiles that a workgroup of the feed-forward part makes.
    pub tiles: u32,
}

impl Parts {
    /// `None` where the model is too wide for a workgroup to hold its rows: then the projections stay apart.
    pub fn of(
        config: &ModelConfig,
        precision: Precision,
        workgroups: Workgroups,
        attention: AttentionShape,
    ) -> Option<Self> {
        let pair_tiles = config.ffn_size.div_ceil(TILE);
        let (most, splits) = match workgroups {
            Workgroups::Narrow => (NARROW_FEED_FORWARD_PARTS, 1),
            Workgroups::Wide => (FEED_FORWARD_PARTS, SPLITS),
        };
        let tiles = pair_tiles.div_ceil(most);
        let (d, groups) = (config.hidden_size, config.heads / attention.together);
        let numbers = d.max(tiles * TILE);
        let block_bytes = match precision {
            Precision::Exact => 4 * 32 + 32,
            Precision::Fast => 32 + 32,
        };
        let row_bytes =
            4 * (numbers + attention.lanes + 1 + groups * splits) + numbers / 32 * block_bytes;
        let registers = workgroups == Workgroups::Narrow || tiles <= MOST_TILES;
        let fits = registers && WIDEST * row_bytes <= WORKGROUP_BYTES;
        fits.then_some(Self {
            groups,
            splits,
            d,
            feed_forward: pair_tiles.div_ceil(tiles),
            tiles: tiles as u32,
        })
    }

    /// Parts that the boundary after a block adds to a row whose keys fall into `splits`.
    pub fn of_a_row(&self, splits: u32) -> usize {
        self.groups * splits as usize + self.feed_forward
    }

    /// Words behind the rows of the residual stream.
    pub fn words(&self) -> usize {
        let attention = self.groups * self.splits;
        FEW_ROWS * ((attention + self.feed_forward) * self.d + attention)
    }

    pub fn constants(&self) -> Constants {
        constants! {
            groups: self.groups,
            splits: self.splits,
            split_keys: SPLIT_KEYS,
            feed_forward_parts: self.feed_forward,
            few_rows: FEW_ROWS,
        }
    }

    /// Numbers by which readers weigh the parts of attention of a row.
    pub fn shares(&self) -> usize {
        self.groups * self.splits
    }

    /// Splits of the row with most of them.
    pub fn splits(&self, batch: &Batch) -> u32 {
        let of_row = |position: usize| (position / SPLIT_KEYS + 1).min(self.splits) as u32;
        let rows = batch.rows.iter();
        rows.map(|row| of_row(row.position.0 as usize))
            .max()
            .unwrap_or(1)
    }
}
