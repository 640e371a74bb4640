//! The operations of a list backwards, with what they noted on the way there.

use super::kernels::AttentionValues;
use super::walk::{Noted, Penalised, Tensors, Walk, add, rows_of_b, transposed};
use crate::op::{Factor, Op, Value};
use std::collections::BTreeMap;

impl Walk<'_> {
    /// Whether an operation has parameters to train.
    fn is_adapted(&self, op: &Op) -> bool {
        match op {
            Op::Project { by, .. } => by.iter().any(|factor| self.adapter_of(factor).is_some()),
            _ => false,
        }
    }

    /// Goes through `ops` from the last to the first with their `notes`, from the derivatives by what they left to those by what
    /// they were given, and adds those by the adapter's parameters to `gradient`. With `lowest`, nothing below is trained: the
    /// walk ends at the first operation that is.
    pub fn backward(
        &self,
        ops: &[Op],
        notes: Vec<Noted>,
        d: &mut Tensors<Vec<f32>>,
        lowest: bool,
        gradient: &mut [f32],
    ) {
        let first = match lowest {
            true => ops.iter().position(|op| self.is_adapted(op)),
            false => None,
        };
        let all = ops.iter().zip(notes).enumerate().rev();
        for (index, (op, noted)) in all {
            let last = first == Some(index);
            self.backward_one(op, noted, d, last, gradient);
            if last {
                break;
            }
        }
    }

    fn backward_one(
        &self,
        op: &Op,
        noted: Noted,
        d: &mut Tensors<Vec<f32>>,
        last: bool,
        gradient: &mut [f32],
    ) {
        let kernels = self.kernels;
        match (op, noted) {
            (Op::Boundary { site, of }, Noted::Boundary { clamped, shifts }) => {
                let mut dx = d.take(*of);
                if let (Some(shifts), Some(penalised)) = (shifts, self.penalised_at(*site)) {
                    self.penalise(&penalised, &shifts, &mut dx);
                }
                if let Some(clamped) = clamped {
                    self.changes
                        .backward(*site, self.rows, &clamped, &mut dx, kernels);
                }
                d.set(*of, dx);
            }
            (Op::Norm { of, by, to }, Noted::Input(x)) => {
                let dx = kernels.norm_backward(&x, &d.take(*to), &self.norm(by));
                d.add(*of, dx);
            }
            (Op::Project { of, by }, noted) => {
                self.project_backward((*of, by), noted, d, last, gradient);
            }
            (Op::Rotate { of, by }, _) => {
                let mut dx = d.take(*of);
                let (positions, head_dim) = (&self.rows.positions, self.model.config().head_dim);
                kernels.rotate_backward(&mut dx, positions, head_dim, self.rotation(*by));
                d.set(*of, dx);
            }
            (
                Op::Attend { by, .. },
                Noted::Attention {
                    queries,
                    keys,
                    values,
                    log_sums,
                },
            ) => {
                let of = AttentionValues {
                    queries: &queries,
                    keys: &keys,
                    values: &values,
                };
                let d_heads = d.take(Value::Heads);
                let by = kernels.attend_backward(&of, &self.shape(*by), &log_sums, &d_heads);
                d.set(Value::Queries, by.queries);
                d.set(Value::Keys, by.keys);
                d.set(Value::Values, by.values);
            }
            (Op::Gate { by }, Noted::Gate { gate, up }) => {
                let (d_gate, d_up) = kernels.gate_backward(*by, &gate, &up, &d.take(Value::Gate));
                d.set(Value::Gate, d_gate);
                d.set(Value::Up, d_up);
            }
            (Op::Activate { by }, Noted::Input(x)) => {
                let dx = kernels.activate_backward(*by, &x, &d.take(Value::Gate));
                d.set(Value::Gate, dx);
            }
            (Op::Add { of, scale }, _) => {
                let residual = d.get(Value::Residual);
                let dx = residual.iter().map(|dx| scale * dx).collect();
                d.add(*of, dx);
            }
            // Before the blocks nothing is trained; the head's backward is in `super::loss`.
            _ => {}
        }
    }

    /// Adds the derivative of the penalty, `2 λ shift v̂` for each response token, times its share of the step's mean.
    fn penalise(&self, penalised: &Penalised<'_>, shifts: &[f32], dx: &mut [f32]) {
        let Penalised { penalty, share, .. } = penalised;
        let rows = dx.chunks_mut(penalty.direction.len());
        for ((dx, shift), response) in rows.zip(shifts).zip(&self.rows.response) {
            if *response {
                let slope = 2.0 * penalty.weight * shift * share;
                add(dx, &penalty.direction, slope);
            }
        }
    }

    /// The penalty itself, summed over response tokens, of what a boundary noted.
    pub fn penalty(&self, notes: &[Noted]) -> f64 {
        let Some(penalised) = self.penalised else {
            return 0.0;
        };
        let weight = f64::from(penalised.penalty.weight);
        let of_rows = |shifts: &Vec<f32>| -> f64 {
            let rows = shifts.iter().zip(&self.rows.response);
            let counted = rows.filter(|(_, response)| **response);
            counted
                .map(|(shift, _)| weight * f64::from(*shift) * f64::from(*shift))
                .sum()
        };
        let shifts = notes.iter().filter_map(|noted| match noted {
            Noted::Boundary { shifts, .. } => shifts.as_ref(),
            _ => None,
        });
        shifts.map(of_rows).sum()
    }

    /// Of `y = W x + B · s A x` with `t = s A x`: `dt = s · dy B`, `dB += dyᵀ t`, `dA += dtᵀ x`, `dx = dy W + dt A`.
    fn project_backward(
        &self,
        (of, by): (Value, &[Factor]),
        noted: Noted,
        d: &mut Tensors<Vec<f32>>,
        last: bool,
        gradient: &mut [f32],
    ) {
        let (kernels, weights) = (self.kernels, self.model.weights());
        let outputs: Vec<_> = by.iter().map(|factor| d.take(factor.to)).collect();
        let mut d_inner: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        let adapted = match &noted {
            Noted::Adapted { input, inner } => Some((input, inner)),
            _ => None,
        };
        for (factor, dy) in by.iter().zip(&outputs) {
            let found = self.adapter_of(factor).zip(adapted);
            let Some(((adapter, number, first), (_, inner))) = found else {
                continue;
            };
            let (module, rank) = (&adapter.modules()[number], adapter.config().rank);
            let rows = weights[factor.matrix].rows;
            let scale = adapter.config().scale();
            let b = rows_of_b(adapter.b(module), first..first + rows, rank);
            let mut dt = kernels.product_with_transposed(dy, &b, rows);
            dt.iter_mut().for_each(|x| *x *= scale);
            d_inner
                .entry(number)
                .and_modify(|sum| add(sum, &dt, 1.0))
                .or_insert(dt);
            let mut d_b = vec![0.0; rank * rows];
            let count = self.rows.count();
            kernels.add_transposed_product(&inner[&number], dy, count, &mut d_b);
            let own = &mut gradient[module.b.clone()][first * rank..][..rows * rank];
            add(own, &transposed(&d_b, rows), 1.0);
        }
        if let Some((input, _)) = adapted {
            for (number, dt) in &d_inner {
                let module = self.adapter.map(|adapter| &adapter.modules()[*number]);
                if let Some(module) = module {
                    let own = &mut gradient[module.a.clone()];
                    kernels.add_transposed_product(dt, input, self.rows.count(), own);
                }
            }
        }
        if last {
            return;
        }
        let width = weights[by[0].matrix].cols;
        let mut dx = vec![0.0; self.rows.count() * width];
        let products = by.iter().zip(&outputs);
        let products: Vec<_> = products
            .map(|(factor, dy)| (&weights[factor.matrix], &dy[..]))
            .collect();
        kernels.project_backward(&products, &mut dx);
        for (number, dt) in &d_inner {
            if let Some(adapter) = self.adapter {
                let a = adapter.a(&adapter.modules()[*number]);
                kernels.add_product(dt, a, adapter.config().rank, &mut dx);
            }
        }
        d.add(of, dx);
    }
}
