//! Which kernels a model gets, with which constants, and in which order: known before there is a device.

use super::attention::AttentionShape;
use super::buffers::{Words, change_words};
use super::cache::pages_of;
use super::fuse::Fused;
use super::graph::{Gain, Graph, Matrix, Over, Piece, Planned, Slot};
use super::layout::{MatrixShape, Pieces, TILE};
use super::parts::{Parts, WORKGROUP_BYTES, columns};
use super::shader::{Constants, Epilogue, Kernel, constants};
use super::variant::{ManyRows, Products, Variant, Workgroups};
use crate::cache::PAGE;
use crate::executor::Limits;
use crate::index::{Layer, Place, Site};
use crate::op::{Activation, ForwardPass, Op, Value};
use crate::record::ALTERNATIVES;
use crate::steering::MAX_CLAMPS;
use crate::types::Precision;
use std::collections::HashMap;
use trimtab_checkpoint::ModelConfig;

/// Strips of a merged kernel's product that an invocation makes at once.
const STRIPS: u32 = 3;
const NARROW_STRIPS: u32 = 6;
/// Pairs of matrix rows that an invocation of a narrow workgroup computes for few rows of the batch.
const NARROW_PAIRS: u32 = 2;
/// Vocabulary entries that an invocation of a narrow workgroup computes.
const HEAD_TILES: u32 = 6;
/// Invocations of the sampling kernel.
const SAMPLE_LANES: usize = 256;
/// Lanes of a boundary that add up in a first step, where it has more than twice as many.
const ADDERS: usize = 16;

// The boundary measures all clamps of a layer in one vector.
const _: () = assert!(MAX_CLAMPS == 4);

/// Rows of the batch that one invocation of a projection computes, for one row, few and many.
pub const fn widths(many: ManyRows) -> [u32; 3] {
    [1, 2, many.tokens()]
}

/// Everything that decides which kernels a model gets.
pub struct GraphShape<'a> {
    pub config: &'a ModelConfig,
    /// The operations and how they are merged.
    pub pass: &'a ForwardPass,
    pub fused: Option<&'a Fused>,
    pub limits: &'a Limits,
    pub precision: Precision,
    pub variant: Variant,
    pub parts: Option<Parts>,
    /// Whether the adapter's WGSL has `dot4I8Packed`.
    pub packed_dot: bool,
    pub matrix: &'a dyn Fn(Matrix) -> MatrixShape,
    pub embedding: Pieces,
    pub head: Pieces,
}

impl GraphShape<'_> {
    pub fn plan(&self) -> Graph<Planned> {
        let mut planner = Planner {
            shape: self,
            common: self.common(),
            dispatches: Vec::new(),
            known: HashMap::new(),
        };
        let ways = [0, 1, 2].map(|width| planner.way(width, false));
        let inside = planner.way(2, true);
        let heads = widths(ManyRows::Packed).map(|tokens| planner.logits(tokens));
        let sample = planner.sample();
        Graph {
            dispatches: planner.dispatches,
            ways,
            inside,
            heads,
            sample,
        }
    }

    fn common(&self) -> Constants {
        let (config, words) = (self.config, Words::of(self.config));
        constants! {
            d: config.hidden_size,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            vocab: config.vocab_size,
            layer_rows: config.layers + 1,
            sequence_pages: pages_of(self.limits.context),
            page: PAGE,
            max_rows: self.limits.rows,
            record_words: words.record,
            seen_words: words.seen,
            max_clamps: MAX_CLAMPS,
            alternatives: ALTERNATIVES,
            sample_lanes: SAMPLE_LANES,
            epsilon: format!("{:e}", config.norm_epsilon),
            attention_scale: format!("{:e}", 1.0 / (config.head_dim as f32).sqrt()),
            silu: self.fused.is_none_or(|fused| fused.activation == Activation::Silu),
            between_at: self.limits.rows * config.hidden_size,
            window: 0,
        }
        .and(activations(self.precision))
    }

    pub(super) fn attention(&self, workgroups: Workgroups) -> AttentionShape {
        AttentionShape::of(self.config, self.precision, workgroups)
    }

    /// What logits are multiplied by.
    fn logits_scale(&self) -> f32 {
        let scales = self.pass.head.iter().map(|op| match op {
            Op::Head { scale, .. } => *scale,
            _ => 1.0,
        });
        scales.product()
    }

    /// How bytes of activations meet weights, and `dot4I8Packed` where they do so by four. Only bytes can meet them otherwise than
    /// as f32.
    fn products(&self, of_bytes: Products) -> Constants {
        let (products, dots) = match (self.precision, of_bytes) {
            (Precision::Exact, _) | (_, Products::Float) => ("float", ""),
            (_, Products::Half) => ("packed", "half"),
            (_, Products::Packed) if self.packed_dot => ("packed", "packed"),
            (_, Products::Packed) => ("packed", "spelled"),
        };
        constants! { products: products, dots: dots }
    }
}

