//! What a model takes of memory, and whether there is so much: told from names and shapes, before any weight is read.

use crate::error::EngineError;
use crate::gpu;
use crate::op::ForwardPass;
use crate::types::{Backend, Precision};
use std::fmt;
use trimtab_checkpoint::family::ModelWeight;
use trimtab_checkpoint::{ByteSource, Encoding, ModelConfig, WeightFile};

/// How a weight is stored.
pub type Encodings<'a> = dyn Fn(&ModelWeight) -> Result<Encoding, EngineError> + 'a;

/// The shortest context worth having when memory is short, in tokens.
pub const SHORTEST_CONTEXT: usize = 256;
/// The unsteered and the steered answer lie in memory together.
const CONVERSATIONS: u64 = 2;
/// Bytes that a program takes beside weights and cache: its tokenizer, a batch's values and logits. Beside a model of 1.5
/// billion parameters a browser was seen to take some 50 MB.
const BESIDE: u64 = 128 << 20;

/// The largest matrix that a graphics device has to bind whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LargestMatrix {
    pub name: String,
    pub bytes: u64,
}

/// Bytes that a model takes on one executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryNeeds {
    pub weights: u64,
    /// Without a name where nothing is bound.
    pub largest: LargestMatrix,
    /// Keys and values of one token.
    pub cache_per_token: u64,
    /// The part of a token's that lies in one buffer.
    pub pool_per_token: u64,
}

/// Memory that an executor has, in bytes; `None` where nobody says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryThere {
    /// For everything together.
    pub total: Option<u64>,
    /// Of one buffer that kernels read.
    pub largest_buffer: Option<u64>,
}

/// Why a model has no room, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    #[error("{}; choose one with fewer bits a number, or a smaller one", self.reason())]
    Total { needed: u64, there: u64 },
    #[error(
        "{}; choose the processor (CPU), or a form of the model with fewer bits a number",
        self.reason()
    )]
    Matrix {
        name: String,
        needed: u64,
        most: u64,
    },
}

impl Shortage {
    pub fn reason(&self) -> String {
        match self {
            Self::Total { needed, there } => {
                let (needed, there) = (Bytes(*needed), Bytes(*there));
                format!(
                    "the model takes {needed} with the shortest conversation, and there are {there}"
                )
            }
            Self::Matrix { name, needed, most } => {
                let (needed, most) = (Bytes(*needed), Bytes(*most));
                format!("{name} takes {needed} in one piece, and this graphics device takes {most}")
            }
        }
    }
}

/// A number of bytes as a person reads it: 1.6 GB, 386 MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            999_500_000.. => write!(f, "{:.1} GB", self.0 as f64 / 1e9),
            999_500.. => write!(f, "{:.0} MB", self.0 as f64 / 1e6),
            _ => write!(f, "{:.0} kB", self.0 as f64 / 1e3),
        }
    }
}

impl MemoryThere {
    /// Of this program: where addresses have 32 bits, as in WebAssembly, what they reach; elsewhere the system decides.
    pub fn of_this_program() -> Self {
        Self {
            total: (usize::BITS == 32).then_some(1 << 32),
            largest_buffer: None,
        }
    }
}

impl MemoryNeeds {
    /// What a model needs on `backend`. In f32 arithmetic, or where weights are not quantised, the cache is f32, too.
    ///
    /// # Errors
    /// Families that are not computed here, and weights whose form is not known.
    pub fn of(
        config: &ModelConfig,
        backend: Backend,
        precision: Precision,
        encodings: &Encodings<'_>,
    ) -> Result<Self, EngineError> {
        let pass = ForwardPass::of(config)?;
        let mut quantised = true;
        for id in pass.projections() {
            quantised &= encodings(pass.matrix(id))?.is_quantised();
        }
        let number = match backend {
            Backend::Reference => 4,
            // Wider heads are not kept as halves.
            _ if precision == Precision::Fast && quantised && config.head_dim <= 256 => 2,
            _ => 4,
        };
        let (weights, largest) = match backend {
            Backend::Gpu => gpu::bytes_of_weights(config, &pass, encodings)?,
            Backend::Cpu | Backend::Reference => {
                let mut bytes = 0;
                for weight in &pass.matrices {
                    bytes += row_bytes(encodings(weight)?, weight.cols) * weight.rows as u64;
                }
                let vectors = pass.vectors.iter().map(|vector| 4 * vector.cols as u64);
                (bytes + vectors.sum::<u64>(), LargestMatrix::default())
            }
        };
        let pool_per_token = config.kv_heads as u64 * config.head_dim as u64 * number;
        Ok(Self {
            weights,
            largest,
            cache_per_token: 2 * config.layers as u64 * pool_per_token,
            pool_per_token,
        })
    }

