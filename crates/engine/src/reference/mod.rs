//! The readable f32 executor, the oracle of the two others: each operation of the forward pass as its formula says.
//! Weights stay as stored and are dequantised a row at a time.

mod attention;
mod backward;
#[cfg(test)]
pub(crate) mod finite_differences;
mod matrix;
mod ops;
mod sample;
pub(crate) mod train;
mod whole_attention;

#[cfg(test)]
pub(crate) use sample::predict;

use crate::adapter::{Lies, add_adapted};
use crate::error::EngineError;
use crate::executor::Row;
use crate::host::{HostExecutor, HostModel, Observer, limits};
use crate::index::{SequenceIndex, TokenId};
use crate::op::{ForwardPass, Op, Value};
use crate::record::Prediction;
use crate::types::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use crate::weights::Weights;
use attention::KeyValueCache;
use matrix::{dot, project};
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

pub type ReferenceExecutor = HostExecutor<ReferenceModel>;

#[derive(Debug)]
pub struct ReferenceModel {
    config: ModelConfig,
    pass: Arc<ForwardPass>,
    weights: Arc<Weights>,
    cache: KeyValueCache,
    values: Values,
    /// `[headed rows, vocab]`
    logits: Vec<f32>,
}

/// The tensors of a batch, each `[n, its width]`.
#[derive(Debug, Default)]
struct Values([Vec<f32>; Value::COUNT]);

impl Index<Value> for Values {
    type Output = Vec<f32>;

    fn index(&self, value: Value) -> &Vec<f32> {
        &self.0[value as usize]
    }
}

impl IndexMut<Value> for Values {
    fn index_mut(&mut self, value: Value) -> &mut Vec<f32> {
        &mut self.0[value as usize]
    }
}

impl ReferenceExecutor {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        pass: ForwardPass,
        weights: &WeightFile<S>,
        options: EngineOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        let weights = Weights::load(&pass, weights, progress).await?;
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
        let width = Value::Keys.width(config);
        let model = ReferenceModel {
            config: config.clone(),
            pass: Arc::new(pass),
            weights: Arc::new(weights),
            cache: KeyValueCache::new(config.layers, limits.sequences, width),
            values: Values::default(),
            logits: Vec::new(),
        };
        Ok((Self::new(model, config, limits), info))
    }
}

// The page never trains beside it: it has no such executor.
#[cfg(not(target_family = "wasm"))]
impl ReferenceModel {
    pub(crate) fn pass(&self) -> &Arc<ForwardPass> {
        &self.pass
    }

    pub(crate) fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }
}

impl ReferenceModel {
    /// Goes through `ops`, from whose first the values that they read are known.
    fn run(
        &mut self,
        ops: &[Op],
        rows: &[Row],
        tokens: &[TokenId],
        mut observer: Option<&mut Observer<'_>>,
    ) {
        let Self {
            config,
            pass,
            weights,
            cache,
            values,
            logits,
        } = self;
        let adapted = observer.as_ref().map(|one| one.adapted());
        let adapted = adapted.unwrap_or_default();
        for op in ops {
            match op {
                Op::Embed { matrix, scale } => {
                    values[Value::Residual] = ops::embed(&weights[*matrix], tokens, *scale);
                }
                Op::AddPosition { matrix } => {
                    ops::add_position(&mut values[Value::Residual], rows, &weights[*matrix]);
                }
                Op::Boundary { site, of } => {
                    if let Some(observer) = &mut observer {
                        observer.boundary(*site, &mut values[*of], dot);
                    }
                }
                Op::Norm { of, by, to } => {
                    let bias = by.bias.map(|bias| &weights[bias]);
                    let gain = &weights[by.gain];
                    values[*to] = ops::norm(&values[*of], by.kind, gain, bias, by.epsilon);
                }
                Op::Project { of, by } => {
                    for factor in by {
                        let (matrix, x) = (&weights[factor.matrix], &values[*of]);
                        let mut out = project(matrix, x);
                        let number = (factor.matrix, matrix.rows);
                        let to = (&mut out[..], Lies::ByRow);
                        add_adapted(&adapted, number, (x, matrix.cols), to, dot);
                        if let Some(bias) = factor.bias {
                            let bias = &weights[bias];
                            out.chunks_mut(bias.len())
                                .for_each(|row| ops::add(row, bias, 1.0));
                        }
                        values[factor.to] = out;
                    }
                }
                Op::Rotate { of, by } => {
                    let rotation = pass.rotation(*by);
                    ops::rotate(&mut values[*of], rows, config.head_dim, rotation);
                }
                Op::Attend { block, by } => {
                    cache.write(*block, rows, &values[Value::Keys], &values[Value::Values]);
                    let queries = &values[Value::Queries];
                    let (heads, weights) =
                        attention::attend(cache, *block, *by, rows, queries, config);
                    values[Value::Heads] = heads;
                    let by_row = weights.chunks(config.heads).enumerate();
                    for (index, weights) in by_row {
                        if let Some(observer) = &mut observer
                            && observer.wants_attention(index)
                        {
                            observer.attention(index, &weights.concat());
                        }
                    }
                }
                Op::Gate { by } => {
                    let up = std::mem::take(&mut values[Value::Up]);
                    ops::gate(*by, &mut values[Value::Gate], &up);
                }
                Op::Activate { by } => ops::activate(*by, &mut values[Value::Gate]),
                Op::Add { of, scale } => {
                    let x = std::mem::take(&mut values[*of]);
                    ops::add(&mut values[Value::Residual], &x, *scale);
                }
                Op::Head { of, matrix, scale } => {
                    *logits = project(&weights[*matrix], &values[*of]);
                    logits.iter_mut().for_each(|logit| *logit *= scale);
                }
            }
        }
    }
}

impl HostModel for ReferenceModel {
    /// Enough to reuse each dequantised weight row often.
    const ROWS: usize = 64;
    const HEAD_ROWS: usize = 64;

    fn forward(&mut self, rows: &[Row], tokens: &[TokenId], observer: &mut Observer<'_>) {
        self.cache.reserve(rows);
        let pass = Arc::clone(&self.pass);
        self.run(&pass.body, rows, tokens, Some(observer));
    }

    fn predict(&mut self, rows: &[Row], headed: &[usize], seen: &[Vec<bool>]) -> Vec<Prediction> {
        let (pass, d) = (Arc::clone(&self.pass), self.config.hidden_size);
        let residual = std::mem::take(&mut self.values[Value::Residual]);
        for &index in headed {
            self.values[Value::Residual].extend_from_slice(&residual[index * d..][..d]);
        }
        self.run(&pass.head, rows, &[], None);
        self.values[Value::Residual] = residual;
        let logits = self.logits.chunks(self.config.vocab_size);
        let headed = headed.iter().map(|&index| &rows[index]).zip(logits);
        headed
            .map(|(row, logits)| sample::predict(logits, row, &seen[row.sequence.index()]))
            .collect()
    }

    fn fork(&mut self, from: SequenceIndex, to: SequenceIndex, length: usize) {
        self.cache.fork(from, to, length);
    }

    fn logits(&self) -> &[f32] {
        &self.logits
    }
}
