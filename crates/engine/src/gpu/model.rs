//! One model's weights, buffers and dispatches on the GPU.

use super::attention::AttentionShape;
use super::buffers::Buffers;
use super::device::Device;
use super::graph::{Dispatch, Extent, Over, Pipelines, width_for, widths};
use super::layout::{RowOrder, TILE};
use super::parts::{FEW_ROWS, Parts, WORKGROUP_BYTES, columns};
use super::shader::{Kernel, ShaderSources};
use super::step::{READINGS_AT, record_words, step_bytes};
use super::upload::{GpuMatrix, Uploader};
use super::variant::{ManyRows, Products, Variant, Workgroups};
use crate::architecture::{Activation, Architecture, Positions, in_block};
use crate::error::EngineError;
use crate::executor::Limits;
use crate::record::{ALTERNATIVES, MAX_DIRECTIONS};
use crate::steering::MAX_CLAMPS;
use crate::types::Precision;
use minijinja::context;
use trimtab_checkpoint::{ByteSource, ModelConfig};

/// Strips of a projection's result that an invocation makes at once where it makes all of them one after another.
const STRIPS: u32 = 3;
const NARROW_STRIPS: u32 = 6;
/// Of the few rows' matrix rows, how many a narrow workgroup's invocation computes: pairs of them, and of the output head.
const NARROW_PAIRS: u32 = 2;
const HEAD_TILES: u32 = 6;
/// Activations of the output head, as the templates call it: its choices are what people see, and the CPU executor's 16-bit ones
/// there are as good as exact.
const HEAD_PRECISION: &str = "exact";
/// Invocations of the sampling kernel.
const SAMPLE_LANES: usize = 256;
/// Words of a layer's change before its addition: whether it adds, how many clamps, two unused.
pub const CHANGE_HEADER: usize = 4;

// The boundary measures all clamps of a layer in one vector.
const _: () = assert!(MAX_CLAMPS == 4);

/// Words of one layer's change.
pub const fn change_words(d: usize) -> usize {
    CHANGE_HEADER + d + MAX_CLAMPS * (2 + d)
}

pub const fn seen_words(vocab: usize) -> usize {
    vocab.div_ceil(32)
}

/// Buffers that the host writes or reads, and those that live between dispatches.
#[derive(Debug)]
pub struct StateBuffers {
    pub step: wgpu::Buffer,
    pub residual: wgpu::Buffer,
    pub changes: wgpu::Buffer,
    pub directions: wgpu::Buffer,
    pub records: wgpu::Buffer,
    pub captured: wgpu::Buffer,
    pub seen: wgpu::Buffer,
    pub sampled: wgpu::Buffer,
    logits: wgpu::Buffer,
    rotations: wgpu::Buffer,
    queries: wgpu::Buffer,
    /// Blocks and block scales that enter q, k, v, the feed-forward part and the head.
    normalised: Activations,
    attended: Activations,
    gated: Activations,
    layers: Vec<wgpu::Buffer>,
    /// Of each block.
    keys: Vec<wgpu::Buffer>,
    values: Vec<wgpu::Buffer>,
}

#[derive(Debug)]
struct Activations {
    blocks: wgpu::Buffer,
    scales: wgpu::Buffer,
}

impl Activations {
    /// For `[rows, cols]`, with room for a sum of squares a tile after the scales.
    fn new(buffers: &Buffers<'_>, label: &str, rows: usize, cols: usize) -> Self {
        let scales = rows * (2 * cols / 32 + cols.div_ceil(TILE));
        // Sized for exact activations, which are the larger.
        Self {
            blocks: buffers.storage(label, rows * cols),
            scales: buffers.storage(label, scales * 4),
        }
    }
}