    /// The same of a weight file, of which the header alone is read.
    ///
    /// # Errors
    /// As [`Self::of`], and tensors that are missing.
    pub fn of_file<S: ByteSource>(
        config: &ModelConfig,
        backend: Backend,
        precision: Precision,
        file: &WeightFile<S>,
    ) -> Result<Self, EngineError> {
        let encoding = |weight: &ModelWeight| Ok(file.holder(weight)?.encoding);
        Self::of(config, backend, precision, &encoding)
    }

    /// Bytes with two conversations of so many tokens.
    pub fn with_context(&self, tokens: usize) -> u64 {
        let cache = CONVERSATIONS.saturating_mul(self.cache_per_token);
        let beside = self.weights.saturating_add(BESIDE);
        beside.saturating_add(cache.saturating_mul(tokens as u64))
    }

    /// The longest context that there is room for, in tokens; 0 where the weights alone have none.
    pub fn longest_context(&self, there: MemoryThere) -> usize {
        let tokens = |bytes: u64, per_token: u64| bytes.checked_div(per_token);
        let beside = self.weights.saturating_add(BESIDE);
        let by_total = there.total.and_then(|total| {
            let room = total.saturating_sub(beside);
            tokens(room, CONVERSATIONS.saturating_mul(self.cache_per_token))
        });
        let by_buffer = there.largest_buffer;
        let by_buffer = by_buffer.and_then(|most| tokens(most, self.pool_per_token));
        let longest = by_total.into_iter().chain(by_buffer).min();
        longest.map_or(usize::MAX, |tokens| {
            usize::try_from(tokens).unwrap_or(usize::MAX)
        })
    }

    /// Why the model does not fit, if it does not: with two conversations of [`SHORTEST_CONTEXT`], or of the model's own context
    /// where that is shorter.
    pub fn shortage(&self, there: MemoryThere) -> Option<Shortage> {
        let LargestMatrix { name, bytes } = &self.largest;
        if let Some(most) = there.largest_buffer.filter(|most| bytes > most) {
            let (name, needed) = (name.clone(), *bytes);
            return Some(Shortage::Matrix { name, needed, most });
        }
        let needed = self.with_context(SHORTEST_CONTEXT);
        let there = there.total.filter(|total| needed > *total)?;
        Some(Shortage::Total { needed, there })
    }
}

fn row_bytes(encoding: Encoding, cols: usize) -> u64 {
    let halves = encoding.scales(cols) + encoding.minima(cols);
    (encoding.data_bytes(cols) + 2 * halves) as u64
}

/// What somebody wants of a model that is not loaded yet.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `None`: the graphics device where there is a real one, else the processor.
    pub backend: Option<Backend>,
    pub precision: Precision,
    /// `None`: as much as the model was made for.
    pub context: Option<usize>,
}

/// What a machine has for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// The graphics device; `None` where there is none, or none that would be used.
    pub gpu: Option<MemoryThere>,
    pub cpu: MemoryThere,
    /// Bytes of memory of the whole machine, where it says.
    pub memory: Option<u64>,
}

impl Machine {
    /// Why no model whose weights are a file of so many bytes has room: what is made of a GGUF file is never smaller. A graphics
    /// device says nothing of its memory.
    pub fn shortage_for_file(&self, bytes: u64) -> Option<Shortage> {
        let needed = bytes.saturating_add(BESIDE);
        let there = self.cpu.total.filter(|total| needed > *total)?;
        self.gpu
            .is_none()
            .then_some(Shortage::Total { needed, there })
    }
}

/// Whether a model has room on a machine, in words for the person who is about to load it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub fits: bool,
    /// Bytes of the weights where the model would run.
    pub weights: u64,
    /// Bytes of one token of conversation there.
    pub cache_per_token: u64,
    /// Tokens that a conversation may have there.
    pub context: usize,
    /// What to know, and what to do where it does not fit.
    pub sentences: Vec<String>,
}