pub(super) fn activations(precision: Precision) -> Constants {
    let fast = precision == Precision::Fast;
    constants! { fast: fast, input_vec4s: if fast { 2 } else { 8 } }
}

/// Collects dispatches, each once.
pub(super) struct Planner<'a> {
    pub(super) shape: &'a GraphShape<'a>,
    common: Constants,
    dispatches: Vec<Planned>,
    known: HashMap<Planned, usize>,
}

impl Planner<'_> {
    pub(super) fn add(
        &mut self,
        kernel: Kernel,
        constants: Constants,
        slots: &[Slot],
        x: usize,
        y: Over,
    ) -> usize {
        let planned = Planned {
            kernel,
            constants: self.common.clone().and(constants),
            slots: slots.to_vec(),
            x: x as u32,
            y,
        };
        *self.known.entry(planned.clone()).or_insert_with(|| {
            self.dispatches.push(planned);
            self.dispatches.len() - 1
        })
    }

    /// The way through all blocks of a batch of a width. Few rows take four dispatches a block where a model has [`Parts`], others six,
    /// and eight with the boundaries `inside` blocks.
    fn way(&mut self, width: usize, inside: bool) -> Vec<usize> {
        if self.shape.fused.is_none() {
            return self.plain_way(self.shape.pass, width, inside);
        }
        let (variant, layers) = (self.shape.variant, self.shape.config.layers);
        let tokens = widths(variant.many)[width];
        let parts = self.shape.parts.filter(|_| width < 2);
        let workgroups = match parts {
            Some(_) => variant.few.workgroups,
            None => variant.many.workgroups(),
        };
        // Nothing lies in parts before the first block.
        let first = Site::residual(Layer(0));
        let mut way = self.embed(1.0);
        way.push(self.boundary(first, variant.few.workgroups, None));
        for (block, layer) in (0..layers).zip((1..).map(Layer)) {
            way.push(self.qkv(block, tokens));
            match parts {
                Some(parts) => {
                    way.push(self.attention_output(block, parts));
                    way.push(self.feed_forward(block, parts, tokens));
                }
                None => {
                    way.push(self.attend(block, inside));
                    if inside {
                        way.push(self.boundary(Site::heads(layer), workgroups, None));
                    }
                    way.push(self.output(block, tokens, inside));
                    if inside {
                        way.push(self.boundary(Site::after_attention(layer), workgroups, None));
                    }
                    way.push(self.gate(block, tokens));
                    way.push(self.down(block, tokens));
                }
            }
            way.push(self.boundary(Site::residual(layer), workgroups, parts));
        }
        way
    }

    /// A dispatch for each piece of the embedding.
    pub(super) fn embed(&mut self, scale: f32) -> Vec<usize> {
        let x = self.shape.config.hidden_size.div_ceil(TILE);
        let pieces = self.shape.embedding.ranges().enumerate();
        let embed = |(piece, rows): (usize, std::ops::Range<usize>)| {
            let matrix = Matrix::Embedding(Piece(piece));
            let slots = [
                Slot::Step,
                Slot::Weights(matrix),
                Slot::Scales(matrix),
                Slot::Residual,
                Slot::Seen,
                Slot::Sampled,
                Slot::Records,
            ];
            let own = constants! {
                scale: format!("{scale:e}"),
                first_token: rows.start,
                tokens_here: rows.len(),
            };
            let own = own.and((self.shape.matrix)(matrix).embed_constants());
            self.add(Kernel::Embed, own, &slots, x, Over::Rows(1))
        };
        pieces.map(embed).collect()
    }

    /// Steering and readings at `site`, and the norm that may follow; after a block of few rows with the sum of its `parts`.
    fn boundary(&mut self, site: Site, workgroups: Workgroups, parts: Option<Parts>) -> usize {
        let config = self.shape.config;
        let Site { layer, place } = site;
        let (layer, width) = (layer.index(), Value::at(place).width(config));
        let lanes = match workgroups {
            Workgroups::Narrow => self.shape.attention(workgroups).lanes,
            Workgroups::Wide => {
                let numbers = width + parts.map_or(0, |parts| parts.shares());
                let fits = |lanes: &usize| 4 * (numbers + 8 * (lanes + ADDERS)) <= WORKGROUP_BYTES;
                [256, 128].into_iter().find(fits).unwrap_or(64)
            }
        };
        let mut own = constants! {
            lanes: lanes,
            width: width,
            change_words: change_words(width),
            columns: columns(width, lanes),
            adders: if lanes > 2 * ADDERS { ADDERS } else { 0 },
            place: match place {
                Place::Residual => "residual",
                Place::AfterAttention => "after_attention",
                Place::Heads => "heads",
            },
            residual: if parts.is_some() { "sum_of_parts" } else { "no_parts" },
        };
        if let Some(parts) = parts {
            own = own.and(parts.constants());
        }
        let gain = match place {
            Place::Residual => Gain::Layer(layer),
            _ => Gain::FeedForward(layer - 1),
        };
        let [outputs, output_scales] = match place {
            Place::Heads => [Slot::Attended, Slot::AttendedScales],
            _ => [Slot::Normalised, Slot::NormalisedScales],
        };
        // The output head's choices are what people see, and its activations f32 in either precision.
        if place == Place::Residual && layer == config.layers {
            own = own.and(activations(Precision::Exact));
        }
        let slots = [
            Slot::Step,
            Slot::Layer(layer),
            Slot::Residual,
            Slot::Changes(place),
            Slot::Directions(place),
            Slot::Gain(gain),
            outputs,
            output_scales,
            Slot::Records,
            Slot::Captured(place),
        ];
        self.add(Kernel::Boundary, own, &slots, 1, Over::Rows(1))
    }

    /// A projection of `inputs` for `tokens` rows of the batch at once. Where many rows share loads, an invocation computes `shared`
    /// tiles' rows.
    pub(super) fn project(
        &mut self,
        (epilogue, matrix): (Epilogue, Matrix),
        inputs: [Slot; 2],
        outputs: &[Slot],
        tokens: u32,
        shared: u32,
        constants: Constants,
    ) -> usize {
        let (shape, variant) = (self.shape, self.shape.variant);
        let members = epilogue.members();
        let many = tokens == variant.many.tokens();
        let stage = if many {
            variant.many.staged(shape.precision)
        } else {
            0
        };
        let (tiles, products) = match (variant.many, variant.few.workgroups) {
            (ManyRows::Shared, _) if many => (shared, Products::Float),
            (ManyRows::Half, _) if many => (1, Products::Half),
            _ if many => (1, Products::Packed),
            (_, Workgroups::Narrow) => (2 * NARROW_PAIRS / members, variant.few.products),
            (_, Workgroups::Wide) => (1, variant.few.products),
        };
        let own = constants! {
            tokens: tokens,
            tiles: tiles,
            rows: tiles * members,
            head_rows: false,
            inputs: if stage > 0 { "staged" } else { "stored" },
            stage: stage,
        };
        let own = own.and(shape.products(products)).and(constants);
        self.project_with(
            (epilogue, matrix),
            inputs,
            outputs,
            tiles,
            Over::Rows(tokens),
            own,
        )
    }

    fn project_with(
        &mut self,
        (epilogue, matrix): (Epilogue, Matrix),
        [inputs, input_scales]: [Slot; 2],
        outputs: &[Slot],
        tiles: u32,
        y: Over,
        constants: Constants,
    ) -> usize {
        let shape = (self.shape.matrix)(matrix);
        let own = constants! { epilogue: epilogue.name() };
        let own = own.and(shape.constants()).and(constants);
        let mut slots = vec![
            Slot::Step,
            inputs,
            input_scales,
            Slot::Weights(matrix),
            Slot::Scales(matrix),
        ];
        slots.extend(outputs);
        let x = shape.tiles / epilogue.members() as usize;
        let x = x.div_ceil(tiles as usize);
        self.add(Kernel::Project(epilogue), own, &slots, x, y)
    }

    fn qkv(&mut self, block: usize, tokens: u32) -> usize {
        let matrix = Matrix::Qkv(block);
        let shape = (self.shape.matrix)(matrix);
        // The cache is the same whatever the workgroups are.
        let cache = self.shape.attention(Workgroups::Wide).cache_constants();
        let own = constants! { biased: shape.biases > 0, biases_at: shape.scale_words() };
        let outputs = [
            Slot::Rotations(self.shape.fused.map_or(0, |fused| fused.rotation.0)),
            Slot::Queries,
            Slot::Keys(block),
            Slot::Values(block),
        ];
        self.project(
            (Epilogue::Rotate, matrix),
            [Slot::Normalised, Slot::NormalisedScales],
            &outputs,
            tokens,
            3,
            own.and(cache),
        )
    }

    /// Attention of many rows, which leaves the heads' outputs to the projection or to the boundary before it.
    fn attend(&mut self, block: usize, inside: bool) -> usize {
        let attention = self.shape.attention(self.shape.variant.many.workgroups());
        let mut slots = vec![
            Slot::Step,
            Slot::Queries,
            Slot::Keys(block),
            Slot::Values(block),
            Slot::Pages,
        ];
        let outputs = match inside {
            true => {
                slots.push(Slot::Residual);
                "plain"
            }
            false => {
                slots.extend([Slot::Attended, Slot::AttendedScales]);
                "encoded"
            }
        };
        let x = self.shape.config.heads / attention.together;
        self.add(
            Kernel::Attention,
            attention.constants().with("outputs", outputs),
            &slots,
            x,
            Over::Rows(1),
        )
    }

    fn output(&mut self, block: usize, tokens: u32, inside: bool) -> usize {
        let added = [
            Slot::Residual,
            Slot::Gain(Gain::FeedForward(block)),
            Slot::Normalised,
            Slot::NormalisedScales,
        ];
        let (epilogue, outputs) = match inside {
            true => (Epilogue::Store, &added[..1]),
            false => (Epilogue::AddGain, &added[..]),
        };
        self.project(
            (epilogue, Matrix::Output(block)),
            [Slot::Attended, Slot::AttendedScales],
            outputs,
            tokens,
            5,
            constants! { biased: false, biases_at: 0 },
        )
    }

    fn gate(&mut self, block: usize, tokens: u32) -> usize {
        self.project(
            (Epilogue::Gate, Matrix::GateUp(block)),
            [Slot::Normalised, Slot::NormalisedScales],
            &[Slot::Gated, Slot::GatedScales],
            tokens,
            3,
            Constants::default(),
        )
    }

    fn down(&mut self, block: usize, tokens: u32) -> usize {
        self.project(
            (Epilogue::Add, Matrix::Down(block)),
            [Slot::Gated, Slot::GatedScales],
            &[Slot::Residual],
            tokens,
            5,
            Constants::default(),
        )
    }

    /// Strips of a matrix with as many rows as the residual stream is wide that an invocation of a merged kernel makes at once.
    fn strips(&self, lanes: usize) -> u32 {
        let all = (self.shape.config.hidden_size.div_ceil(TILE) * (TILE / lanes)) as u32;
        all.min(match self.shape.variant.few.workgroups {
            Workgroups::Narrow => NARROW_STRIPS,
            Workgroups::Wide => STRIPS,
        })
    }

    fn attention_output(&mut self, block: usize, parts: Parts) -> usize {
        let few = self.shape.variant.few;
        let attention = self.shape.attention(few.workgroups);
        let matrix = Matrix::Output(block);
        let own = constants! { strips: self.strips(attention.lanes) }
            .and(self.shape.products(few.products))
            .and((self.shape.matrix)(matrix).constants())
            .and(attention.constants())
            .and(parts.constants());
        let slots = [
            Slot::Step,
            Slot::Queries,
            Slot::Keys(block),
            Slot::Values(block),
            Slot::Pages,
            Slot::Weights(matrix),
            Slot::Scales(matrix),
            Slot::Residual,
        ];
        self.add(
            Kernel::AttentionOutput,
            own,
            &slots,
            parts.groups,
            Over::Rows(1),
        )
    }

    fn feed_forward(&mut self, block: usize, parts: Parts, tokens: u32) -> usize {
        let few = self.shape.variant.few;
        let lanes = self.shape.attention(few.workgroups).lanes;
        let (matrix, down) = (Matrix::GateUp(block), Matrix::Down(block));
        let (gated, down_shape) = ((self.shape.matrix)(matrix), (self.shape.matrix)(down));
        let own_strips = parts.tiles * (TILE / lanes) as u32;
        let own = constants! {
            lanes: lanes,
            tokens: tokens,
            tiles: parts.tiles,
            strips: match few.workgroups {
                Workgroups::Narrow => own_strips.min(NARROW_STRIPS / 2),
                Workgroups::Wide => own_strips,
            },
            columns: columns(self.shape.config.hidden_size, lanes),
            down_strips: self.strips(lanes),
        }
        .and(self.shape.products(few.products))
        .and(gated.constants())
        .and(down_shape.down_constants())
        .and(constants! { split: gated.split() || down_shape.split() })
        .and(parts.constants());
        let slots = [
            Slot::Step,
            Slot::Residual,
            Slot::Gain(Gain::FeedForward(block)),
            Slot::Weights(matrix),
            Slot::Scales(matrix),
            Slot::Weights(down),
            Slot::Scales(down),
        ];
        let x = gated.tiles / 2;
        let x = x.div_ceil(parts.tiles as usize);
        self.add(Kernel::FeedForward, own, &slots, x, Over::Rows(tokens))
    }

    /// A dispatch for each piece of the output head.
    fn logits(&mut self, tokens: u32) -> Vec<usize> {
        let variant = self.shape.variant;
        let workgroups = match tokens == ManyRows::Packed.tokens() {
            true => variant.many.workgroups(),
            false => variant.few.workgroups,
        };
        let tiles = match workgroups {
            Workgroups::Narrow => HEAD_TILES,
            Workgroups::Wide => 1,
        };
        let pieces = self.shape.head.ranges().enumerate();
        let logits = |(piece, rows): (usize, std::ops::Range<usize>)| {
            let own = constants! {
                tokens: tokens,
                tiles: tiles,
                rows: tiles,
                head_rows: true,
                inputs: "stored",
                products: "float",
                logits_scale: format!("{:e}", self.shape.logits_scale()),
                first_entry: rows.start,
            };
            self.project_with(
                (Epilogue::Logits, Matrix::Head(Piece(piece))),
                [Slot::Normalised, Slot::NormalisedScales],
                &[Slot::Logits],
                tiles,
                Over::HeadRows(tokens),
                own.and(activations(Precision::Exact)),
            )
        };
        pieces.map(logits).collect()
    }

    fn sample(&mut self) -> usize {
        let slots = [
            Slot::Step,
            Slot::Logits,
            Slot::Seen,
            Slot::Sampled,
            Slot::Records,
        ];
        self.add(
            Kernel::Sample,
            Constants::default(),
            &slots,
            1,
            Over::HeadRows(1),
        )
    }
}