impl StateBuffers {
    pub fn new(
        buffers: &Buffers<'_>,
        config: &ModelConfig,
        limits: &Limits,
        shape: AttentionShape,
        parts: Option<Parts>,
    ) -> Self {
        let (d, layer_rows, rows) = (config.hidden_size, config.layers + 1, limits.rows);
        let attention = config.heads * config.head_dim;
        let cache = limits.sequences * limits.context * config.kv_heads * config.head_dim;
        let cache = shape.cache_words(cache);
        let per_block = |label: &str| {
            (0..config.layers)
                .map(|_| buffers.storage(label, cache))
                .collect()
        };
        Self {
            step: buffers.uniform("step", step_bytes(rows)),
            residual: buffers.storage(
                "residual",
                rows * d + parts.map_or(0, |parts| parts.words()),
            ),
            changes: buffers.storage(
                "changes",
                limits.change_slots * layer_rows * change_words(d),
            ),
            directions: buffers.storage("directions", layer_rows * d * MAX_DIRECTIONS),
            records: buffers.storage("records", rows * record_words(layer_rows)),
            captured: buffers.storage("captured", layer_rows * rows * d),
            seen: buffers.storage("seen", limits.sequences * seen_words(config.vocab_size)),
            sampled: buffers.storage("sampled", limits.sequences),
            logits: buffers.storage("logits", limits.head_rows * config.vocab_size),
            rotations: buffers.storage("rotations", limits.context * config.head_dim),
            queries: buffers.storage("queries", rows * attention),
            normalised: Activations::new(buffers, "normalised", rows, d),
            attended: Activations::new(buffers, "attended", rows, attention),
            gated: Activations::new(buffers, "gated", rows, config.ffn_size),
            layers: (0..layer_rows)
                .map(|_| buffers.uniform("layer", 16))
                .collect(),
            keys: per_block("keys"),
            values: per_block("values"),
        }
    }

    /// Fills what never changes: layer indices and rotations.
    pub fn initialise(
        &self,
        queue: &wgpu::Queue,
        config: &ModelConfig,
        architecture: &Architecture,
        context: usize,
    ) {
        for (layer, buffer) in (0_u32..).zip(&self.layers) {
            queue.write_buffer(buffer, 0, bytemuck::cast_slice(&[layer, 0, 0, 0]));
        }
        let Positions::Rotary { theta } = architecture.positions;
        let half = config.head_dim / 2;
        let mut rotations = Vec::with_capacity(context * config.head_dim);
        for position in 0..context {
            for pair in 0..half {
                let (sin, cos) =
                    crate::positions::rotation(pair, config.head_dim, position as u32, theta);
                rotations.extend([cos, sin]);
            }
        }
        queue.write_buffer(&self.rotations, 0, bytemuck::cast_slice(&rotations));
    }
}

/// Every dispatch of a forward pass, projections in each of [`widths`].
#[derive(Debug)]
pub struct Graph {
    embed: Dispatch,
    /// Of layer 0.
    boundary: Dispatch,
    blocks: Vec<BlockDispatches>,
    logits: Vec<Dispatch>,
    sample: Dispatch,
}

#[derive(Debug)]
struct BlockDispatches {
    qkv: Vec<Dispatch>,
    few: Option<FewRowsDispatches>,
    many: ManyRowsDispatches,
}

/// What follows q, k and v where the batch has at most [`FEW_ROWS`] rows.
#[derive(Debug)]
struct FewRowsDispatches {
    attention_output: Dispatch,
    /// In the first two of [`widths`].
    feed_forward: Vec<Dispatch>,
    boundary: Dispatch,
}

/// What follows q, k and v where it has more, or where a model has no [`Parts`].
#[derive(Debug)]
struct ManyRowsDispatches {
    attention: Dispatch,
    o: Vec<Dispatch>,
    gated: Vec<Dispatch>,
    down: Vec<Dispatch>,
    boundary: Dispatch,
}

impl Graph {
    /// The dispatches of a forward pass over `extent`, in order.
    pub fn dispatches(&self, extent: Extent) -> impl Iterator<Item = &Dispatch> {
        let width = width_for(extent.rows);
        let blocks = self.blocks.iter().flat_map(move |block| {
            let many = &block.many;
            // Where few rows take another way, only the last width is there.
            let of = |widths: usize| width + widths - block.qkv.len();
            match &block.few {
                Some(few) if extent.rows as usize <= FEW_ROWS => [
                    Some(&block.qkv[width]),
                    Some(&few.attention_output),
                    Some(&few.feed_forward[width]),
                    Some(&few.boundary),
                    None,
                    None,
                ],
                _ => [
                    &block.qkv[width],
                    &many.attention,
                    &many.o[of(many.o.len())],
                    &many.gated[of(many.gated.len())],
                    &many.down[of(many.down.len())],
                    &many.boundary,
                ]
                .map(Some),
            }
        });
        let blocks = blocks.flatten();
        [&self.embed, &self.boundary]
            .into_iter()
            .chain(blocks)
            .chain([&self.logits[width_for(extent.head_rows)], &self.sample])
    }

