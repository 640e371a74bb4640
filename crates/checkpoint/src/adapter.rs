//! Adapters: low-rank matrices beside a model's weights (Hu et al., "LoRA", 2021), in the directory that Hugging Face PEFT reads and
//! writes: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! An adapted matrix computes `W x + s · B A x` with `s = α/r`, or `α/√r` where it is rank-stabilised (Kalajdzievski, "rsLoRA",
//! 2023). Where a family keeps several matrices in one tensor (`qkv_proj`, `c_attn`), the adapter is of that tensor, as PEFT has it.

use crate::config::ModelConfig;
use crate::family::{Family, FamilyError, ModelWeight, WeightRole};
use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub const CONFIG_FILE: &str = "adapter_config.json";
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// Longest configuration that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Longest file of weights that is read, in bytes: rank 64 on every matrix of an 8B model in f32 takes 0.7 GB.
pub const MAX_WEIGHTS_BYTES: usize = 1 << 30;
pub const MAX_RANK: usize = 512;

/// What PEFT puts before the name of a module of the model.
const PREFIX: &str = "base_model.model.";
/// Key of the file's metadata under which what is known about the adapter lies.
const ABOUT: &str = "trimtab";

/// Roles of matrices that an adapter may stand beside.
pub const ADAPTABLE: [WeightRole; 7] = [
    WeightRole::Query,
    WeightRole::Key,
    WeightRole::Value,
    WeightRole::AttentionOutput,
    WeightRole::Gate,
    WeightRole::Up,
    WeightRole::Down,
];

#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error("the adapter's {CONFIG_FILE} is not usable: {0}")]
    Config(String),
    #[error("the adapter is {found}, and only LoRA as PEFT writes it is computed here")]
    Unsupported { found: String },
    #[error("the adapter's {WEIGHTS_FILE} is not a usable safetensors file: {0}")]
    Safetensors(#[from] SafeTensorError),
    #[error("the adapter's {file} is {bytes} bytes long, more than the {most} that are read")]
    TooLarge {
        file: &'static str,
        bytes: usize,
        most: usize,
    },
    #[error("the adapter's tensor {name:?} {reason}")]
    Tensor { name: String, reason: String },
    #[error(
        "the adapter has a tensor {name:?}, which stands beside no matrix of this model that is adapted here; it was made for another model, or for parts that are not supported"
    )]
    UnknownTensor { name: String },
    #[error(
        "the adapter's matrices for {module} are {a:?} and {b:?}, and the model's matrix there is {rows} × {cols}: it was made for another model"
    )]
    Shape {
        module: String,
        a: Vec<usize>,
        b: Vec<usize>,
        rows: usize,
        cols: usize,
    },
    #[error("the adapter holds no matrices")]
    Empty,
    #[error(transparent)]
    Family(#[from] FamilyError),
}

/// The matrices beside one tensor of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// The adapted tensor's module in Hugging Face's model, such as `model.layers.3.self_attn.q_proj`.
    pub module: String,
    /// The zero-based block that it belongs to.
    pub block: usize,
    /// The role of the adapted tensor, or of the first matrix in it.
    pub role: WeightRole,
    /// `s`, by which `B A x` is multiplied.
    pub scale: f32,
    pub rank: usize,
    /// `[rank, cols]`
    pub a: Vec<f32>,
    /// `[rows, rank]`
    pub b: Vec<f32>,
}

/// Which strength an adapter has as a whole; a tensor may have its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterSettings {
    pub rank: usize,
    pub alpha: f64,
    /// Whether `s = α/√r`, in place of `α/r`.
    pub rank_stabilised: bool,
}

impl AdapterSettings {
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        let by = match self.rank_stabilised {
            true => rank.sqrt(),
            false => rank,
        };
        (self.alpha / by) as f32
    }
}

/// What is known about an adapter that was trained here. PEFT's own files say none of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AboutAdapter {
    /// SHA-256 of the base model's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<String>,
    /// SHA-256 of the training data's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<String>,
    /// The steering plan that acted in training, as its notation has it; empty for none.
    pub plan: String,
    /// How it was trained, in words.
    pub made: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub settings: AdapterSettings,
    /// In the order of the model's weights.
    pub parts: Vec<LowRank>,
    pub about: AboutAdapter,
}

