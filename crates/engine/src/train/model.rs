//! The frozen model that an adapter is trained beside.

use crate::engine::fitted;
use crate::error::EngineError;
use crate::index::{Place, Site};
use crate::op::{ForwardPass, Op, Value};
use crate::types::LoadProgress;
use crate::weights::Weights;
use std::ops::Range;
use std::sync::Arc;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

/// A model's list of operations and its weights as stored, in host memory, which training reads and never writes. Copies
/// share the weights.
#[derive(Clone, Debug)]
pub struct BaseModel {
    config: ModelConfig,
    pass: Arc<ForwardPass>,
    weights: Arc<Weights>,
    /// Where each block lies in the body: from behind the boundary of one layer to that of the next.
    blocks: Vec<Range<usize>>,
}

impl BaseModel {
    /// Reads the weights of a model into host memory. Where an engine on the CPU holds the same model already,
    /// [`crate::Engine::base_model`] shares its.
    ///
    /// # Errors
    /// As [`crate::Engine::load`].
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        weights: &WeightFile<S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, EngineError> {
        let (config, pass) = fitted(config, weights, config.context).await?;
        let weights = Weights::load(&pass, weights, progress).await?;
        Ok(Self::new(config, Arc::new(pass), Arc::new(weights)))
    }

    pub(crate) fn new(config: ModelConfig, pass: Arc<ForwardPass>, weights: Arc<Weights>) -> Self {
        let ends = pass.body.iter().enumerate().filter_map(|(index, op)| {
            let boundary = matches!(op, Op::Boundary { site, .. } if site.place == Place::Residual);
            boundary.then_some(index + 1)
        });
        let ends: Vec<usize> = ends.collect();
        let blocks = ends.windows(2).map(|pair| pair[0]..pair[1]).collect();
        Self {
            config,
            pass,
            weights,
            blocks,
        }
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn pass(&self) -> &ForwardPass {
        &self.pass
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Bytes of the matrices.
    pub fn bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// The operations before the first block, the boundary of layer 0 among them.
    pub(crate) fn before_blocks(&self) -> &[Op] {
        let first = self.blocks.first().map_or(0, |block| block.start);
        &self.pass.body[..first]
    }

    /// The operations of a zero-based block, up to its layer's boundary.
    pub(crate) fn block(&self, index: usize) -> &[Op] {
        &self.pass.body[self.blocks[index].clone()]
    }

    /// How many numbers lie at `site` for each row.
    pub(crate) fn width_at(&self, site: Site) -> usize {
        Value::at(site.place).width(&self.config)
    }

    /// About how many numbers the operations of a block note for their backward, for each row.
    pub(crate) fn note_numbers(&self) -> usize {
        let widths = Value::ALL.map(|value| value.width(&self.config));
        // Most values are noted once; the residual stream and what the two largest projections read, about once more.
        widths.iter().sum::<usize>() + self.config.hidden_size + self.config.ffn_size
    }
}
