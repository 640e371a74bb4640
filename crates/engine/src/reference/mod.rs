//! The readable f32 reference executor, the oracle of the two others. Weights stay as stored and are
//! dequantised a row at a time.

mod attention;
mod matrix;
mod sample;

#[cfg(test)]
pub(crate) use sample::predict;

use crate::architecture::{Activation, Architecture, Positions};
use crate::error::EngineError;
use crate::executor::Row;
use crate::host::{HostExecutor, HostModel, Observer, limits};
use crate::host_weights::Weights;
use crate::index::{Layer, TokenId};
use crate::record::Prediction;
use crate::types::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use attention::KeyValueCache;
use matrix::{dot, project};
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

pub type ReferenceExecutor = HostExecutor<ReferenceModel>;

#[derive(Debug)]
pub struct ReferenceModel {
    config: ModelConfig,
    architecture: Architecture,
    weights: Weights,
    cache: KeyValueCache,
    /// The residual stream after the last block, `[rows, d]`.
    h: Vec<f32>,
    logits: Vec<f32>,
}

impl ReferenceExecutor {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        architecture: Architecture,
        weights: &WeightFile<S>,
        options: EngineOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        let weights = Weights::load(config, &architecture, weights, progress).await?;
        let limits = limits(config, options, ReferenceModel::ROWS);
        let info = EngineInfo {
            backend: Backend::Reference,
            precision: Precision::Exact,
            adapter: "CPU, reference".into(),
            software: false,
            context: limits.context,
            sequences: limits.sequences,
            device_bytes: weights.bytes(),
        };
        let model = ReferenceModel {
            config: config.clone(),
            architecture,
            weights,
            cache: KeyValueCache::new(
                config.layers,
                limits.sequences,
                config.kv_heads * config.head_dim,
            ),
            h: Vec::new(),
            logits: Vec::new(),
        };
        Ok((Self::new(model, config, limits), info))
    }
}

impl HostModel for ReferenceModel {
    /// Enough to reuse each dequantised weight row often.
    const ROWS: usize = 64;
    const HEAD_ROWS: usize = 64;

    fn forward(&mut self, rows: &[Row], tokens: &[TokenId], observer: &mut Observer<'_>) {
        let d = self.config.hidden_size;
        let mut h = vec![0.0; rows.len() * d];
        for (row, token) in h.chunks_mut(d).zip(tokens) {
            self.weights.embedding.dequantise_row(token.0 as usize, row);
        }
        observer.boundary(Layer(0), &mut h, dot);
        for block in 0..self.config.layers {
            self.block(block, rows, &mut h);
            observer.boundary(Layer(block as u32 + 1), &mut h, dot);
        }
        self.h = h;
    }

    fn predict(&mut self, rows: &[Row], headed: &[usize], seen: &[Vec<bool>]) -> Vec<Prediction> {
        let d = self.config.hidden_size;
        let mut inputs = Vec::with_capacity(headed.len() * d);
        for &index in headed {
            inputs.extend_from_slice(&self.h[index * d..][..d]);
        }
        let inputs = normalise(&inputs, &self.weights.final_norm, self.config.norm_epsilon);
        let weights = &self.weights;
        self.logits = project(weights.head.as_ref().unwrap_or(&weights.embedding), &inputs);
        let logits = self.logits.chunks(self.config.vocab_size);
        let headed = headed.iter().map(|&index| &rows[index]).zip(logits);
        headed
            .map(|(row, logits)| sample::predict(logits, row, &seen[row.sequence.index()]))
            .collect()
    }

    fn logits(&self) -> &[f32] {
        &self.logits
    }
}

impl ReferenceModel {
    /// Zero-based block `block` on the residual stream `h` (`[n, d]`).
    fn block(&mut self, block: usize, rows: &[Row], h: &mut [f32]) {
        let config = &self.config;
        let weights = &self.weights.blocks[block];
        let Positions::Rotary { theta } = self.architecture.positions;

        let x = normalise(h, &weights.attention_norm, config.norm_epsilon);
        let mut q = project(&weights.q, &x);
        let mut k = project(&weights.k, &x);
        let mut v = project(&weights.v, &x);
        if let Some([q_bias, k_bias, v_bias]) = &weights.qkv_bias {
            add_bias(&mut q, q_bias);
            add_bias(&mut k, k_bias);
            add_bias(&mut v, v_bias);
        }
        for (index, row) in rows.iter().enumerate() {
            let (q_width, kv_width) = (
                config.heads * config.head_dim,
                config.kv_heads * config.head_dim,
            );
            attention::rotate(
                &mut q[index * q_width..][..q_width],
                config.head_dim,
                row.position.0,
                theta,
            );
            attention::rotate(
                &mut k[index * kv_width..][..kv_width],
                config.head_dim,
                row.position.0,
                theta,
            );
        }
        self.cache.write(block, rows, &k, &v);
        let attended = attention::attend(
            &self.cache,
            block,
            rows,
            &q,
            config.heads,
            config.kv_heads,
            config.head_dim,
        );
        add(h, &project(&weights.o, &attended));

        let x = normalise(h, &weights.ffn_norm, config.norm_epsilon);
        let mut gate = project(&weights.gate, &x);
        let up = project(&weights.up, &x);
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = activate(self.architecture.activation, *gate) * up;
        }
        add(h, &project(&weights.down, &gate));
    }
}

/// RMSNorm of every row of `x` (`[n, d]`) with gain `gain` (`[d]`).
fn normalise(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(gain.len()) {
        let scale = 1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt();
        out.extend(row.iter().zip(gain).map(|(x, g)| x * scale * g));
    }
    out
}

fn add(sum: &mut [f32], addend: &[f32]) {
    sum.iter_mut().zip(addend).for_each(|(sum, x)| *sum += x);
}

/// Adds `bias` (`[w]`) to every row of `x` (`[n, w]`).
fn add_bias(x: &mut [f32], bias: &[f32]) {
    x.chunks_mut(bias.len()).for_each(|row| add(row, bias));
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}
