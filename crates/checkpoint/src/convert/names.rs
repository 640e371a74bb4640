//! The tensors of a llama-family model: their names on Hugging Face and in GGUF, and their shapes.

use crate::config::ModelConfig;

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
pub fn expected_tensors(config: &ModelConfig) -> Vec<ExpectedTensor> {
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
        for (module, short, rows, cols, heads) in [
            ("q_proj", "attn_q", q, d, Some(config.heads)),
            ("k_proj", "attn_k", kv, d, Some(config.kv_heads)),
            ("v_proj", "attn_v", kv, d, None),
            ("o_proj", "attn_output", d, q, None),
        ] {
            let (name, gguf) = (
                format!("{block}.self_attn.{module}"),
                format!("{blk}.{short}"),
            );
            if config.attention_bias {
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
            if config.mlp_bias {
                tensors.push(vector(format!("{name}.bias"), format!("{gguf}.bias"), rows));
            }
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
