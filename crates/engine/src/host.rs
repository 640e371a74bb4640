//! The half that executors in host memory share: everything about a batch that is not arithmetic of the model.

use crate::adapter::AdaptedRows;
use crate::divergence::divergence;
use crate::error::EngineError;
use crate::executor::{
    Batch, BatchRecord, Captured, ChangeSlot, Execute, Head, Limits, Row, TokenSource,
};
use crate::index::{Place, SequenceIndex, Site, TokenId};
use crate::record::{Prediction, Readings, TokenRecord};
use crate::steering::{ComposedChange, LayerChange, LayerTable, MAX_CLAMPS};
use crate::types::EngineOptions;
use std::collections::VecDeque;
use trimtab_checkpoint::ModelConfig;

/// A model's arithmetic in host memory.
pub trait HostModel {
    /// Rows of one batch.
    const ROWS: usize;
    /// Rows whose logits are computed together.
    const HEAD_ROWS: usize;

    /// Runs the blocks over `rows` with their `tokens`, shows each layer's residual stream to `observer`, and keeps the
    /// last for [`Self::predict`].
    fn forward(&mut self, rows: &[Row], tokens: &[TokenId], observer: &mut Observer<'_>);

    /// Predicts after those of the rows last run that `headed` names, at most [`Self::HEAD_ROWS`]; `seen` is
    /// `[sequence][vocab]`.
    fn predict(&mut self, rows: &[Row], headed: &[usize], seen: &[Vec<bool>]) -> Vec<Prediction>;

    /// See [`Execute::fork`].
    fn fork(&mut self, from: SequenceIndex, to: SequenceIndex, length: usize);

    /// The logits of the last [`Self::predict`], `[headed, vocab]`.
    fn logits(&self) -> &[f32];
}

/// An executor that computes a batch when it is submitted.
#[derive(Debug)]
pub struct HostExecutor<M> {
    model: M,
    limits: Limits,
    layer_rows: usize,
    vocab: usize,
    directions: Vec<LayerTable>,
    changes: Vec<Option<ComposedChange>>,
    /// Which tokens the repetition penalty counts, `[sequence][vocab]`.
    seen: Vec<Vec<bool>>,
    /// The token sampled last in each sequence.
    sampled: Vec<Option<TokenId>>,
    /// The logits of the row before those that are predicted together, `[vocab]`; empty unless the next row compares.
    last_logits: Vec<f32>,
    finished: VecDeque<BatchRecord>,
}

/// Limits of an executor that takes batches of `rows` rows.
pub fn limits(config: &ModelConfig, options: EngineOptions, rows: usize) -> Limits {
    Limits {
        rows,
        head_rows: rows,
        sequences: options.sequences,
        context: options
            .context
            .unwrap_or(config.context)
            .min(config.context),
        // Every sequence may have one change for its prompt and one for its response, and a slider may move in one of them.
        change_slots: 2 * options.sequences + 2,
        in_flight: 4,
    }
}

impl<M: HostModel> HostExecutor<M> {
    pub fn model(&self) -> &M {
        &self.model
    }

    pub fn new(model: M, config: &ModelConfig, limits: Limits) -> Self {
        Self {
            model,
            limits,
            layer_rows: config.layers + 1,
            vocab: config.vocab_size,
            directions: Vec::new(),
            changes: vec![None; limits.change_slots],
            seen: vec![vec![false; config.vocab_size]; limits.sequences],
            sampled: vec![None; limits.sequences],
            last_logits: Vec::new(),
            finished: VecDeque::new(),
        }
    }

