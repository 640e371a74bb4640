//! A small random model with the shapes and stored forms of a real one: what an executor is checked and timed
//! with before the real one's weights are there.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::gpu::Assumptions;
use crate::gpu::variant::Variant;
use crate::sampling::pcg;
use crate::types::{Backend, EngineOptions, Precision};
use half::{bf16, f16};
use trimtab_checkpoint::encoding::{BLOCK, Values};
use trimtab_checkpoint::family::{Family, ModelWeight, WeightRole};
use trimtab_checkpoint::{ByteSource, Encoding, ModelConfig, WeightFile};

/// Blocks, where the real model does not have more kinds of them.
const BLOCKS: usize = 2;
/// Kinds of blocks that are told apart.
const MAX_KINDS: usize = 8;
const VOCAB: usize = 1024;
const CONTEXT: usize = 128;
/// Sequences of an engine that holds a stand-in.
const SEQUENCES: usize = 3;
/// Weights of one block. A model with larger ones is stood in for by narrower ones, with the same heads' width and
/// as many query heads to a key/value head.
const BLOCK_WEIGHTS: usize = 4_000_000;

/// How the matrices of a model are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forms {
    embedding: Encoding,
    head: Encoding,
    /// One entry for each kind of block: its matrices, in the order of their use.
    blocks: Vec<Vec<Encoding>>,
}

impl Forms {
    /// Forms of models as `trimtab convert --quant q4` writes them: the likely ones before the file's header is there.
    pub fn usual() -> Self {
        Self {
            embedding: Encoding::Q8_0,
            head: Encoding::Q8_0,
            blocks: vec![vec![Encoding::Q4_1; 7]],
        }
    }

    pub fn of<S: ByteSource>(
        file: &WeightFile<S>,
        config: &ModelConfig,
    ) -> Result<Self, EngineError> {
        let tensors = Family::of(config)?.tensors(config);
        let encoding = |tensor: &ModelWeight| file.holder(tensor).map(|stored| stored.encoding);
        let of_role = |role| {
            let mut tensors = tensors.iter().filter(|tensor| tensor.role == role);
            tensors.next().map(encoding).transpose()
        };
        let embedding = of_role(WeightRole::Embedding)?.unwrap_or(Encoding::F32);
        let mut blocks = Vec::new();
        for block in 0..config.layers {
            let kind = matrices_of(&tensors, Some(block))
                .map(encoding)
                .collect::<Result<_, _>>()?;
            if !blocks.contains(&kind) && blocks.len() < MAX_KINDS {
                blocks.push(kind);
            }
        }
        Ok(Self {
            embedding,
            head: of_role(WeightRole::OutputHead)?.unwrap_or(embedding),
            blocks,
        })
    }
}

/// The matrices of a block, or those outside blocks, in the order of their use.
fn matrices_of(
    tensors: &[ModelWeight],
    block: Option<usize>,
) -> impl Iterator<Item = &ModelWeight> {
    let own = tensors.iter().filter(move |tensor| tensor.block == block);
    own.filter(|tensor| !tensor.vector)
}

#[derive(Debug)]
pub struct StandIn {
    pub config: ModelConfig,
    pub weights: WeightFile<Vec<u8>>,
    /// How many times as many multiply-adds a token of the real model takes.
    pub work: f64,
}

/// Published shapes of the llama family, by the name of a model that has them: hidden size, layers, heads, key/value heads,
/// feed-forward size, vocabulary.
const SHAPES: [(&str, [usize; 6]); 4] = [
    ("SmolLM2-135M", [576, 30, 9, 3, 1536, 49_152]),
    ("SmolLM2-360M", [960, 32, 15, 5, 2560, 49_152]),
    ("Qwen2.5-0.5B", [896, 24, 14, 2, 4864, 151_936]),
    ("TinyLlama-1.1B", [2048, 22, 32, 4, 5632, 32_000]),
];

/// Models to compare sizes by, the smallest first; only the widths are theirs.
pub fn published_shapes() -> impl Iterator<Item = (&'static str, ModelConfig)> {
    SHAPES.into_iter().map(|(name, shape)| {
        let [hidden_size, layers, heads, kv_heads, ffn_size, vocab_size] = shape;
        let config = ModelConfig {
            hidden_size,
            layers,
            heads,
            kv_heads,
            head_dim: hidden_size / heads,
            ffn_size,
            vocab_size,
            ..ModelConfig::from_json(ANY_LLAMA).expect("the constant below is a llama's")
        };
        (name, config)
    })
}

const ANY_LLAMA: &[u8] = br#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536,
    "vocab_size": 49152, "rms_norm_eps": 1e-5, "rope_theta": 1e5, "max_position_embeddings": 2112, "tie_word_embeddings": true,
    "eos_token_id": 2}"#;

