//! The list of operations one by one, each as a kernel of its own: for the families that the merged kernels do not know
//! (`super::fuse`). Every value of a batch has a place in one buffer, the residual stream the first.

use super::buffers::change_words;
use super::graph::{Gain, Matrix, Over, Piece, Slot};
use super::layout::TILE;
use super::parts::columns;
use super::plan::{Planner, widths};
use super::shader::{Epilogue, Kernel, constants};
use crate::index::{Place, Site};
use crate::op::{
    Activation, Attention, Factor, ForwardPass, MatrixId, Norm, NormKind, Op, RotationId, Value,
    VectorId,
};
use crate::types::Precision;
use trimtab_checkpoint::ModelConfig;

/// Lanes of a boundary, where nothing else decides.
const BOUNDARY_LANES: usize = 64;

/// Words before `value` in the buffer of all values, of a batch of `rows` rows; of [`None`], all of them.
pub fn value_at(value: Option<Value>, rows: usize, config: &ModelConfig) -> usize {
    let before = Value::ALL.into_iter().take_while(|one| Some(*one) != value);
    before.map(|one| rows * one.width(config)).sum()
}

/// The matrix of that number, or its first piece, as the plan calls it: a head that is the embedding again has the embedding's name.
pub fn matrix(pass: &ForwardPass, id: MatrixId) -> Matrix {
    let mut named = pass
        .body
        .iter()
        .chain(&pass.head)
        .filter_map(|op| match op {
            Op::Embed { matrix, .. } if *matrix == id => Some(Matrix::Embedding(Piece(0))),
            Op::AddPosition { matrix } if *matrix == id => Some(Matrix::Positions),
            Op::Head { matrix, .. } if *matrix == id => Some(Matrix::Head(Piece(0))),
            _ => None,
        });
    named.next().unwrap_or(Matrix::Plain(id.0))
}

