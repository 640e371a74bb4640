//! How attention goes about its work: what the cache holds, and how many heads a workgroup takes (`shaders/attend.wgsl`).

use crate::engine::Precision;
use minijinja::{Value, context};
use trimtab_checkpoint::ModelConfig;

/// What WebGPU promises a workgroup, less what the kernels keep there beside attention.
const WORKGROUP_BYTES: usize = 16_384 - 512;
/// Keys between two looks at the largest score.
const CHUNKS: [usize; 2] = [512, 256];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads that one workgroup takes; all belong to one key/value head.
    pub together: usize,
    chunk: usize,
    /// Whether keys and values are kept as f16, two to a word.
    half_cache: bool,
}

impl AttentionShape {
    /// Rounding the cache to f16 is far below that of 8-bit activations, and far above what "exact" promises. A software
    /// adapter has few threads and pays for every load: there, heads share the keys that they read.
    pub fn of(config: &ModelConfig, precision: Precision, software: bool) -> Self {
        let half_cache = precision == Precision::Fast && config.head_dim.is_multiple_of(8);
        let group = config.heads / config.kv_heads;
        let most = if software { group } else { 1 };
        let sum_bytes = if half_cache { 32 } else { 16 };
        let fits = |together: usize, chunk: usize| {
            let numbers = chunk + 64 + config.head_dim;
            let blocks = config.head_dim / 32 * (4 * 32 + 32);
            together * (4 * numbers + 64 * sum_bytes + blocks) <= WORKGROUP_BYTES
        };
        (1..=most)
            .rev()
            .filter(|together| group.is_multiple_of(*together))
            .flat_map(|together| CHUNKS.map(|chunk| (together, chunk)))
            .find(|&(together, chunk)| fits(together, chunk))
            .map_or(
                Self {
                    together: 1,
                    chunk: CHUNKS[1],
                    half_cache,
                },
                |(together, chunk)| Self {
                    together,
                    chunk,
                    half_cache,
                },
            )
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

    pub fn variables(&self) -> Value {
        context! { together => self.together, chunk => self.chunk, half_cache => self.half_cache }
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
        let of = |heads, kv_heads, head_dim, software| {
            AttentionShape::of(
                &config(heads, kv_heads, head_dim),
                Precision::Fast,
                software,
            )
        };
        assert_eq!(of(9, 3, 64, true).together, 3);
        assert_eq!(of(9, 3, 64, false).together, 1);
        // Seven heads a key/value head do not fit, and nothing between divides them.
        assert_eq!(of(14, 2, 64, true).together, 1);
        assert_eq!(of(32, 8, 64, true).together, 4);
        assert_eq!(of(8, 1, 256, true).together, 2);
    }

    #[test]
    fn only_fast_caches_are_halved() {
        let cache =
            |precision| AttentionShape::of(&config(9, 3, 64), precision, false).cache_words(64);
        assert_eq!(cache(Precision::Fast), 32);
        assert_eq!(cache(Precision::Exact), 64);
    }
}