    fn compute(&mut self, batch: &Batch) -> Result<BatchRecord, EngineError> {
        let rows = &batch.rows;
        if rows.len() > self.limits.rows || self.finished.len() >= self.limits.in_flight {
            return Err(EngineError::Usage("too much was queued at once".into()));
        }
        let tokens = rows
            .iter()
            .map(|row| match row.token {
                TokenSource::Id(token) => Ok(token),
                TokenSource::Sampled => self.sampled[row.sequence.index()].ok_or_else(|| {
                    EngineError::Usage("nothing was sampled in this sequence yet".into())
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let record = |(row, &token): (&Row, &TokenId)| TokenRecord {
            sequence: row.sequence,
            position: row.position,
            token,
            readings: Readings {
                values: vec![0.0; self.directions.len() * self.layer_rows],
                layer_rows: self.layer_rows,
            },
            prediction: None,
        };
        let mut observer = Observer {
            rows,
            layer_rows: self.layer_rows,
            changes: &self.changes,
            directions: &self.directions,
            records: rows.iter().zip(&tokens).map(record).collect(),
            captured: vec![Captured::default(); rows.len()],
        };
        self.model.forward(rows, &tokens, &mut observer);
        let Observer {
            mut records,
            captured,
            ..
        } = observer;
        for (row, token) in rows.iter().zip(&tokens) {
            self.seen[row.sequence.index()][token.0 as usize] = true;
        }
        self.predict(rows, &mut records);
        Ok(BatchRecord {
            tokens: records,
            captured,
        })
    }

    /// Fills in the predictions of the rows that ask for the head.
    fn predict(&mut self, rows: &[Row], records: &mut [TokenRecord]) {
        let vocab = self.vocab;
        let headed: Vec<usize> = (0..rows.len())
            .filter(|&index| rows[index].want.head != Head::Skip)
            .collect();
        let compares = |index: usize| matches!(rows[index].want.head, Head::Compare(_));
        self.last_logits.clear();
        for (number, chunk) in headed.chunks(M::HEAD_ROWS).enumerate() {
            let predictions = self.model.predict(rows, chunk, &self.seen);
            let logits = self.model.logits();
            for (at, (&index, mut prediction)) in chunk.iter().zip(predictions).enumerate() {
                if compares(index) {
                    let before = match at {
                        0 => &self.last_logits[..],
                        _ => &logits[(at - 1) * vocab..][..vocab],
                    };
                    prediction.divergence =
                        Some(divergence(before, &logits[at * vocab..][..vocab]));
                }
                if matches!(rows[index].want.head, Head::Sample(_)) {
                    self.sampled[rows[index].sequence.index()] = Some(prediction.chosen);
                }
                records[index].prediction = Some(prediction);
            }
            self.last_logits.clear();
            let next = headed.get((number + 1) * M::HEAD_ROWS);
            if next.is_some_and(|&next| compares(next)) {
                let last = &logits[(chunk.len() - 1) * vocab..][..vocab];
                self.last_logits.extend_from_slice(last);
            }
        }
    }
}

impl<M: HostModel> Execute for HostExecutor<M> {
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

    fn fork(
        &mut self,
        from: SequenceIndex,
        to: SequenceIndex,
        length: usize,
    ) -> Result<(), EngineError> {
        self.model.fork(from, to, length);
        Ok(())
    }

    async fn submit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let record = self.compute(batch)?;
        self.finished.push_back(record);
        Ok(())
    }

    async fn collect(&mut self) -> Result<BatchRecord, EngineError> {
        self.finished
            .pop_front()
            .ok_or_else(|| EngineError::Usage("nothing is queued".into()))
    }
}

/// The changes that act on a batch on its way, and the notes taken of it.
#[derive(Debug)]
pub struct Observer<'a> {
    rows: &'a [Row],
    layer_rows: usize,
    changes: &'a [Option<ComposedChange>],
    directions: &'a [LayerTable],
    records: Vec<TokenRecord>,
    captured: Vec<Captured>,
}

impl Observer<'_> {
    fn change(&self, row: &Row, site: Site) -> Option<&LayerChange> {
        let change = self.changes[row.change?.0 as usize].as_ref();
        change.and_then(|change| change.at(site))
    }

    /// The adapters that act in the batch, each with its rows; as a rule none.
    pub(crate) fn adapted(&self) -> Vec<AdaptedRows> {
        let mut found: Vec<AdaptedRows> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let slot = row.change.map(|slot| &self.changes[slot.0 as usize]);
            let change = slot.and_then(Option::as_ref);
            for term in change.iter().flat_map(|change| &change.adapters) {
                match found.iter_mut().find(|one| one.term == *term) {
                    Some(one) => one.rows.push(index),
                    None => found.push(AdaptedRows {
                        term: term.clone(),
                        rows: vec![index],
                    }),
                }
            }
        }
        found
    }

    /// Whether anything is changed, read or captured at `site`.
    pub fn wants(&self, site: Site) -> bool {
        site.place == Place::Residual
            || self
                .directions
                .iter()
                .any(|table| table.place() == site.place)
            || self
                .rows
                .iter()
                .any(|row| row.want.capture.wants(site.place) || self.change(row, site).is_some())
    }

    /// Changes what is at `site`, `x` (`[rows, width]`), then reads and captures it. `dot` is the inner product that
    /// readings and clamps are measured with.
    pub fn boundary(&mut self, site: Site, x: &mut [f32], dot: impl Fn(&[f32], &[f32]) -> f32) {
        if !self.wants(site) {
            return;
        }
        let width = x.len() / self.rows.len();
        for (index, (row, x)) in self.rows.iter().zip(x.chunks_mut(width)).enumerate() {
            if let Some(change) = self.change(row, site) {
                apply(change, row.position.0 == 0, x, &dot);
            }
            let readings = self.records[index].readings.values.iter_mut();
            let of_layer = readings.skip(site.layer.index()).step_by(self.layer_rows);
            for (reading, table) in of_layer.zip(self.directions) {
                if table.place() == site.place {
                    *reading = dot(x, table.row(site.layer));
                }
            }
            if row.want.capture.wants(site.place) {
                let captured = self.captured[index].at_mut(site.place);
                captured.extend_from_slice(x);
            }
        }
    }

    /// Whether the row at `index` is asked for its attention weights.
    pub fn wants_attention(&self, index: usize) -> bool {
        self.rows[index].want.capture.attention
    }

    /// Notes the weights of the next block for the row at `index`, `[heads, position + 1]`.
    pub fn attention(&mut self, index: usize, weights: &[f32]) {
        self.captured[index].attention.extend_from_slice(weights);
    }
}

/// One layer's change on one token's residual `h` (`[d]`). Returns its components along the clamps before these acted; none
/// acts on a first token.
pub(crate) fn apply(
    change: &LayerChange,
    first_token: bool,
    h: &mut [f32],
    dot: impl Fn(&[f32], &[f32]) -> f32,
) -> [f32; MAX_CLAMPS] {
    h.iter_mut().zip(&change.add).for_each(|(h, v)| *h += v);
    // All components are measured before any of them is changed.
    let mut components = [0.0; MAX_CLAMPS];
    if first_token {
        return components;
    }
    for (component, clamp) in components.iter_mut().zip(&change.clamps) {
        *component = dot(h, &clamp.direction);
    }
    for (clamp, component) in change.clamps.iter().zip(components) {
        let shift = component.clamp(clamp.low, clamp.high) - component;
        let direction = h.iter_mut().zip(&clamp.direction);
        direction.for_each(|(h, v)| *h += shift * v);
    }
    components
}
