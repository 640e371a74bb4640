//! The readable f32 reference executor, the oracle of the two others. Weights stay as stored and are
//! dequantised a row at a time.

mod attention;
mod matrix;
mod sample;

pub(crate) use attention::rotation;
#[cfg(test)]
pub(crate) use sample::predict;

use crate::architecture::{Activation, Architecture, Norm, Positions};
use crate::divergence::divergence;
use crate::engine::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use crate::error::EngineError;
use crate::executor::{Batch, BatchRecord, ChangeSlot, Execute, Head, Limits, Row, TokenSource};
use crate::host_weights::Weights;
use crate::index::{SequenceIndex, TokenId};
use crate::record::{Readings, TokenRecord};
use crate::steering::{ComposedChange, LayerChange, LayerTable};
use attention::KeyValueCache;
use matrix::{dot, project};
use std::collections::VecDeque;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

/// Rows of one batch: enough to reuse each dequantised weight row often.
const ROWS: usize = 64;

#[derive(Debug)]
pub struct ReferenceExecutor {
    config: ModelConfig,
    architecture: Architecture,
    limits: Limits,
    weights: Weights,
    cache: KeyValueCache,
    directions: Vec<LayerTable>,
    changes: Vec<Option<ComposedChange>>,
    /// For each sequence, which tokens the repetition penalty counts: `[vocab]`.
    seen: Vec<Vec<bool>>,
    sampled: Vec<Option<TokenId>>,
    finished: VecDeque<BatchRecord>,
}

impl ReferenceExecutor {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        architecture: Architecture,
        weights: &WeightFile<S>,
        options: EngineOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        if architecture.norm != Norm::Rms || architecture.qk_norm {
            return Err(EngineError::UnsupportedModel {
                reason: "its normalisation is not supported yet".into(),
            });
        }
        let weights = Weights::load(config, &architecture, weights, progress).await?;
        let sequences = options.sequences;
        let limits = Limits {
            rows: ROWS,
            head_rows: ROWS,
            sequences,
            context: options
                .context
                .unwrap_or(config.context)
                .min(config.context),
            change_slots: 2 * sequences + 2,
            in_flight: 4,
        };
        let info = EngineInfo {
            backend: Backend::Reference,
            precision: Precision::Exact,
            adapter: "CPU, reference".into(),
            software: false,
            context: limits.context,
            sequences,
            device_bytes: weights.bytes(),
        };
        let executor = Self {
            config: config.clone(),
            architecture,
            limits,
            weights,
            cache: KeyValueCache::new(config.layers, sequences, config.kv_heads * config.head_dim),
            directions: Vec::new(),
            changes: vec![None; limits.change_slots],
            seen: vec![vec![false; config.vocab_size]; sequences],
            sampled: vec![None; sequences],
            finished: VecDeque::new(),
        };
        Ok((executor, info))
    }

    /// Runs the blocks over `rows` with their `tokens`; returns the residual stream after the last
    /// block, `[n, d]`, and fills `readings` and `residual` (`[n, L+1, d]`, where captured).
    fn forward(
        &mut self,
        rows: &[Row],
        tokens: &[TokenId],
        records: &mut [TokenRecord],
        residual: &mut [f32],
    ) -> Vec<f32> {
        let d = self.config.hidden_size;
        let (count, layers) = (rows.len(), self.config.layers);
        let mut h = vec![0.0; count * d];
        for (row, token) in h.chunks_mut(d).zip(tokens) {
            self.weights.embedding.dequantise_row(token.0 as usize, row);
        }
        for layer in 0..=layers {
            for (index, (row, h)) in rows.iter().zip(h.chunks_mut(d)).enumerate() {
                if let Some(change) = row
                    .change
                    .and_then(|slot| self.changes[slot.0 as usize].as_ref())
                {
                    apply(&change.layers[layer], row.position.0 == 0, h);
                }
                for (direction, table) in self.directions.iter().enumerate() {
                    let at = direction * (layers + 1) + layer;
                    records[index].readings.values[at] =
                        dot(h, table.row(crate::index::Layer(layer as u32)));
                }
                if !residual.is_empty() {
                    residual[(index * (layers + 1) + layer) * d..][..d].copy_from_slice(h);
                }
            }
            if layer < layers {
                self.block(layer, rows, &mut h);
            }
        }
        h
    }

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

