//! The families that are converted, and the tensors of their models: names on Hugging Face and in GGUF, and shapes.

use crate::config::ModelConfig;

/// A family that shares llama's names of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Hugging Face's `model_type`; also the architecture of GGUF files, but that of a mistral is `llama`.
    pub model_type: &'static str,
    pub class: &'static str,
    /// Biases on q, k and v, and none on the output projection.
    pub qkv_bias: bool,
    /// Whether its GGUF files have rows of q and k in the order of interleaved rotary positions.
    pub interleaved: bool,
}

pub const FAMILIES: [Family; 3] = [
    Family {
        model_type: "llama",
        class: "LlamaForCausalLM",
        qkv_bias: false,
        interleaved: true,
    },
    Family {
        model_type: "mistral",
        class: "MistralForCausalLM",
        qkv_bias: false,
        interleaved: true,
    },
    Family {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        qkv_bias: true,
        interleaved: false,
    },
];

/// The family of that name, or why there is none.
pub fn family(model_type: &str) -> Result<Family, String> {
    let known = FAMILIES
        .iter()
        .find(|family| family.model_type == model_type);
    known.copied().ok_or_else(|| {
        let names = FAMILIES.map(|family| family.model_type).join(", ");
        format!("its architecture is `{model_type}`; those that are supported are {names}")
    })
}

/// One tensor that a model must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// On Hugging Face and in our model directories.
    pub name: String,
    /// In a GGUF file.
    pub gguf: String,
    /// A vector has one row.
    pub rows: usize,
    pub cols: usize,
    pub vector: bool,
    /// GGUF stores the rows of q and k for interleaved rotary positions, `(head, pair, half)`; we
    /// keep Hugging Face's `(head, half, pair)`. The number of heads, where that applies.
    pub rotary_heads: Option<usize>,
}

/// Every tensor of the model, in the order of the forward pass.
pub fn expected_tensors(config: &ModelConfig, family: Family) -> Vec<ExpectedTensor> {
    let (d, ffn, vocabulary) = (config.hidden_size, config.ffn_size, config.vocab_size);
    let (q, kv) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let matrix = |name: String, gguf: String, rows, cols| ExpectedTensor {
        name: format!("{name}.weight"),
        gguf: format!("{gguf}.weight"),
        rows,
        cols,
        vector: false,
        rotary_heads: None,
    };
    let vector = |name: String, gguf: String, cols| ExpectedTensor {
        name,
        gguf,
        rows: 1,
        cols,
        vector: true,
        rotary_heads: None,
    };

    let mut tensors = vec![matrix(
        "model.embed_tokens".into(),
        "token_embd".into(),
        vocabulary,
        d,
    )];
    for layer in 0..config.layers {
        let (block, blk) = (format!("model.layers.{layer}"), format!("blk.{layer}"));
        tensors.push(vector(
            format!("{block}.input_layernorm.weight"),
            format!("{blk}.attn_norm.weight"),
            d,
        ));
        let rotary = |heads| family.interleaved.then_some(heads);
        for (module, short, rows, cols, heads, bias) in [
            (
                "q_proj",
                "attn_q",
                q,
                d,
                rotary(config.heads),
                family.qkv_bias,
            ),
            (
                "k_proj",
                "attn_k",
                kv,
                d,
                rotary(config.kv_heads),
                family.qkv_bias,
            ),
            ("v_proj", "attn_v", kv, d, None, family.qkv_bias),
            ("o_proj", "attn_output", d, q, None, false),
        ] {
            let (name, gguf) = (
                format!("{block}.self_attn.{module}"),
                format!("{blk}.{short}"),
            );
            if bias {
                tensors.push(ExpectedTensor {
                    rotary_heads: heads,
                    ..vector(format!("{name}.bias"), format!("{gguf}.bias"), rows)
                });
            }
            tensors.push(ExpectedTensor {
                rotary_heads: heads,
                ..matrix(name, gguf, rows, cols)
            });
        }
        tensors.push(vector(
            format!("{block}.post_attention_layernorm.weight"),
            format!("{blk}.ffn_norm.weight"),
            d,
        ));
        for (module, short, rows, cols) in [
            ("gate_proj", "ffn_gate", ffn, d),
            ("up_proj", "ffn_up", ffn, d),
            ("down_proj", "ffn_down", d, ffn),
        ] {
            let (name, gguf) = (format!("{block}.mlp.{module}"), format!("{blk}.{short}"));
            tensors.push(matrix(name, gguf, rows, cols));
        }
    }
    tensors.push(vector(
        "model.norm.weight".into(),
        "output_norm.weight".into(),
        d,
    ));
    if !config.tied_embeddings {
        tensors.push(matrix("lm_head".into(), "output".into(), vocabulary, d));
    }
    tensors
}