impl Room {
    /// # Errors
    /// As [`MemoryNeeds::of`].
    pub fn of(
        config: &ModelConfig,
        encodings: &Encodings<'_>,
        wanted: Wanted,
        machine: Machine,
    ) -> Result<Self, EngineError> {
        let needs = |backend| MemoryNeeds::of(config, backend, wanted.precision, encodings);
        let (on_gpu, on_cpu) = (needs(Backend::Gpu)?, needs(Backend::Cpu)?);
        let gpu_lacks = machine.gpu.map(|gpu| on_gpu.shortage(gpu));
        let cpu_lacks = on_cpu.shortage(machine.cpu);
        let mut sentences = Vec::new();
        let (there, needs, lacks) = match (wanted.backend, machine.gpu, gpu_lacks) {
            (Some(Backend::Gpu), gpu, lacks) => (gpu.unwrap_or_default(), on_gpu, lacks.flatten()),
            (None, Some(gpu), Some(None)) => {
                if let Some(shortage) = &cpu_lacks {
                    sentences.push(format!(
                        "Only the graphics device has room for it: on the processor, {}.",
                        shortage.reason()
                    ));
                }
                (gpu, on_gpu, None)
            }
            (None, Some(_), Some(Some(shortage))) if cpu_lacks.is_none() => {
                sentences.push(format!(
                    "It will run on the processor, more slowly: {}.",
                    shortage.reason()
                ));
                (machine.cpu, on_cpu, None)
            }
            _ => (machine.cpu, on_cpu, cpu_lacks),
        };
        let most = config.context.min(needs.longest_context(there));
        let context = wanted.context.map_or(most, |wanted| wanted.min(most));
        match &lacks {
            Some(shortage) => sentences.push(format!("It does not fit: {shortage}.")),
            None if context < wanted.context.unwrap_or(config.context).min(config.context) => {
                let made_for = match wanted.context {
                    Some(wanted) => format!("{wanted} were chosen"),
                    None => format!("it was made for {}", config.context),
                };
                sentences.push(format!(
                    "There is room for conversations of {context} tokens; {made_for}."
                ));
            }
            None => {}
        }
        let taken = needs.with_context(context.min(SHORTEST_CONTEXT));
        if let Some(memory) = machine
            .memory
            .filter(|memory| lacks.is_none() && taken > memory / 2)
        {
            sentences.push(format!(
                "It takes {}, more than half of the {} that this machine says it has: close other programs first, or choose a smaller model.",
                Bytes(taken), Bytes(memory)
            ));
        }
        Ok(Self {
            fits: lacks.is_none(),
            weights: needs.weights,
            cache_per_token: needs.cache_per_token,
            context,
            sentences,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::weights::Weights;
    use pollster::block_on;
    use std::path::Path;

    /// The tiny checkpoint of each family, in the same order every time.
    pub(crate) fn families() -> Vec<(String, ModelConfig, WeightFile<Vec<u8>>)> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/families");
        let directories = std::fs::read_dir(all).unwrap();
        let mut paths: Vec<_> = directories.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 9);
        let opened = paths.iter().map(|path| {
            let read = |name: &str| std::fs::read(path.join(name)).unwrap();
            let file = block_on(WeightFile::open(read("model.safetensors"))).unwrap();
            let config = ModelConfig::from_json(&read("config.json")).unwrap();
            (path.display().to_string(), config, file)
        });
        opened.collect()
    }

    /// Qwen2.5-1.5B's shape, in blocks of 4 bits.
    fn large() -> ModelConfig {
        let json = br#"{"model_type": "qwen2", "hidden_act": "silu", "hidden_size": 1536, "num_hidden_layers": 28,
            "num_attention_heads": 12, "num_key_value_heads": 2, "intermediate_size": 8960, "vocab_size": 151936, "rms_norm_eps": 1e-6,
            "rope_theta": 1e6, "max_position_embeddings": 32768, "tie_word_embeddings": true, "eos_token_id": 2}"#;
        ModelConfig::from_json(json).unwrap()
    }

    fn quantised(weight: &ModelWeight) -> Result<Encoding, EngineError> {
        Ok(match (weight.vector, weight.is_token_table()) {
            (true, _) => Encoding::F32,
            (_, true) => Encoding::Q8_0,
            _ => Encoding::Q4_1,
        })
    }