    /// Records a forward pass and says how many dispatches it took.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>, extent: Extent) -> usize {
        let mut recorded = 0;
        for dispatch in self.dispatches(extent) {
            if let Some(workgroups) = dispatch.workgroups(extent) {
                dispatch.record(pass, workgroups);
                recorded += 1;
            }
        }
        recorded
    }
}

/// Weights as they come from the file.
struct BlockWeights {
    attention_norm: wgpu::Buffer,
    qkv: GpuMatrix,
    o: GpuMatrix,
    ffn_norm: wgpu::Buffer,
    gated: GpuMatrix,
    down: GpuMatrix,
}

/// All weights on the GPU.
pub struct GpuWeights {
    embedding: GpuMatrix,
    blocks: Vec<BlockWeights>,
    final_norm: wgpu::Buffer,
    head: Option<GpuMatrix>,
}

impl GpuWeights {
    pub async fn upload<S: ByteSource>(
        uploader: &mut Uploader<'_, S>,
        config: &ModelConfig,
        architecture: &Architecture,
    ) -> Result<Self, EngineError> {
        let names = &architecture.names;
        let (d, ffn) = (config.hidden_size, config.ffn_size);
        let heads = [config.heads, config.kv_heads, config.kv_heads];
        let vocab = [(names.embedding.to_owned(), config.vocab_size)];
        let plain = |rows| RowOrder::Plain { rows };
        let embedding = uploader.tensors(&vocab, d)?;
        let embedding = uploader
            .matrix("embedding", &embedding, &plain(config.vocab_size), &[])
            .await?;
        let mut blocks = Vec::with_capacity(config.layers);
        for block in 0..config.layers {
            let name = |name| in_block(name, block);
            let order = RowOrder::RotaryPairs {
                heads,
                head_dim: config.head_dim,
            };
            let mut biases = Vec::new();
            if architecture.qkv_bias {
                let mut whole = Vec::new();
                for (bias, heads) in [names.q_bias, names.k_bias, names.v_bias]
                    .into_iter()
                    .zip(heads)
                {
                    whole.push(
                        uploader
                            .vector(&name(bias), heads * config.head_dim)
                            .await?,
                    );
                }
                biases = pair_biases(&whole, &order);
            }
            let stacked = [names.q, names.k, names.v].into_iter().zip(heads);
            let stacked: Vec<_> = stacked
                .map(|(weight, heads)| (name(weight), heads * config.head_dim))
                .collect();
            let qkv = uploader.tensors(&stacked, d)?;
            let gate_up = uploader.tensors(&[(name(names.gate), ffn), (name(names.up), ffn)], d)?;
            let o = uploader.tensors(&[(name(names.o), d)], config.heads * config.head_dim)?;
            let down = uploader.tensors(&[(name(names.down), d)], ffn)?;
            blocks.push(BlockWeights {
                attention_norm: uploader
                    .vector_buffer(&name(names.attention_norm), d)
                    .await?,
                qkv: uploader
                    .matrix(&name("q, k, v of block {i}"), &qkv, &order, &biases)
                    .await?,
                o: uploader.matrix(&name(names.o), &o, &plain(d), &[]).await?,
                ffn_norm: uploader.vector_buffer(&name(names.ffn_norm), d).await?,
                gated: uploader
                    .matrix(
                        &name("gate, up of block {i}"),
                        &gate_up,
                        &RowOrder::Interleaved { rows: ffn },
                        &[],
                    )
                    .await?,
                down: uploader
                    .matrix(&name(names.down), &down, &plain(d), &[])
                    .await?,
            });
        }
        let final_norm = uploader.vector_buffer(names.final_norm, d).await?;
        let head = match config.tied_embeddings {
            true => None,
            false => {
                let head = uploader.tensors(&[(names.head.to_owned(), config.vocab_size)], d)?;
                Some(
                    uploader
                        .matrix("output head", &head, &plain(config.vocab_size), &[])
                        .await?,
                )
            }
        };
        Ok(Self {
            embedding,
            blocks,
            final_norm,
            head,
        })
    }

    /// Whether every projection has integer weights, so that integer dot products can serve.
    pub fn all_quantised(&self) -> bool {
        let of_block = |block: &BlockWeights| {
            [&block.qkv, &block.o, &block.gated, &block.down]
                .iter()
                .all(|matrix| matrix.form.is_quantised())
        };
        self.head().form.is_quantised() && self.blocks.iter().all(of_block)
    }