impl Execute for ReferenceExecutor {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn set_directions(&mut self, directions: &[LayerTable]) -> Result<(), EngineError> {
        self.directions = directions.to_vec();
        Ok(())
    }

    fn set_change(&mut self, slot: ChangeSlot, change: &ComposedChange) -> Result<(), EngineError> {
        self.changes[slot.0 as usize] = Some(change.clone());
        Ok(())
    }

    fn set_seen(&mut self, sequence: SequenceIndex, tokens: &[TokenId]) -> Result<(), EngineError> {
        let seen = &mut self.seen[sequence.index()];
        seen.fill(false);
        for token in tokens {
            seen[token.0 as usize] = true;
        }
        Ok(())
    }

    fn submit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let rows = &batch.rows;
        let layer_rows = self.config.layers + 1;
        let tokens = rows
            .iter()
            .map(|row| match row.token {
                TokenSource::Id(token) => Ok(token),
                TokenSource::Sampled => self.sampled[row.sequence.index()].ok_or_else(|| {
                    EngineError::Usage("nothing was sampled in this sequence yet".into())
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut records: Vec<_> = rows
            .iter()
            .zip(&tokens)
            .map(|(row, &token)| TokenRecord {
                sequence: row.sequence,
                position: row.position,
                token,
                readings: Readings {
                    values: vec![0.0; self.directions.len() * layer_rows],
                    layer_rows,
                },
                prediction: None,
            })
            .collect();
        let captured = if batch.capture {
            rows.len() * layer_rows * self.config.hidden_size
        } else {
            0
        };
        let mut residual = vec![0.0; captured];
        let h = self.forward(rows, &tokens, &mut records, &mut residual);

        for (row, token) in rows.iter().zip(&tokens) {
            self.seen[row.sequence.index()][token.0 as usize] = true;
        }
        let d = self.config.hidden_size;
        let headed: Vec<usize> = (0..rows.len())
            .filter(|&index| rows[index].head != Head::Skip)
            .collect();
        let mut inputs = Vec::with_capacity(headed.len() * d);
        for &index in &headed {
            inputs.extend_from_slice(&h[index * d..][..d]);
        }
        let inputs = normalise(&inputs, &self.weights.final_norm, self.config.norm_epsilon);
        let head = self
            .weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding);
        let logits = project(head, &inputs);
        let mut before: &[f32] = &[];
        for (&index, logits) in headed.iter().zip(logits.chunks(self.config.vocab_size)) {
            let row = &rows[index];
            let sequence = row.sequence.index();
            let mut prediction = sample::predict(logits, row, &self.seen[sequence]);
            if matches!(row.head, Head::Compare(_)) {
                prediction.divergence = Some(divergence(before, logits));
            }
            before = logits;
            if matches!(row.head, Head::Sample(_)) {
                self.sampled[sequence] = Some(prediction.chosen);
            }
            records[index].prediction = Some(prediction);
        }
        self.finished.push_back(BatchRecord {
            tokens: records,
            residual,
        });
        Ok(())
    }

    async fn collect(&mut self) -> Result<BatchRecord, EngineError> {
        self.finished
            .pop_front()
            .ok_or_else(|| EngineError::Usage("nothing is queued".into()))
    }
}

/// One layer's change on one token's residual `h` (`[d]`).
fn apply(change: &LayerChange, first_token: bool, h: &mut [f32]) {
    if !change.add.is_empty() {
        add(h, &change.add);
    }
    if first_token {
        return;
    }
    let components: Vec<f32> = change
        .clamps
        .iter()
        .map(|clamp| dot(h, &clamp.direction))
        .collect();
    for (clamp, component) in change.clamps.iter().zip(components) {
        let shift = component.clamp(clamp.low, clamp.high) - component;
        h.iter_mut()
            .zip(&clamp.direction)
            .for_each(|(h, v)| *h += shift * v);
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
