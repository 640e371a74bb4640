// The residual stream of a batch of few rows, added up of its parts.
//
// Such a batch leaves its changes of the residual stream as parts that the next reader adds up: one part a group of heads (and
// split of its keys) of the attention's output, one part a workgroup of the feed-forward part. They lie behind the rows in the
// buffer `residual`:
//
//     PARTS_AT   [few rows, PARTS, d] f32: groups · splits parts of attention (split by split), then those of the feed-forward part
//     SUMS_AT    [few rows, splits, groups] f32: the logarithm of the sum of exp(score) over a split's keys
//
// A group is the heads of one workgroup; where keys are split it is one head. A head's splits are means over their own keys;
// each counts by its share of that sum.

const GROUPS: u32 = {{groups}};
const SPLITS: u32 = {{splits}};
const SPLIT_KEYS: u32 = {{split_keys}};
const FEED_FORWARD: u32 = GROUPS * SPLITS;
const PARTS: u32 = FEED_FORWARD + {{feed_forward_parts}};
const PARTS_AT: u32 = MAX_ROWS * D;
const SUMS_AT: u32 = PARTS_AT + {{few_rows}} * PARTS * D;

// Into how many splits the keys of a row at this position fall.
fn splits_at(position: u32) -> u32 {
    return min(SPLITS, position / SPLIT_KEYS + 1u);
}