    /// Bytes of one token's row.
    pub fn embedding_row_bytes(&self) -> f64 {
        self.embedding.work().bytes / (self.embedding.tiles * TILE) as f64
    }

    pub fn head(&self) -> &GpuMatrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// What a graph is built from.
pub struct GraphParts<'a> {
    pub device: &'a Device,
    pub config: &'a ModelConfig,
    pub architecture: &'a Architecture,
    pub limits: &'a Limits,
    pub precision: Precision,
    pub state: &'a StateBuffers,
    pub variant: Variant,
    pub parts: Option<Parts>,
}

/// Which matrix rows an invocation of a projection computes.
#[derive(Clone, Copy)]
pub(super) enum Rows {
    Single,
    /// Of two matrices, or the two members of a rotating pair; so named in the kernel.
    Pairs([&'static str; 2]),
}

/// How much of its product an invocation of a projection computes.
pub(super) struct ProjectionShape {
    /// Rows of the batch.
    pub tokens: u32,
    /// Matrix rows, or pairs of them.
    pub tiles: u32,
    /// As [`Products::Float`] for exact activations, always.
    pub products: Products,
    pub rows: Rows,
    /// Blocks of activations that its workgroup stages at once, if any.
    pub staged: u32,
}

impl ProjectionShape {
    pub fn variables(&self) -> minijinja::Value {
        context! { tokens => self.tokens, tiles => self.tiles, unpacked => self.products == Products::Float,
        half_products => self.products == Products::Half, staged => self.staged, row_names => self.row_names() }
    }

    /// What the kernel calls the matrix rows of one invocation.
    pub fn row_names(&self) -> Vec<String> {
        let tiles = 0..self.tiles;
        match self.rows {
            Rows::Single => tiles.map(|tile| format!("w{tile}_")).collect(),
            Rows::Pairs(names) => tiles
                .flat_map(|tile| names.map(|name| format!("{name}{tile}_")))
                .collect(),
        }
    }
}

impl GraphParts<'_> {
    /// Of the projections that stand by themselves; of many rows, an invocation computes `many` tiles' rows where it shares loads.
    fn shape(&self, tokens: u32, rows: Rows, many: u32) -> ProjectionShape {
        let mut staged = 0;
        let (tiles, products) = if tokens == self.variant.many.tokens() {
            staged = self.variant.many.staged(self.precision);
            match self.variant.many {
                ManyRows::Shared => (many, Products::Float),
                ManyRows::Packed | ManyRows::Staged => (1, self.products(Products::Packed)),
                ManyRows::Half => (1, self.products(Products::Half)),
            }
        } else {
            let narrow = self.variant.few.workgroups == Workgroups::Narrow;
            let tiles = match rows {
                Rows::Single => 2 * NARROW_PAIRS,
                Rows::Pairs(_) => NARROW_PAIRS,
            };
            (if narrow { tiles } else { 1 }, self.few_products())
        };
        ProjectionShape {
            tokens,
            tiles,
            products,
            rows,
            staged,
        }
    }

    /// Only bytes of activations can meet weights otherwise than as f32.
    fn products(&self, of_bytes: Products) -> Products {
        match self.precision {
            Precision::Exact => Products::Float,
            Precision::Fast => of_bytes,
        }
    }

    fn few_products(&self) -> Products {
        self.products(self.variant.few.products)
    }

    fn attention(&self, workgroups: Workgroups) -> AttentionShape {
        AttentionShape::of(self.config, self.precision, workgroups)
    }

    /// Renders and compiles every kernel and binds its buffers.
    pub fn build(&self, weights: &GpuWeights) -> Result<Graph, EngineError> {
        let sources = shader_sources(
            self.config,
            self.architecture,
            self.limits,
            self.precision,
            self.device.packed_dot,
        )?;
        let mut pipelines = Pipelines::new(&self.device.device, &sources);
        let (config, state) = (self.config, self.state);
        let d_tiles = config.hidden_size.div_ceil(TILE) as u32;
        // The one before the first block has no parts to add up, in a batch of few rows either.
        let first = self.variant.few.workgroups;
        let boundary = self.boundary(&mut pipelines, 0, first, None, weights)?;
        let blocks = (0..config.layers)
            .map(|block| self.block(&mut pipelines, block, weights))
            .collect::<Result<Vec<_>, _>>()?;
        let embedding = &weights.embedding;
        let embed = pipelines.dispatch(
            Kernel::Embed,
            context! { form => embedding.form.name() },
            &[
                &state.step,
                &embedding.data,
                &embedding.scales,
                &state.residual,
                &state.seen,
                &state.sampled,
                &state.records,
            ],
            d_tiles,
            Over::Rows(1),
        )?;
        let head = weights.head();
        let buffers = [
            &state.step,
            &state.normalised.blocks,
            &state.normalised.scales,
            &head.data,
            &head.scales,
            &state.logits,
        ];
        let logits = widths(ManyRows::Packed)
            .map(|tokens| {
                let narrow = match tokens == ManyRows::Packed.tokens() {
                    true => self.variant.many.workgroups(),
                    false => self.variant.few.workgroups,
                };
                let shape = ProjectionShape {
                    tokens,
                    tiles: if narrow == Workgroups::Narrow { HEAD_TILES } else { 1 },
                    // Its activations are exact.
                    products: Products::Float,
                    rows: Rows::Single,
                    staged: 0,
                };
                let own = context! { form => head.form.name(), matrix_tiles => head.tiles, precision => HEAD_PRECISION };
                let variables = context! { ..own, ..shape.variables() };
                pipelines.dispatch(
                    Kernel::ProjectLogits,
                    variables,
                    &buffers,
                    (head.tiles as u32).div_ceil(shape.tiles),
                    Over::HeadRows(tokens),
                ).map(|dispatch| dispatch.with(&[head]))
            })
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let buffers = [
            &state.step,
            &state.logits,
            &state.seen,
            &state.sampled,
            &state.records,
        ];
        let sample =
            pipelines.dispatch(Kernel::Sample, context! {}, &buffers, 1, Over::HeadRows(1))?;
        Ok(Graph {
            embed,
            boundary,
            blocks,
            logits,
            sample,
        })
    }

    /// Steering, readings and the norm of `layer`, after a block of few rows with the sum of its `parts`.
    fn boundary(
        &self,
        pipelines: &mut Pipelines<'_>,
        layer: usize,
        workgroups: Workgroups,
        parts: Option<Parts>,
        weights: &GpuWeights,
    ) -> Result<Dispatch, EngineError> {
        let d = self.config.hidden_size;
        let lanes = match workgroups {
            Workgroups::Narrow => self.attention(workgroups).lanes,
            Workgroups::Wide => {
                let numbers = d + parts.map_or(0, |parts| parts.shares());
                let fits = |lanes: &usize| 4 * (numbers + 8 * (lanes + 16)) <= WORKGROUP_BYTES;
                [256, 128].into_iter().find(fits).unwrap_or(64)
            }
        };
        let own = context! { lanes, columns => columns(d, lanes) };
        let variables = match parts {
            Some(parts) => context! { ..own, ..parts.variables() },
            None => own,
        };
        let state = self.state;
        let gain = weights
            .blocks
            .get(layer)
            .map_or(&weights.final_norm, |block| &block.attention_norm);
        let variables = match layer == self.config.layers {
            true => context! { precision => HEAD_PRECISION, ..variables },
            false => variables,
        };
        let buffers = [
            &state.step,
            &state.layers[layer],
            &state.residual,
            &state.changes,
            &state.directions,
            gain,
            &state.normalised.blocks,
            &state.normalised.scales,
            &state.records,
            &state.captured,
        ];
        pipelines.dispatch(Kernel::Boundary, variables, &buffers, 1, Over::Rows(1))
    }

    fn few_rows(
        &self,
        pipelines: &mut Pipelines<'_>,
        block: usize,
        parts: Parts,
        all_weights: &GpuWeights,
    ) -> Result<FewRowsDispatches, EngineError> {
        let (config, state) = (self.config, self.state);
        let weights = &all_weights.blocks[block];
        let attention = self.attention(self.variant.few.workgroups);
        let common = context! { ..parts.variables(), ..attention.variables() };
        let strips = match self.variant.few.workgroups {
            Workgroups::Narrow => NARROW_STRIPS,
            Workgroups::Wide => STRIPS,
        };
        let tile_strips = (TILE / attention.lanes) as u32;
        let d_strips = config.hidden_size.div_ceil(TILE) as u32 * tile_strips;
        let shape = ProjectionShape {
            tokens: 1,
            tiles: d_strips.min(strips),
            products: self.few_products(),
            rows: Rows::Single,
            staged: 0,
        };
        let own = context! { form => weights.o.form.name(), matrix_tiles => weights.o.tiles, strips => shape.tiles, ..shape.variables() };
        let attention_output = pipelines.dispatch(
            Kernel::AttentionOutput,
            context! { ..own, ..common.clone() },
            &[
                &state.step,
                &state.queries,
                &state.keys[block],
                &state.values[block],
                &weights.o.data,
                &weights.o.scales,
                &state.residual,
            ],
            parts.groups as u32,
            Over::Rows(1),
        )?;
        let attention_output = attention_output.with(&[&weights.o]);
        let [one, two, _] = widths(self.variant.many);
        let feed_forward = [one, two]
            .map(|tokens| {
                let pairs = ProjectionShape {
                    tokens,
                    tiles: match self.variant.few.workgroups {
                        Workgroups::Narrow => (parts.tiles * tile_strips).min(NARROW_STRIPS / 2),
                        Workgroups::Wide => parts.tiles,
                    },
                    products: self.few_products(),
                    rows: Rows::Pairs(["gate", "up"]),
                    staged: 0,
                };
                let down = ProjectionShape {
                    tiles: d_strips.min(strips),
                    rows: Rows::Single,
                    ..pairs
                };
                let own = context! {
                    form => weights.gated.form.name(),
                    matrix_tiles => weights.gated.tiles,
                    strips => pairs.tiles,
                    columns => columns(config.hidden_size, attention.lanes),
                    down_form => weights.down.form.name(),
                    down_strips => down.tiles,
                    down_names => down.row_names(),
                    tiles => parts.tiles,
                    ..pairs.variables()
                };
                let dispatch = pipelines.dispatch(
                    Kernel::FeedForward,
                    context! { ..own, ..common.clone() },
                    &[
                        &state.step,
                        &state.residual,
                        &weights.ffn_norm,
                        &weights.gated.data,
                        &weights.gated.scales,
                        &weights.down.data,
                        &weights.down.scales,
                    ],
                    (weights.gated.tiles as u32 / 2).div_ceil(parts.tiles),
                    Over::Rows(tokens),
                );
                dispatch.map(|dispatch| dispatch.with(&[&weights.gated, &weights.down]))
            })
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let workgroups = self.variant.few.workgroups;
        let boundary = self.boundary(pipelines, block + 1, workgroups, Some(parts), all_weights)?;
        Ok(FewRowsDispatches {
            attention_output,
            feed_forward,
            boundary,
        })
    }

    fn block(
        &self,
        pipelines: &mut Pipelines<'_>,
        block: usize,
        all_weights: &GpuWeights,
    ) -> Result<BlockDispatches, EngineError> {
        let (config, state) = (self.config, self.state);
        let weights = &all_weights.blocks[block];
        let few = self
            .parts
            .map(|parts| self.few_rows(pipelines, block, parts, all_weights))
            .transpose()?;
        let only_many = if few.is_some() { 2 } else { 0 };
        let widths = widths(self.variant.many);
        let attention_shape = self.attention(self.variant.many.workgroups());
        let workgroups = self.variant.many.workgroups();
        let boundary = self.boundary(pipelines, block + 1, workgroups, None, all_weights)?;
        let (keys, values) = (&state.keys[block], &state.values[block]);
        let normalised = [
            &state.step,
            &state.normalised.blocks,
            &state.normalised.scales,
        ];
        let attended = [&state.step, &state.attended.blocks, &state.attended.scales];
        let gated = [&state.step, &state.gated.blocks, &state.gated.scales];
        let mut in_widths = |widths: &[u32],
                             kernel,
                             matrix: &GpuMatrix,
                             (rows, many): (Rows, u32),
                             variables: minijinja::Value,
                             buffers: &[&wgpu::Buffer]| {
            let dispatch = |&tokens: &u32| {
                let shape = self.shape(tokens, rows, many);
                let own = context! { form => matrix.form.name(), matrix_tiles => matrix.tiles, ..shape.variables() };
                let tiles = match rows {
                    Rows::Single => matrix.tiles,
                    Rows::Pairs(_) => matrix.tiles / 2,
                };
                pipelines
                    .dispatch(
                        kernel,
                        context! { ..own, ..variables.clone() },
                        buffers,
                        (tiles as u32).div_ceil(shape.tiles),
                        Over::Rows(tokens),
                    )
                    .map(|dispatch| dispatch.with(&[matrix]))
            };
            widths.iter().map(dispatch).collect::<Result<Vec<_>, _>>()
        };

        let matrix = &weights.qkv;
        let qkv = in_widths(
            &widths,
            Kernel::ProjectQkv,
            matrix,
            (Rows::Pairs(["a", "b"]), 3),
            context! {
                bias => self.architecture.qkv_bias,
                bias_at => matrix.bias_at,
                half_cache => attention_shape.half_cache,
            },
            &[
                &normalised[..],
                &[
                    &matrix.data,
                    &matrix.scales,
                    &state.rotations,
                    &state.queries,
                    keys,
                    values,
                ],
            ]
            .concat(),
        )?;
        let matrix = &weights.o;
        let o = in_widths(
            &widths[only_many..],
            Kernel::ProjectResidual,
            matrix,
            (Rows::Single, 5),
            context! { cols => config.heads * config.head_dim, norm => true },
            &[
                &attended[..],
                &[
                    &matrix.data,
                    &matrix.scales,
                    &state.residual,
                    &weights.ffn_norm,
                    normalised[1],
                    normalised[2],
                ],
            ]
            .concat(),
        )?;
        let matrix = &weights.gated;
        let gated_dispatch = in_widths(
            &widths[only_many..],
            Kernel::ProjectGated,
            matrix,
            (Rows::Pairs(["gate", "up"]), 3),
            context! {},
            &[
                &normalised[..],
                &[&matrix.data, &matrix.scales, gated[1], gated[2]],
            ]
            .concat(),
        )?;
        let matrix = &weights.down;
        let down = in_widths(
            &widths[only_many..],
            Kernel::ProjectResidual,
            matrix,
            (Rows::Single, 5),
            context! { cols => config.ffn_size, norm => false },
            &[&gated[..], &[&matrix.data, &matrix.scales, &state.residual]].concat(),
        )?;
        let buffers = [
            &state.step,
            &state.queries,
            keys,
            values,
            attended[1],
            attended[2],
        ];
        let attention = pipelines.dispatch(
            Kernel::Attention,
            attention_shape.variables(),
            &buffers,
            (config.heads / attention_shape.together) as u32,
            Over::Rows(1),
        )?;
        Ok(BlockDispatches {
            qkv,
            few,
            many: ManyRowsDispatches {
                attention,
                o,
                gated: gated_dispatch,
                down,
                boundary,
            },
        })
    }
}

/// The templates with everything that is the same for all kernels of one engine.
pub fn shader_sources(
    config: &ModelConfig,
    architecture: &Architecture,
    limits: &Limits,
    precision: Precision,
    packed_dot: bool,
) -> Result<ShaderSources, EngineError> {
    let layer_rows = config.layers + 1;
    let activation = match architecture.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_tanh",
    };
    let common = context! {
        d => config.hidden_size,
        ffn => config.ffn_size,
        heads => config.heads,
        kv_heads => config.kv_heads,
        head_dim => config.head_dim,
        vocab => config.vocab_size,
        layer_rows,
        context => limits.context,
        max_rows => limits.rows,
        record_words => record_words(layer_rows),
        readings_at => READINGS_AT,
        change_words => change_words(config.hidden_size),
        max_clamps => MAX_CLAMPS,
        seen_words => seen_words(config.vocab_size),
        alternatives => ALTERNATIVES,
        sample_lanes => SAMPLE_LANES,
        epsilon => format!("{:e}", config.norm_epsilon),
        attention_scale => format!("{:e}", 1.0 / (config.head_dim as f32).sqrt()),
        activation,
        precision => match precision {
            Precision::Exact => "exact",
            Precision::Fast => "fast",
        },
    };
    ShaderSources::new(common, packed_dot)
}

/// Biases of stacked tensors in the order of the pairs: first and second member in turn.
fn pair_biases(biases: &[Vec<f32>], order: &RowOrder) -> Vec<f32> {
    let at = |tile: usize, lane: usize| {
        order
            .source(tile, lane)
            .map_or(0.0, |source| biases[source.tensor][source.row])
    };
    let pairs = (0..order.tiles() / 2).flat_map(|pair| (0..TILE).map(move |lane| (2 * pair, lane)));
    pairs
        .flat_map(|(tile, lane)| [at(tile, lane), at(tile + 1, lane)])
        .collect()
}