impl Planner<'_> {
    /// The way of a batch of a width through all operations of `pass`, up to what enters the output head; boundaries within
    /// blocks are passed where something is wanted `inside`.
    pub(super) fn plain_way(
        &mut self,
        pass: &ForwardPass,
        width: usize,
        inside: bool,
    ) -> Vec<usize> {
        let tokens = widths(self.shape.variant.many)[width];
        let mut way = Vec::new();
        for op in pass.body.iter().chain(&pass.head) {
            match op {
                Op::Embed { scale, .. } => way.extend(self.embed(*scale)),
                Op::AddPosition { .. } => way.push(self.add_position()),
                Op::Boundary { site, of } => {
                    if inside || site.place == Place::Residual {
                        way.push(self.plain_boundary(*site, *of));
                    }
                }
                Op::Norm { of, by, to } => way.push(self.norm(pass, *of, *by, *to)),
                Op::Project { of, by } => {
                    way.push(self.activations(*of, self.shape.precision));
                    let factors = by.iter();
                    way.extend(factors.map(|factor| self.factor(pass, *of, *factor, tokens)));
                }
                Op::Rotate { of, by } => way.push(self.rotate(pass, *of, *by)),
                Op::Attend { block, by } => way.extend(self.plain_attend(*block, *by)),
                Op::Gate { by } => way.push(self.activate(*by, true)),
                Op::Activate { by } => way.push(self.activate(*by, false)),
                Op::Add { of, scale } => way.push(self.add_value(*of, *scale)),
                // The logits' activations are f32 in either precision.
                Op::Head { of, .. } => way.push(self.activations(*of, Precision::Exact)),
            }
        }
        way
    }

    fn at(&self, value: Value) -> usize {
        value_at(Some(value), self.shape.limits.rows, self.shape.config)
    }

    fn width(&self, value: Value) -> usize {
        value.width(self.shape.config)
    }

    fn add_position(&mut self) -> usize {
        let matrix = Matrix::Positions;
        let own = (self.shape.matrix)(matrix).embed_constants();
        let slots = [
            Slot::Step,
            Slot::Weights(matrix),
            Slot::Scales(matrix),
            Slot::Residual,
        ];
        let x = self.width(Value::Residual).div_ceil(TILE);
        self.add(Kernel::AddPosition, own, &slots, x, Over::Rows(1))
    }

    fn plain_boundary(&mut self, Site { layer, place }: Site, of: Value) -> usize {
        let (layer, width) = (layer.index(), self.width(of));
        let own = constants! {
            lanes: BOUNDARY_LANES,
            width: width,
            change_words: change_words(width),
            columns: columns(width, BOUNDARY_LANES),
            adders: 0,
            place: "value",
            place_number: place as u32,
            between_at: self.at(of),
            slot: match place {
                Place::Residual => "change",
                _ => "inside",
            },
        };
        let [outputs, output_scales] = activations_of(of);
        let slots = [
            Slot::Step,
            Slot::Layer(layer),
            Slot::Residual,
            Slot::Changes(place),
            Slot::Directions(place),
            // Nothing is normalised here: any will do.
            Slot::Gain(Gain::Plain(0)),
            outputs,
            output_scales,
            Slot::Records,
            Slot::Captured(place),
        ];
        self.add(Kernel::Boundary, own, &slots, 1, Over::Rows(1))
    }

    fn norm(&mut self, pass: &ForwardPass, of: Value, by: Norm, to: Value) -> usize {
        let Norm {
            kind,
            gain,
            bias,
            epsilon,
        } = by;
        let (width, row_width) = (pass.vector(gain).cols, self.width(of));
        let own = constants! {
            width: width,
            row_width: row_width,
            of_at: self.at(of),
            to_at: self.at(to),
            centred: kind == NormKind::Layer,
            biased: bias.is_some(),
            epsilon: format!("{epsilon:e}"),
        };
        let [gain, bias] =
            [gain, bias.unwrap_or(gain)].map(|VectorId(id)| Slot::Gain(Gain::Plain(id)));
        let slots = [Slot::Residual, gain, bias];
        self.add(Kernel::Norm, own, &slots, row_width / width, Over::Rows(1))
    }

    /// `of`, in blocks for the projection that comes next.
    fn activations(&mut self, of: Value, precision: Precision) -> usize {
        let width = self.width(of);
        let own = constants! { width: width, of_at: self.at(of) };
        let [outputs, output_scales] = activations_of(of);
        let slots = [Slot::Residual, outputs, output_scales];
        self.add(
            Kernel::Activations,
            own.and(super::plan::activations(precision)),
            &slots,
            (width / 32).div_ceil(64),
            Over::Rows(1),
        )
    }

    fn factor(&mut self, pass: &ForwardPass, of: Value, factor: Factor, tokens: u32) -> usize {
        let matrix = matrix(pass, factor.matrix);
        let own = constants! {
            between_at: self.at(factor.to),
            biased: factor.bias.is_some(),
            biases_at: (self.shape.matrix)(matrix).scale_words(),
        };
        self.project(
            (Epilogue::Store, matrix),
            activations_of(of),
            &[Slot::Residual],
            tokens,
            5,
            own,
        )
    }

    fn rotate(&mut self, pass: &ForwardPass, of: Value, by: RotationId) -> usize {
        let (width, pairs) = (self.width(of), pass.rotation(by).frequencies.len());
        let own = constants! { of_at: self.at(of), width: width, pairs: pairs };
        let slots = [Slot::Step, Slot::Residual, Slot::Rotations(by.0)];
        let x = (width / self.shape.config.head_dim * pairs).div_ceil(64);
        self.add(Kernel::Rotate, own, &slots, x, Over::Rows(1))
    }

    fn plain_attend(&mut self, block: usize, by: Attention) -> [usize; 2] {
        let config = self.shape.config;
        let attention = self.shape.attention(self.shape.variant.many.workgroups());
        let own = constants! {
            queries_at: self.at(Value::Queries),
            keys_at: self.at(Value::Keys),
            values_at: self.at(Value::Values),
        };
        let cached = [Slot::Keys(block), Slot::Values(block)];
        let slots = [
            Slot::Step,
            Slot::Residual,
            Slot::Queries,
            cached[0],
            cached[1],
        ];
        let pairs = (config.heads + 2 * config.kv_heads) * config.head_dim / 2;
        let remember = self.add(
            Kernel::Remember,
            own.and(attention.cache_constants()),
            &slots,
            pairs.div_ceil(64),
            Over::Rows(1),
        );
        let own = constants! {
            outputs: "plain",
            between_at: self.at(Value::Heads),
            attention_scale: format!("{:e}", by.scale),
            window: by.window.unwrap_or(0),
        };
        let slots = [
            Slot::Step,
            Slot::Queries,
            cached[0],
            cached[1],
            Slot::Pages,
            Slot::Residual,
        ];
        let attend = self.add(
            Kernel::Attention,
            attention.constants().and(own),
            &slots,
            config.heads / attention.together,
            Over::Rows(1),
        );
        [remember, attend]
    }

    fn activate(&mut self, by: Activation, gated: bool) -> usize {
        let width = self.width(Value::Gate);
        let own = constants! {
            width: width,
            gate_at: self.at(Value::Gate),
            up_at: self.at(Value::Up),
            gated: gated,
            silu: by == Activation::Silu,
        };
        let slots = [Slot::Residual];
        self.add(Kernel::Gate, own, &slots, width.div_ceil(64), Over::Rows(1))
    }

    fn add_value(&mut self, of: Value, scale: f32) -> usize {
        let own = constants! { of_at: self.at(of), scale: format!("{scale:e}") };
        let x = self.width(of).div_ceil(64);
        self.add(Kernel::Add, own, &[Slot::Residual], x, Over::Rows(1))
    }
}

/// The buffers of `of` in blocks, which are as wide as it is.
fn activations_of(of: Value) -> [Slot; 2] {
    match of {
        Value::Heads | Value::Queries => [Slot::Attended, Slot::AttendedScales],
        Value::Gate | Value::Up => [Slot::Gated, Slot::GatedScales],
        _ => [Slot::Normalised, Slot::NormalisedScales],
    }
}
