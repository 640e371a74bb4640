//! `config.json`, as Hugging Face writes it, reduced to what a decoder-only transformer needs.

/// Shape and constants of a decoder-only transformer. Every field has been checked against the
/// others: heads divide, sizes are positive and bounded.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Hugging Face's `model_type`, e.g. `llama`. The engine knows which ones it can run.
    pub model_type: String,
    /// `d`, the width of the residual stream.
    pub hidden_size: usize,
    /// `L`, the number of blocks.
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn_size: usize,
    pub vocab_size: usize,
    /// Longest sequence the model was trained for, in tokens.
    pub context: usize,
    pub norm_epsilon: f32,
    pub rope_theta: f32,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Hugging Face's `hidden_act`, e.g. `silu`.
    pub activation: String,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    /// Tokens that end an answer.
    pub end_tokens: Vec<u32>,
}