/// PEFT's configuration, as far as it changes what is computed. What it says beside that concerns training.
#[derive(Debug, Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// Fields that make of an adapter something else than `W x + s · B A x` where they are not empty, and what that is called.
const OTHER_METHODS: [(&str, &str); 8] = [
    ("use_dora", "a weight-decomposed one (DoRA)"),
    ("use_qalora", "a grouped one (QA-LoRA)"),
    (
        "modules_to_save",
        "one that replaces whole modules (modules_to_save)",
    ),
    (
        "trainable_token_indices",
        "one that replaces rows of the embedding (trainable_token_indices)",
    ),
    ("alora_invocation_tokens", "an activated one (aLoRA)"),
    ("lora_bias", "one with biases (lora_bias)"),
    (
        "layer_replication",
        "one that repeats blocks (layer_replication)",
    ),
    ("megatron_config", "one of Megatron's layers"),
];

impl PeftConfig {
    fn parse(json: &[u8]) -> Result<Self, AdapterError> {
        check_length(CONFIG_FILE, json, MAX_CONFIG_BYTES)?;
        let config: Self = serde_json::from_slice(json)
            .map_err(|error| AdapterError::Config(error.to_string()))?;
        let unsupported = |found: &str| AdapterError::Unsupported {
            found: found.to_owned(),
        };
        if config.peft_type != "LORA" {
            let kind: String = config.peft_type.chars().take(40).collect();
            return Err(unsupported(&format!("of the type {kind:?}")));
        }
        for (field, found) in OTHER_METHODS {
            if config.rest.get(field).is_some_and(|value| !is_empty(value)) {
                return Err(unsupported(found));
            }
        }
        // These begin at parts of the base model's own matrices, which PEFT takes from it when the adapter is loaded.
        let begun = config.rest.get("init_lora_weights").and_then(Value::as_str);
        let begun = begun.filter(|name| !["gaussian", "eva", "orthogonal"].contains(name));
        if let Some(name) = begun {
            let name: String = name.chars().take(40).collect();
            return Err(unsupported(&format!(
                "one that changes the base model's matrices ({name})"
            )));
        }
        if let Some(bias) = config.rest.get("bias").filter(|bias| *bias != "none") {
            return Err(unsupported(&format!("one that trains biases ({bias})")));
        }
        if !(1..=MAX_RANK).contains(&config.r) {
            let range = format!("its rank r is {}, and 1 to {MAX_RANK} are read", config.r);
            return Err(AdapterError::Config(range));
        }
        if !config.lora_alpha.is_finite() {
            return Err(AdapterError::Config("its lora_alpha is no number".into()));
        }
        Ok(config)
    }

    /// `s` of a module whose matrices have that rank.
    fn scale(&self, module: &str, rank: usize) -> Result<f32, AdapterError> {
        let alpha = of_pattern(&self.alpha_pattern, module)?.unwrap_or(self.lora_alpha);
        let asked = of_pattern(&self.rank_pattern, module)?.unwrap_or(self.r);
        if asked != rank {
            return Err(AdapterError::Config(format!(
                "it asks for rank {asked} at {module}, and the matrices there have rank {rank}"
            )));
        }
        let settings = AdapterSettings {
            rank,
            alpha,
            rank_stabilised: self.use_rslora,
        };
        Ok(settings.scale())
    }
}