    fn needs(backend: Backend, encodings: &Encodings<'_>) -> MemoryNeeds {
        MemoryNeeds::of(&large(), backend, Precision::Fast, encodings).unwrap()
    }

    fn room(wanted: Wanted, machine: Machine) -> Room {
        Room::of(&large(), &quantised, wanted, machine).unwrap()
    }

    const AUTO: Wanted = Wanted {
        backend: None,
        precision: Precision::Fast,
        context: None,
    };
    const PAGE: MemoryThere = MemoryThere {
        total: Some(1 << 32),
        largest_buffer: None,
    };

    fn device(largest_buffer: u64) -> MemoryThere {
        MemoryThere {
            total: None,
            largest_buffer: Some(largest_buffer),
        }
    }

    #[test]
    fn the_processor_takes_what_was_told() {
        for (name, config, file) in families() {
            let pass = ForwardPass::of(&config).unwrap();
            let loaded = block_on(Weights::load(&pass, &file, &mut |_| {})).unwrap();
            let vectors: usize = pass.vectors.iter().map(|vector| 4 * vector.cols).sum();
            let told = MemoryNeeds::of_file(&config, Backend::Cpu, Precision::Exact, &file);
            assert_eq!(
                told.unwrap().weights,
                loaded.bytes() + vectors as u64,
                "{name}"
            );
        }
    }

    #[test]
    fn numbers_of_a_real_shape() {
        let cpu = needs(Backend::Cpu, &quantised);
        // 1,310 M numbers of blocks at 5 bits and 233 M of the embedding at 8.5.
        assert!(
            (1_060_000_000..1_080_000_000).contains(&cpu.weights),
            "{}",
            cpu.weights
        );
        assert_eq!(cpu.cache_per_token, 2 * 2 * 28 * 256);
        let gpu = needs(Backend::Gpu, &quantised);
        assert_eq!(gpu.largest.name, "model.layers.0.mlp.gate_proj.weight");
        assert_eq!(gpu.largest.bytes, 2 * 8960 * 1536 / 2);
        let exact = MemoryNeeds::of(&large(), Backend::Cpu, Precision::Exact, &quantised).unwrap();
        assert_eq!(exact.cache_per_token, 2 * cpu.cache_per_token);
        let float = needs(Backend::Cpu, &|_| Ok(Encoding::F32));
        assert_eq!(float.cache_per_token, exact.cache_per_token);
    }

    #[test]
    fn a_byte_decides() {
        let cpu = needs(Backend::Cpu, &quantised);
        let total = |total| MemoryThere {
            total: Some(total),
            largest_buffer: None,
        };
        let least = cpu.with_context(SHORTEST_CONTEXT);
        assert_eq!(cpu.shortage(total(least)), None);
        assert_eq!(cpu.longest_context(total(least)), SHORTEST_CONTEXT);
        let short = Shortage::Total {
            needed: least,
            there: least - 1,
        };
        assert_eq!(cpu.shortage(total(least - 1)), Some(short));
        let gpu = needs(Backend::Gpu, &quantised);
        assert_eq!(gpu.shortage(device(gpu.largest.bytes)), None);
        let told = gpu
            .shortage(device(gpu.largest.bytes - 1))
            .unwrap()
            .to_string();
        assert!(
            told.contains("model.layers.0.mlp.gate_proj.weight takes 14 MB"),
            "{told}"
        );
    }

    #[test]
    fn no_number_overflows() {
        let huge = MemoryNeeds {
            weights: u64::MAX,
            largest: LargestMatrix::default(),
            cache_per_token: u64::MAX,
            pool_per_token: u64::MAX,
        };
        assert_eq!(huge.with_context(usize::MAX), u64::MAX);
        assert_eq!(huge.longest_context(PAGE), 0);
        assert!(huge.shortage(PAGE).is_some());
        assert_eq!(huge.longest_context(MemoryThere::default()), usize::MAX);
        let nothing = MemoryNeeds {
            weights: 0,
            cache_per_token: 0,
            pool_per_token: 0,
            ..huge
        };
        assert_eq!(nothing.longest_context(PAGE), usize::MAX);
        let none = MemoryThere {
            total: Some(0),
            largest_buffer: Some(0),
        };
        assert!(nothing.shortage(none).is_some());
        // A published shape of 70 billion numbers in f32 has matrices beyond 32-bit addresses.
        let config = ModelConfig {
            hidden_size: 8192,
            layers: 80,
            heads: 64,
            kv_heads: 8,
            head_dim: 128,
            ffn_size: 28_672,
            vocab_size: 262_144,
            ..large()
        };
        let float = |_: &ModelWeight| Ok(Encoding::F32);
        let needs = MemoryNeeds::of(&config, Backend::Gpu, Precision::Exact, &float).unwrap();
        assert!(needs.weights > 270_000_000_000, "{}", needs.weights);
        assert_eq!(needs.largest.bytes, 2 * 28_672 * 8192 * 4);
    }

