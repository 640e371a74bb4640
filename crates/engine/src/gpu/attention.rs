//! How attention goes about its work: the numbers that the cache holds, and the heads of a workgroup (`shaders/include/attend.wgsl`).

use super::shader::{Constants, constants};
use super::variant::Workgroups;
use crate::types::Precision;
use trimtab_checkpoint::ModelConfig;

/// Bytes that WebGPU promises a workgroup, less those that the kernels keep there beside attention.
const WORKGROUP_BYTES: usize = 16_384 - 512;
/// Keys between two looks at the largest score. Browsers clear workgroup memory before a workgroup begins, which a software
/// adapter does number by number for every few invocations: it is given less.
const CHUNKS: [usize; 2] = [512, 256];
const NARROW_CHUNKS: [usize; 1] = [128];
/// Invocations of a workgroup.
const LANES: usize = 64;
const NARROW_LANES: usize = 16;
/// Keys of an invocation that share the queries it loads.
const LANE_KEYS: usize = 2;
const NARROW_LANE_KEYS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads that one workgroup takes; all belong to one key/value head.
    pub together: usize,
    /// Invocations of a workgroup, here and in the other kernels between the projections.
    pub lanes: usize,
    lane_keys: usize,
    chunk: usize,
    /// Whether keys and values are kept as f16, two to a word.
    pub half_cache: bool,
}

impl AttentionShape {
    /// Rounding the cache to f16 is far below that of 8-bit activations, and far above what "exact" promises. A software
    /// adapter has few threads and pays for every load: there, heads share the keys that they read.
    pub fn of(config: &ModelConfig, precision: Precision, workgroups: Workgroups) -> Self {
        let half_cache = precision == Precision::Fast && config.head_dim.is_multiple_of(8);
        let group = config.heads / config.kv_heads;
        let sum_bytes = if half_cache { 32 } else { 16 };
        // A key's vectors lie one an invocation.
        let vectors = config.head_dim / if half_cache { 8 } else { 4 };
        let (most, lanes, lane_keys, chunks) = match workgroups {
            Workgroups::Narrow => {
                let lanes = NARROW_LANES.max(vectors.next_power_of_two()).min(LANES);
                (group, lanes, NARROW_LANE_KEYS, &NARROW_CHUNKS[..])
            }
            Workgroups::Wide => (1, LANES, LANE_KEYS, &CHUNKS[..]),
        };
        let fits = |together: usize, chunk: usize| {
            let numbers = chunk + lanes + config.head_dim;
            let blocks = config.head_dim / 32 * (4 * 32 + 32);
            together * (4 * numbers + lanes * sum_bytes + blocks) <= WORKGROUP_BYTES
        };
        let (together, chunk) = (1..=most)
            .rev()
            .filter(|together| group.is_multiple_of(*together))
            .flat_map(|together| chunks.iter().map(move |chunk| (together, *chunk)))
            .find(|&(together, chunk)| fits(together, chunk))
            .unwrap_or((1, chunks[chunks.len() - 1]));
        Self {
            together,
            lanes,
            lane_keys,
            chunk: chunk.max(lanes * lane_keys),
            half_cache,
        }
    }

    /// Bytes of a cached number.
    pub fn number_bytes(&self) -> f64 {
        match self.half_cache {
            true => 2.0,
            false => 4.0,
        }
    }

    /// 32-bit words that `numbers` keys or values take.
    pub fn cache_words(&self, numbers: usize) -> usize {
        match self.half_cache {
            true => numbers / 2,
            false => numbers,
        }
    }

    /// The constants of `shaders/include/cache.wgsl`.
    pub fn cache_constants(&self) -> Constants {
        constants! { half_cache: self.half_cache, spread: if self.half_cache { 2 } else { 1 } }
    }

    /// The constants of `shaders/include/attend.wgsl`.
    pub fn constants(&self) -> Constants {
        constants! {
            together: self.together,
            lanes: self.lanes,
            lane_keys: self.lane_keys,
            chunk: self.chunk,
        }
        .and(self.cache_constants())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(heads: usize, kv_heads: usize, head_dim: usize) -> ModelConfig {
        let json = format!(
            r#"{{"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 2, "num_attention_heads": {heads},
            "num_key_value_heads": {kv_heads}, "head_dim": {head_dim}, "intermediate_size": 1536, "vocab_size": 300,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
            "hidden_act": "silu", "eos_token_id": 2}}"#
        );
        ModelConfig::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn heads_share_keys_on_software_adapters_as_far_as_memory_goes() {
        let of = |heads, kv_heads, head_dim, workgroups| {
            AttentionShape::of(
                &config(heads, kv_heads, head_dim),
                Precision::Fast,
                workgroups,
            )
        };
        assert_eq!(of(9, 3, 64, Workgroups::Narrow).together, 3);
        assert_eq!(of(9, 3, 64, Workgroups::Wide).together, 1);
        assert_eq!(of(14, 2, 64, Workgroups::Narrow).together, 7);
        // Eight wide heads a key/value head do not fit.
        assert_eq!(of(8, 1, 256, Workgroups::Narrow).together, 4);
    }

    #[test]
    fn a_key_has_no_more_vectors_than_a_workgroup_has_invocations() {
        for (head_dim, lanes) in [(64, 16), (96, 32), (128, 32), (256, 64)] {
            let config = config(4, 2, head_dim);
            let shape = AttentionShape::of(&config, Precision::Exact, Workgroups::Narrow);
            assert_eq!(shape.lanes, lanes, "{head_dim}");
        }
    }

    #[test]
    fn only_fast_caches_are_halved() {
        let cache = |precision| {
            AttentionShape::of(&config(9, 3, 64), precision, Workgroups::Wide).cache_words(64)
        };
        assert_eq!(cache(Precision::Fast), 32);
        assert_eq!(cache(Precision::Exact), 64);
    }
}