/// The entry for `module` in a pattern of PEFT's: by the module's name or the end of it. PEFT takes regular expressions, too.
fn of_pattern<T: Copy>(
    pattern: &BTreeMap<String, T>,
    module: &str,
) -> Result<Option<T>, AdapterError> {
    let plain = |key: &str| {
        key.chars()
            .all(|c| c.is_alphanumeric() || "._-".contains(c))
    };
    if let Some(key) = pattern.keys().find(|key| !plain(key)) {
        let key: String = key.chars().take(80).collect();
        return Err(AdapterError::Unsupported {
            found: format!("one with a rank or α by the regular expression {key:?}"),
        });
    }
    let names = |key: &str| {
        let before = module.strip_suffix(key);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let found = pattern.iter().find(|(key, _)| names(key));
    Ok(found.map(|(_, value)| *value))
}

fn is_empty(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null | serde_json::Value::Bool(false) => true,
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn check_length(file: &'static str, bytes: &[u8], most: usize) -> Result<(), AdapterError> {
    match bytes.len() > most {
        true => Err(AdapterError::TooLarge {
            file,
            bytes: bytes.len(),
            most,
        }),
        false => Ok(()),
    }
}

/// A tensor of the model that an adapter may stand beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptableTensor {
    /// See [`LowRank::module`].
    pub module: String,
    pub block: usize,
    pub role: WeightRole,
    pub rows: usize,
    pub cols: usize,
}

impl AdaptableTensor {
    /// Those of a model, in the order of its weights.
    ///
    /// # Errors
    /// A family that is not known.
    pub fn of_model(config: &ModelConfig) -> Result<Vec<Self>, AdapterError> {
        let tensors = Family::of(config)?.tensors(config);
        Ok(tensors.iter().filter_map(Self::of).collect())
    }

    fn of(tensor: &ModelWeight) -> Option<Self> {
        Some(Self {
            module: tensor.module().to_owned(),
            block: tensor.block?,
            role: ADAPTABLE.into_iter().find(|role| *role == tensor.role)?,
            rows: tensor.rows,
            cols: tensor.cols,
        })
    }

    /// The module's own name, such as `q_proj`.
    pub fn target(&self) -> &str {
        self.module.rsplit('.').next().unwrap_or(&self.module)
    }
}

impl Adapter {
    /// The adapter of the two files of a PEFT directory, for a model of that configuration. Which model it was made for PEFT does
    /// not say: that its shapes fit is all that can be told, unless [`AboutAdapter::model_sha256`] is there.
    ///
    /// # Errors
    /// Files that are not usable, other methods than LoRA by their name, and matrices that fit nowhere.
    pub fn parse(config: &[u8], weights: &[u8], model: &ModelConfig) -> Result<Self, AdapterError> {
        let peft = PeftConfig::parse(config)?;
        check_length(WEIGHTS_FILE, weights, MAX_WEIGHTS_BYTES)?;
        let (_, header) = SafeTensors::read_metadata(weights)?;
        let file = SafeTensors::deserialize(weights)?;
        let tensors = AdaptableTensor::of_model(model)?;
        let known: HashMap<&str, &AdaptableTensor> = tensors
            .iter()
            .map(|one| (one.module.as_str(), one))
            .collect();
        let mut parts: BTreeMap<&str, [Option<TensorView<'_>>; 2]> = BTreeMap::new();
        for (name, view) in file.iter() {
            let unknown = || AdapterError::UnknownTensor {
                name: name.chars().take(200).collect(),
            };
            let (module, which) = module_of(name).ok_or_else(unknown)?;
            let tensor = known.get(module).ok_or_else(unknown)?;
            parts.entry(&tensor.module).or_default()[which] = Some(view);
        }
        let found = tensors.iter().filter_map(|tensor| {
            let views = parts.remove(tensor.module.as_str())?;
            Some(LowRank::read(tensor, views, &peft))
        });
        let parts: Vec<LowRank> = found.collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Err(AdapterError::Empty);
        }
        let about = header.metadata().as_ref().and_then(|map| map.get(ABOUT));
        Ok(Self {
            settings: AdapterSettings {
                rank: peft.r,
                alpha: peft.lora_alpha,
                rank_stabilised: peft.use_rslora,
            },
            parts,
            // What others wrote under that key is not ours to understand.
            about: about
                .and_then(|json| serde_json::from_str(json).ok())
                .unwrap_or_default(),
        })
    }

    /// The bytes of [`CONFIG_FILE`] and [`WEIGHTS_FILE`], the same for the same adapter. `base` is what PEFT calls the base model.
    ///
    /// # Errors
    /// Matrices whose lengths are not those of their shapes.
    pub fn to_files(&self, model: &ModelConfig, base: &str) -> Result<[Vec<u8>; 2], AdapterError> {
        let mut data = Vec::new();
        for part in &self.parts {
            for (matrix, shape, name) in [
                (&part.a, [part.rank, part.a.len() / part.rank.max(1)], "A"),
                (&part.b, [part.b.len() / part.rank.max(1), part.rank], "B"),
            ] {
                let bytes: Vec<u8> = matrix.iter().flat_map(|x| x.to_le_bytes()).collect();
                let name = factor_name(&part.module, name);
                data.push((name, bytes, shape));
            }
        }
        let views = data.iter().map(|(name, bytes, shape)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes)?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, SafeTensorError>>()?;
        let about = serde_json::to_string(&self.about)
            .map_err(|error| AdapterError::Config(error.to_string()))?;
        // One entry: more would lie in an order that changes from run to run.
        let metadata = HashMap::from([(ABOUT.to_owned(), about)]);
        let weights = safetensors::serialize(views, Some(metadata))?;
        let config = serde_json::to_vec_pretty(&self.peft_config(model, base))
            .map_err(|error| AdapterError::Config(error.to_string()))?;
        Ok([config, weights])
    }

    fn peft_config(&self, model: &ModelConfig, base: &str) -> PeftConfig {
        let targets: BTreeSet<&str> = self
            .parts
            .iter()
            .filter_map(|part| part.module.rsplit('.').next())
            .collect();
        let blocks: BTreeSet<usize> = self.parts.iter().map(|part| part.block).collect();
        // Modules of that name in every block are PEFT's rule where no blocks are named.
        let all = blocks.len() == model.layers;
        let transposed = Family::of(model).is_ok_and(|family| {
            let weights = family.tensors(model);
            weights.iter().any(|weight| weight.transposed.is_some())
        });
        let rest = serde_json::json!({
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": transposed,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_dropout": 0.0,
            "modules_to_save": null,
            "target_modules": targets,
            "layers_to_transform": (!all).then_some(blocks),
            "layers_pattern": null,
            "use_dora": false,
        });
        PeftConfig {
            peft_type: "LORA".into(),
            r: self.settings.rank,
            lora_alpha: self.settings.alpha,
            use_rslora: self.settings.rank_stabilised,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            rest: rest
                .as_object()
                .map(|fields| fields.clone().into_iter().collect())
                .unwrap_or_default(),
        }
    }
}

/// What PEFT calls the factor `which`, A or B, of a module.
pub fn factor_name(module: &str, which: &str) -> String {
    format!("{PREFIX}{module}.lora_{which}.weight")
}

/// The module that a factor of that name belongs to, and whether it is A (0) or B (1).
pub fn module_of(name: &str) -> Option<(&str, usize)> {
    let name = name.strip_prefix(PREFIX)?;
    [".lora_A.weight", ".lora_B.weight"]
        .iter()
        .enumerate()
        .find_map(|(which, end)| Some((name.strip_suffix(end)?, which)))
}

impl LowRank {
    fn read(
        tensor: &AdaptableTensor,
        [a, b]: [Option<TensorView<'_>>; 2],
        peft: &PeftConfig,
    ) -> Result<Self, AdapterError> {
        let missing = |which: &str| AdapterError::Tensor {
            name: factor_name(&tensor.module, which),
            reason: "is missing".into(),
        };
        let (a, b) = (
            a.ok_or_else(|| missing("A"))?,
            b.ok_or_else(|| missing("B"))?,
        );
        let rank = a.shape().first().copied().unwrap_or(0);
        let fits = a.shape() == [rank, tensor.cols] && b.shape() == [tensor.rows, rank];
        if !fits || !(1..=MAX_RANK).contains(&rank) {
            return Err(AdapterError::Shape {
                module: tensor.module.clone(),
                a: a.shape().to_vec(),
                b: b.shape().to_vec(),
                rows: tensor.rows,
                cols: tensor.cols,
            });
        }
        Ok(Self {
            module: tensor.module.clone(),
            block: tensor.block,
            role: tensor.role,
            scale: peft.scale(&tensor.module, rank)?,
            rank,
            a: numbers(&tensor.module, "A", &a)?,
            b: numbers(&tensor.module, "B", &b)?,
        })
    }
}

/// A matrix's numbers, which have to be finite.
fn numbers(module: &str, which: &str, view: &TensorView<'_>) -> Result<Vec<f32>, AdapterError> {
    let refuse = |reason: &str| AdapterError::Tensor {
        name: factor_name(module, which),
        reason: reason.into(),
    };
    let (four, two) = (
        view.data().as_chunks::<4>().0,
        view.data().as_chunks::<2>().0,
    );
    let numbers: Vec<f32> = match view.dtype() {
        Dtype::F32 => four
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
        Dtype::F16 => two
            .iter()
            .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
            .collect(),
        Dtype::BF16 => two
            .iter()
            .map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
            .collect(),
        other => {
            return Err(refuse(&format!(
                "is of type {other:?}, and F32, F16 and BF16 are read"
            )));
        }
    };
    match numbers.iter().all(|number| number.is_finite()) {
        true => Ok(numbers),
        false => Err(refuse(
            "holds a number that is not finite (NaN or infinity)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(json: &str) -> ModelConfig {
        ModelConfig::from_json(json.as_bytes()).unwrap()
    }

    fn llama() -> ModelConfig {
        model(
            r#"{"model_type":"llama","hidden_size":12,"intermediate_size":20,"num_hidden_layers":3,"num_attention_heads":3,
            "num_key_value_heads":1,"head_dim":4,"vocab_size":30,"max_position_embeddings":64,"rms_norm_eps":1e-5,
            "rope_theta":10000.0,"tie_word_embeddings":true,"hidden_act":"silu","eos_token_id":0}"#,
        )
    }

    /// On q and down of blocks 1 and 2.
    fn adapter(model: &ModelConfig) -> Adapter {
        let tensors = AdaptableTensor::of_model(model).unwrap();
        let wanted = tensors.into_iter().filter(|one| {
            one.block > 0 && [WeightRole::Query, WeightRole::Down].contains(&one.role)
        });
        let settings = AdapterSettings {
            rank: 2,
            alpha: 6.0,
            rank_stabilised: false,
        };
        let parts = wanted.map(|one| LowRank {
            a: (0..2 * one.cols).map(|i| i as f32 - 3.5).collect(),
            b: (0..2 * one.rows).map(|i| 0.25 * i as f32).collect(),
            module: one.module,
            block: one.block,
            role: one.role,
            scale: settings.scale(),
            rank: 2,
        });
        Adapter {
            settings,
            parts: parts.collect(),
            about: AboutAdapter {
                seed: Some(7),
                plan: "cheerful +1".into(),
                ..AboutAdapter::default()
            },
        }
    }

    fn with(config: &[u8], field: &str, value: serde_json::Value) -> Vec<u8> {
        let mut json: serde_json::Value = serde_json::from_slice(config).unwrap();
        json[field] = value;
        serde_json::to_vec(&json).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_with_the_same_bytes() {
        let model = llama();
        let adapter = adapter(&model);
        let [config, weights] = adapter.to_files(&model, "somebody/model").unwrap();
        let back = Adapter::parse(&config, &weights, &model).unwrap();
        assert_eq!(back, adapter);
        assert_eq!(
            back.to_files(&model, "somebody/model").unwrap(),
            [config.clone(), weights]
        );
        let json: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(
            json["target_modules"],
            serde_json::json!(["down_proj", "q_proj"])
        );
        assert_eq!(json["layers_to_transform"], serde_json::json!([1, 2]));
    }

    #[test]
    fn strengths_are_those_of_peft() {
        let model = llama();
        let [config, weights] = adapter(&model).to_files(&model, "").unwrap();
        let scales = |config: &[u8]| -> Vec<f32> {
            let read = Adapter::parse(config, &weights, &model).unwrap();
            read.parts.iter().map(|part| part.scale).collect()
        };
        assert_eq!(scales(&config), [3.0; 4]);
        let stabilised = with(&config, "use_rslora", true.into());
        assert_eq!(scales(&stabilised), [(6.0 / 2.0_f64.sqrt()) as f32; 4]);
        let own = with(
            &config,
            "alpha_pattern",
            serde_json::json!({"layers.2.mlp.down_proj": 1.0}),
        );
        assert_eq!(scales(&own), [3.0, 3.0, 3.0, 0.5]);
    }

    #[test]
    fn another_method_is_refused_by_its_name() {
        let model = llama();
        let [config, weights] = adapter(&model).to_files(&model, "").unwrap();
        let said = |field: &str, value: serde_json::Value| {
            let config = with(&config, field, value);
            Adapter::parse(&config, &weights, &model)
                .unwrap_err()
                .to_string()
        };
        assert!(said("use_dora", true.into()).contains("DoRA"));
        assert!(said("peft_type", "IA3".into()).contains("IA3"));
        assert!(said("init_lora_weights", "pissa_niter_4".into()).contains("pissa_niter_4"));
        assert!(said("bias", "all".into()).contains("biases"));
        assert!(
            said("modules_to_save", serde_json::json!(["lm_head"])).contains("modules_to_save")
        );
        assert!(
            said("rank_pattern", serde_json::json!({"^q.*": 4})).contains("regular expression")
        );
        assert!(said("rank_pattern", serde_json::json!({"q_proj": 4})).contains("rank 4"));
        assert!(said("r", 0.into()).contains("rank"));
        assert!(said("r", 1_000_000.into()).contains("rank"));
    }

    #[test]
    fn matrices_that_fit_nowhere_are_refused() {
        let model = llama();
        let whole = adapter(&model);
        let refused = |change: &dyn Fn(&mut Adapter)| {
            let mut adapter = whole.clone();
            change(&mut adapter);
            let [config, weights] = adapter.to_files(&model, "").unwrap();
            Adapter::parse(&config, &weights, &model)
                .unwrap_err()
                .to_string()
        };
        let shape = refused(&|adapter| {
            adapter.parts[0].a.extend([0.0; 2]);
        });
        assert!(shape.contains("another model"), "{shape}");
        let name =
            refused(&|adapter| adapter.parts[0].module = "model.layers.9.mlp.up_proj".into());
        assert!(name.contains("layers.9"), "{name}");
        let number = refused(&|adapter| adapter.parts[0].b[1] = f32::NAN);
        assert!(number.contains("finite"), "{number}");
        assert!(refused(&|adapter| adapter.parts.clear()).contains("no matrices"));
        let [config, weights] = whole.to_files(&model, "").unwrap();
        for cut in [0, 7, 100, weights.len() - 1] {
            assert!(Adapter::parse(&config, &weights[..cut], &model).is_err());
        }
        assert!(Adapter::parse(b"[]", &weights, &model).is_err());
    }

    #[test]
    fn tensors_of_several_matrices_have_one_adapter() {
        let gpt2 = model(
            r#"{"model_type":"gpt2","n_embd":12,"n_layer":2,"n_head":3,"n_positions":32,"vocab_size":30,"eos_token_id":0,
            "activation_function":"gelu_new","layer_norm_epsilon":1e-5}"#,
        );
        let tensors = AdaptableTensor::of_model(&gpt2).unwrap();
        let of_block = tensors.iter().filter(|one| one.block == 0);
        let names: Vec<(&str, usize, usize)> = of_block
            .map(|one| (one.module.as_str(), one.rows, one.cols))
            .collect();
        assert_eq!(
            names,
            [
                ("transformer.h.0.attn.c_attn", 36, 12),
                ("transformer.h.0.attn.c_proj", 12, 12),
                ("transformer.h.0.mlp.c_fc", 48, 12),
                ("transformer.h.0.mlp.c_proj", 12, 48),
            ]
        );
    }
}
