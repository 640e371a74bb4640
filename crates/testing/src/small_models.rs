//! Small random models in every stored form, and engines that hold them. A missing adapter is a failure.

use half::{bf16, f16};
use pollster::block_on;
use trimtab_checkpoint::encoding::Values;
use trimtab_checkpoint::{Encoding, ModelConfig, WeightFile};
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::gpu::Assumptions;
use trimtab_engine::sampling::pcg;
use trimtab_engine::{
    Backend, Engine, EngineError, EngineOptions, Layer, LayerTable, Operation, Precision, Scope,
    SequenceIndex, SteeringPlan, Term, TokenId,
};

pub const VOCAB: usize = 300;
pub const D: usize = 96;
pub const FFN: usize = 160;
pub const LAYERS: usize = 3;
pub const HEADS: usize = 4;
pub const KV_HEADS: usize = 2;
pub const HEAD_DIM: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    F32,
    F16,
    Bf16,
    Q8,
    Q4,
    Q4WithMin,
    Q5,
    Q5WithMin,
    Q6,
    Iq4Nl,
    /// As 4-bit files of llama.cpp are: some matrices of a block in finer forms than those beside them.
    Mixed,
}

impl Form {
    /// How the matrix whose name ends so is stored.
    fn encoding(self, matrix: &str) -> Encoding {
        match self {
            Self::F32 => Encoding::F32,
            Self::F16 => Encoding::F16,
            Self::Bf16 => Encoding::Bf16,
            Self::Q8 => Encoding::Q8_0,
            Self::Q4 => Encoding::Q4_0,
            Self::Q4WithMin => Encoding::Q4_1,
            Self::Q5 => Encoding::Q5_0,
            Self::Q5WithMin => Encoding::Q5_1,
            Self::Q6 => Encoding::Q6,
            Self::Iq4Nl => Encoding::Iq4Nl,
            Self::Mixed => match matrix.trim_end_matches(".weight").rsplit('.').next() {
                Some("v_proj" | "down_proj") => Encoding::Q6,
                Some("gate_proj") => Encoding::Q5_1,
                Some("embed_tokens") => Encoding::Q5_0,
                Some("lm_head") => Encoding::Q8_0,
                _ => Encoding::Q4_1,
            },
        }
    }
}

/// Pseudo-random numbers in −1..1.
#[derive(Debug)]
pub struct Noise(u32);

impl Noise {
    pub const fn new(seed: u32) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(1);
        (pcg(self.0) >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| (self.number() * 127.0) as i8 as u8)
            .collect()
    }
}

/// A safetensors file in the making.
#[derive(Clone, Debug, Default)]
pub struct File {
    header: serde_json::Map<String, serde_json::Value>,
    data: Vec<u8>,
}

impl File {
    fn part(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, self.data.len()]});
        self.header.insert(name.into(), entry);
    }

    pub fn vector(&mut self, name: &str, values: &[f32]) {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.part(name, "F32", &[values.len()], &bytes);
    }

    /// A random matrix whose entries have a deviation near `1 / √cols`.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize, form: Form, noise: &mut Noise) {
        let spread = 1.7 / (cols as f32).sqrt();
        let mut halves = |count: usize, base: f32| -> Vec<u8> {
            (0..count)
                .flat_map(|_| f16::from_f32(base * (1.0 + 0.3 * noise.number())).to_le_bytes())
                .collect()
        };
        let encoding = form.encoding(name);
        match encoding.block() {
            None => {
                let values = (0..rows * cols).map(|_| noise.number() * spread);
                let (dtype, bytes): (_, Vec<u8>) = match encoding {
                    Encoding::F32 => ("F32", values.flat_map(f32::to_le_bytes).collect()),
                    Encoding::F16 => (
                        "F16",
                        values
                            .flat_map(|value| f16::from_f32(value).to_le_bytes())
                            .collect(),
                    ),
                    _ => (
                        "BF16",
                        values
                            .flat_map(|value| bf16::from_f32(value).to_le_bytes())
                            .collect(),
                    ),
                };
                self.part(name, dtype, &[rows, cols], &bytes);
            }
            Some(block) => {
                let largest = match block.values {
                    Values::Table(_) => 127.0,
                    _ if block.bits == 8 => 127.0,
                    _ => f32::from(1_u8 << (block.bits - 1)),
                };
                let scales = halves(rows * encoding.scales(cols), spread / largest);
                let minima = halves(rows * encoding.minima(cols), -spread);
                let width = encoding.data_bytes(cols);
                let data = noise.bytes(rows * width);
                self.part(
                    &format!("{name}.{}", block.part),
                    "U8",
                    &[rows, width],
                    &data,
                );
                let shape = [rows, encoding.scales(cols)];
                self.part(&format!("{name}.scale"), "F16", &shape, &scales);
                if encoding.has_min() {
                    let shape = [rows, encoding.minima(cols)];
                    self.part(&format!("{name}.min"), "F16", &shape, &minima);
                }
            }
        }
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.header.insert(
            "__metadata__".into(),
            serde_json::json!({"trimtab_layout": "2"}),
        );
        let header = serde_json::to_vec(&self.header).unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(self.data);
        bytes
    }
}

pub fn model(form: Form, family: &str, activation: &str) -> (ModelConfig, WeightFile<Vec<u8>>) {
    model_with_context(form, family, activation, 160)
}

pub fn model_with_context(
    form: Form,
    family: &str,
    activation: &str,
    context: usize,
) -> (ModelConfig, WeightFile<Vec<u8>>) {
    let (config, file) = model_file(form, family, activation, context);
    (config, block_on(WeightFile::open(file.bytes())).unwrap())
}