impl StandIn {
    /// A stand-in of the real model's own size, for timing what is not at hand.
    pub async fn whole(real: &ModelConfig, forms: &Forms) -> Result<Self, EngineError> {
        let weights = write(real, forms)?;
        Ok(Self {
            weights: WeightFile::open(weights).await?,
            config: real.clone(),
            work: 1.0,
        })
    }

    /// The same for the same arguments, everywhere.
    pub async fn new(real: &ModelConfig, forms: &Forms) -> Result<Self, EngineError> {
        let config = smaller(real, forms.blocks.len());
        let weights = write(&config, forms)?;
        Ok(Self {
            work: multiply_adds(real) / multiply_adds(&config),
            weights: WeightFile::open(weights).await?,
            config,
        })
    }

    /// An engine that holds it.
    pub(super) async fn load(
        &self,
        backend: Backend,
        precision: Precision,
        variant: Option<Variant>,
    ) -> Result<Engine, EngineError> {
        let options = EngineOptions {
            backend,
            precision,
            context: None,
            sequences: SEQUENCES,
        };
        let assumptions = Assumptions {
            variant,
            ..Assumptions::default()
        };
        let (config, weights) = (&self.config, &self.weights);
        Engine::load_assuming(config, weights, options, assumptions, &mut |_| {}).await
    }
}

fn smaller(real: &ModelConfig, kinds: usize) -> ModelConfig {
    let mut config = ModelConfig {
        layers: BLOCKS.max(kinds).min(real.layers),
        vocab_size: VOCAB.min(real.vocab_size),
        context: CONTEXT.min(real.context),
        end_tokens: Vec::new(),
        // A block of each kind, and a window that hides something.
        sliding_window: real.sliding_window.map(|_| CONTEXT / 2),
        slides: of_each_kind(&real.slides),
        positionless: of_each_kind(&real.positionless),
        ..real.clone()
    };
    let half = |width: usize| (width / 2).next_multiple_of(BLOCK);
    while block_weights(&config) > BLOCK_WEIGHTS && config.hidden_size > BLOCK {
        let group = config.heads / config.kv_heads;
        config.kv_heads = config.kv_heads.div_ceil(2);
        config.heads = config.kv_heads * group;
        config.hidden_size = half(config.hidden_size);
        config.ffn_size = half(config.ffn_size);
    }
    config
}

/// What a list says of blocks, so that already the first two differ where any do.
fn of_each_kind(blocks: &[bool]) -> Vec<bool> {
    match blocks.contains(&true) && blocks.contains(&false) {
        true => (0..blocks.len()).map(|block| block % 2 == 0).collect(),
        false => blocks.to_vec(),
    }
}

fn block_weights(config: &ModelConfig) -> usize {
    let attention = 2 * (config.heads + config.kv_heads) * config.head_dim;
    config.hidden_size * (attention + 3 * config.ffn_size)
}

fn multiply_adds(config: &ModelConfig) -> f64 {
    let head = config.vocab_size * config.hidden_size;
    config.layers as f64 * block_weights(config) as f64 + head as f64
}

/// Pseudo-random words and numbers.
struct Noise(u32);

impl Noise {
    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1);
        pcg(self.0)
    }

    /// In −1..1.
    fn number(&mut self) -> f32 {
        (self.word() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(4))
            .flat_map(|_| self.word().to_le_bytes())
            .take(count)
            .collect()
    }

    fn numbers<const N: usize>(
        &mut self,
        count: usize,
        encode: impl Fn(f32) -> [u8; N],
    ) -> Vec<u8> {
        (0..count).flat_map(|_| encode(self.number())).collect()
    }

    /// f16 numbers near `base`.
    fn halves(&mut self, count: usize, base: f32) -> Vec<u8> {
        self.numbers(count, |x| {
            f16::from_f32(base * (1.0 + 0.3 * x)).to_le_bytes()
        })
    }
}

/// A safetensors file in the making. Names are the program's own, so that JSON needs no escapes.
struct File {
    header: String,
    data: Vec<u8>,
    noise: Noise,
}