    #[test]
    fn a_page_is_told_what_to_do() {
        let told = |wanted, machine| {
            let Room {
                fits, sentences, ..
            } = room(wanted, machine);
            (fits, sentences.join(" "))
        };
        let on = |gpu, memory| Machine {
            gpu,
            cpu: PAGE,
            memory,
        };
        assert_eq!(told(AUTO, on(None, None)), (true, String::new()));
        assert_eq!(
            told(AUTO, on(Some(device(128 << 20)), None)),
            (true, String::new())
        );
        let (fits, sentence) = told(AUTO, on(Some(device(1 << 20)), None));
        assert!(
            fits && sentence.starts_with("It will run on the processor, more slowly: "),
            "{sentence}"
        );
        assert!(!sentence.contains("choose"), "{sentence}");
        let gpu = Wanted {
            backend: Some(Backend::Gpu),
            ..AUTO
        };
        let (fits, sentence) = told(gpu, on(Some(device(1 << 20)), None));
        assert!(
            !fits && sentence.contains("choose the processor (CPU)"),
            "{sentence}"
        );
        let (fits, sentence) = told(AUTO, on(None, Some(2 << 30)));
        assert!(
            fits && sentence.contains("more than half of the 2.1 GB"),
            "{sentence}"
        );
        let small = Machine {
            cpu: MemoryThere {
                total: Some(1 << 30),
                ..PAGE
            },
            ..on(Some(device(1 << 30)), None)
        };
        let (fits, sentence) = told(AUTO, small);
        assert!(
            fits && sentence.starts_with("Only the graphics device has room"),
            "{sentence}"
        );
        let cpu = Wanted {
            backend: Some(Backend::Cpu),
            ..AUTO
        };
        let (fits, sentence) = told(cpu, small);
        assert!(
            !fits && sentence.contains("takes 1.2 GB") && sentence.contains("there are 1.1 GB"),
            "{sentence}"
        );
    }

    #[test]
    fn a_file_is_refused_before_it_is_fetched() {
        let page = Machine {
            cpu: PAGE,
            ..Machine::default()
        };
        assert_eq!(page.shortage_for_file((1 << 32) - BESIDE), None);
        assert!(page.shortage_for_file((1 << 32) - BESIDE + 1).is_some());
        assert!(page.shortage_for_file(u64::MAX).is_some());
        let with_device = Machine {
            gpu: Some(device(1 << 30)),
            ..page
        };
        assert_eq!(with_device.shortage_for_file(u64::MAX), None);
    }

    #[test]
    fn conversations_are_as_long_as_there_is_room() {
        let tight = MemoryThere {
            total: Some(needs(Backend::Cpu, &quantised).with_context(1000)),
            largest_buffer: None,
        };
        let machine = Machine {
            cpu: tight,
            ..Machine::default()
        };
        let found = room(AUTO, machine);
        assert_eq!((found.fits, found.context), (true, 1000));
        assert!(
            found.sentences[0].contains("1000 tokens; it was made for 32768"),
            "{:?}",
            found.sentences
        );
        let with = |context| Wanted {
            context: Some(context),
            ..AUTO
        };
        assert_eq!(room(with(1000), machine).sentences, Vec::<String>::new());
        let chosen = room(with(1001), machine);
        assert!(
            chosen.sentences[0].contains("1001 were chosen"),
            "{:?}",
            chosen.sentences
        );
        // More than the model was made for is no shortage of memory.
        assert_eq!(room(with(usize::MAX), Machine::default()).context, 32_768);
        assert_eq!(
            room(with(usize::MAX), Machine::default()).sentences,
            Vec::<String>::new()
        );
    }
}