/// Configuration and weights before they are made a file.
pub fn model_file(
    form: Form,
    family: &str,
    activation: &str,
    context: usize,
) -> (ModelConfig, File) {
    let shape = Shape {
        context,
        ..Shape::SMALL
    };
    let config = serde_json::to_vec(&shape.config(family, activation)).unwrap();
    let file = shape.weights(form, family);
    (ModelConfig::from_json(&config).unwrap(), file)
}

/// The widths of a random model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub vocabulary: usize,
    pub width: usize,
    pub feed_forward: usize,
    pub blocks: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub context: usize,
}

impl Shape {
    const SMALL: Self = Self {
        vocabulary: VOCAB,
        width: D,
        feed_forward: FFN,
        blocks: LAYERS,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        context: 160,
    };

    /// `config.json`.
    pub fn config(&self, family: &str, activation: &str) -> serde_json::Value {
        serde_json::json!({
            "model_type": family, "hidden_size": self.width, "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
            "intermediate_size": self.feed_forward, "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": false, "hidden_act": activation, "eos_token_id": 2,
        })
    }

    /// The same numbers each time.
    pub fn weights(&self, form: Form, family: &str) -> File {
        let mut noise = Noise(form as u32 * 1_000_003);
        let mut file = File::default();
        let d = self.width;
        let gain = |noise: &mut Noise| -> Vec<f32> {
            (0..d).map(|_| 1.0 + 0.5 * noise.number()).collect()
        };
        let embedding = "model.embed_tokens.weight";
        file.matrix(embedding, self.vocabulary, d, form, &mut noise);
        file.matrix("lm_head.weight", self.vocabulary, d, form, &mut noise);
        file.vector("model.norm.weight", &gain(&mut noise));
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        for block in 0..self.blocks {
            let name = |end: &str| format!("model.layers.{block}.{end}");
            file.vector(&name("input_layernorm.weight"), &gain(&mut noise));
            file.vector(&name("post_attention_layernorm.weight"), &gain(&mut noise));
            for (projection, rows) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
                file.matrix(
                    &name(&format!("self_attn.{projection}.weight")),
                    rows,
                    d,
                    form,
                    &mut noise,
                );
                if family == "qwen2" {
                    let bias: Vec<f32> = (0..rows).map(|_| noise.number()).collect();
                    file.vector(&name(&format!("self_attn.{projection}.bias")), &bias);
                }
            }
            let ffn = self.feed_forward;
            for (matrix, rows, columns) in [
                ("self_attn.o_proj", d, q),
                ("mlp.gate_proj", ffn, d),
                ("mlp.up_proj", ffn, d),
                ("mlp.down_proj", d, ffn),
            ] {
                let name = name(&format!("{matrix}.weight"));
                file.matrix(&name, rows, columns, form, &mut noise);
            }
        }
        file
    }
}

/// What a graphics card would be given, in a browser whose WGSL has no packed dot product: the software adapter
/// of a test machine would otherwise never run it.
pub const HARDWARE: Assumptions = Assumptions {
    software: Some(false),
    packed_dot: Some(false),
    variant: None,
    piece_bytes: None,
};

pub fn engine(
    model: &(ModelConfig, WeightFile<Vec<u8>>),
    backend: Backend,
    precision: Precision,
) -> Engine {
    engine_assuming(model, backend, precision, Assumptions::default(), 3)
}

pub fn engine_assuming(
    model: &(ModelConfig, WeightFile<Vec<u8>>),
    backend: Backend,
    precision: Precision,
    assumptions: Assumptions,
    sequences: usize,
) -> Engine {
    let options = EngineOptions {
        backend,
        precision,
        context: None,
        sequences,
    };
    let mut quietly = |_| {};
    let load = Engine::load_assuming(&model.0, &model.1, options, assumptions, &mut quietly);
    block_on(load).unwrap_or_else(|error| match error {
        EngineError::NoAdapter { .. } => {
            panic!("{error}; on Debian, `apt-get install mesa-vulkan-drivers`")
        }
        error => panic!("{error}"),
    })
}

pub fn tokens(count: usize, seed: u32) -> Vec<TokenId> {
    (0..count as u32)
        .map(|index| TokenId(pcg(index ^ pcg(seed)) % VOCAB as u32))
        .collect()
}

pub fn table(seed: u32) -> LayerTable {
    let mut noise = Noise(seed);
    LayerTable::new((0..(LAYERS + 1) * D).map(|_| noise.number()).collect(), D).unwrap()
}

/// Every operation at once, on layers that overlap.
pub fn plan() -> SteeringPlan {
    let term = |seed, layers: &[u32], operation, scope| Term {
        vector: table(seed),
        layers: layers.iter().map(|&layer| Layer(layer)).collect(),
        operation,
        scope,
    };
    SteeringPlan {
        terms: vec![
            term(1, &[0, 2], Operation::Add { coefficient: 0.7 }, Scope::All),
            term(2, &[2], Operation::Ablate, Scope::Prompt),
            term(
                3,
                &[2, 3],
                Operation::Clamp {
                    low: -0.1,
                    high: 0.2,
                },
                Scope::All,
            ),
            term(
                4,
                &[1],
                Operation::Clamp {
                    low: f32::NEG_INFINITY,
                    high: 0.0,
                },
                Scope::Response,
            ),
        ],
        ..SteeringPlan::default()
    }
}

pub fn read(
    engine: &mut Engine,
    tokens: &[TokenId],
    plan: &SteeringPlan,
    capture: bool,
) -> ReadOutcome {
    engine
        .set_directions(&[table(10), table(11), table(12)])
        .unwrap();
    let request = ReadRequest {
        sequence: SequenceIndex(1),
        tokens,
        prompt_length: tokens.len() / 2,
        plan,
        score: Scoring::Everything,
        capture,
    };
    block_on(engine.read(&request, &mut |_, _| {})).unwrap()
}