impl File {
    fn part(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        let end = self.data.len();
        self.header += &format!(
            r#","{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        );
    }

    /// Gains around one, biases around zero.
    fn vector(&mut self, tensor: &ModelWeight) {
        let (centre, half) = match tensor.name.ends_with(".bias") {
            true => (0.0, 1.0),
            false => (1.0 - tensor.above_stored, 0.5),
        };
        let bytes = self
            .noise
            .numbers(tensor.cols, |x| (centre + half * x).to_le_bytes());
        self.part(&tensor.name, "F32", &[tensor.cols], &bytes);
    }

    /// Entries have a deviation near `1 / √cols`, so that no layer's output vanishes or overflows.
    fn matrix(&mut self, tensor: &ModelWeight, encoding: Encoding) {
        let (name, rows, cols) = (&tensor.name, tensor.rows, tensor.cols);
        let spread = 1.7 / (cols as f32).sqrt();
        let shape = [rows, cols];
        let noise = &mut self.noise;
        let count = rows * cols;
        let Some(form) = encoding.block() else {
            let (dtype, bytes) = match encoding {
                Encoding::F16 => {
                    let encode = |x| f16::from_f32(x * spread).to_le_bytes();
                    ("F16", noise.numbers(count, encode))
                }
                Encoding::Bf16 => {
                    let encode = |x| bf16::from_f32(x * spread).to_le_bytes();
                    ("BF16", noise.numbers(count, encode))
                }
                _ => ("F32", noise.numbers(count, |x| (x * spread).to_le_bytes())),
            };
            self.part(name, dtype, &shape, &bytes);
            return;
        };
        let largest = match form.values {
            Values::Table(_) => 127.0,
            _ if form.bits == 8 => 127.0,
            _ => f32::from(1_u8 << (form.bits - 1)),
        };
        let (width, scales) = (encoding.data_bytes(cols), encoding.scales(cols));
        let data = noise.bytes(rows * width);
        let halves = noise.halves(rows * scales, spread / largest);
        let minima = match form.bits {
            // No random numbers, so that every other tensor keeps its own.
            8 => Vec::new(),
            _ => noise.halves(rows * cols / BLOCK, -spread),
        };
        self.part(
            &format!("{name}.{}", form.part),
            "U8",
            &[rows, width],
            &data,
        );
        self.part(&format!("{name}.scale"), "F16", &[rows, scales], &halves);
        if encoding.has_min() {
            let shape = [rows, encoding.minima(cols)];
            self.part(&format!("{name}.min"), "F16", &shape, &minima);
        }
    }

    fn bytes(self) -> Vec<u8> {
        let header = self.header + "}";
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(self.data);
        bytes
    }
}

fn write(config: &ModelConfig, forms: &Forms) -> Result<Vec<u8>, EngineError> {
    let mut file = File {
        header: r#"{"__metadata__":{"trimtab_layout":"2"}"#.to_owned(),
        data: Vec::new(),
        noise: Noise(0),
    };
    let tensors = Family::of(config)?.tensors(config);
    let vectors_of = |block: Option<usize>| {
        let own = tensors.iter().filter(move |tensor| tensor.block == block);
        own.filter(|tensor| tensor.vector)
    };
    for matrix in matrices_of(&tensors, None) {
        let encoding = match matrix.role {
            WeightRole::Embedding => forms.embedding,
            WeightRole::OutputHead => forms.head,
            _ => Encoding::F32,
        };
        file.matrix(matrix, encoding);
    }
    // The order decides which random numbers each tensor gets, and with them which faults the self-check can tell from rounding:
    // `shaders/sabotage.json` is held against this one.
    vectors_of(None).for_each(|vector| file.vector(vector));
    for (block, kind) in (0..config.layers).zip(forms.blocks.iter().cycle()) {
        let is_bias = |vector: &&ModelWeight| vector.name.ends_with(".bias");
        let (biases, gains): (Vec<_>, Vec<_>) = vectors_of(Some(block)).partition(is_bias);
        gains.into_iter().for_each(|gain| file.vector(gain));
        for (matrix, encoding) in matrices_of(&tensors, Some(block)).zip(kind) {
            file.matrix(matrix, *encoding);
        }
        biases.into_iter().for_each(|bias| file.vector(bias));
    }
    Ok(file.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_models_are_stood_in_for_by_narrow_ones_with_the_same_heads() {
        let config = ModelConfig::from_json(
            br#"{"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu"}"#,
        )
        .unwrap();
        let forms = Forms {
            blocks: [Encoding::Q4_0, Encoding::Q8_0, Encoding::F16]
                .map(|form| vec![form; 7])
                .into(),
            ..Forms::usual()
        };
        let stand_in = pollster::block_on(StandIn::new(&config, &forms)).unwrap();
        let small = &stand_in.config;
        assert!(block_weights(small) <= BLOCK_WEIGHTS);
        assert_eq!((small.head_dim, small.heads / small.kv_heads), (64, 4));
        assert_eq!(small.layers, 3, "one block of every kind");
        assert_eq!(Forms::of(&stand_in.weights, small).unwrap(), forms);
        assert!(stand_in.work > 100.0, "{}", stand_in.work);
    }
}
