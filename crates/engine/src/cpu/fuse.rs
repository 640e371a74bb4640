//! Which neighbours in the list of operations are computed together, so that what lies between them is not transposed.

use crate::index::Site;
use crate::op::{Activation, Factor, Op, Value};

/// Operations that are computed at once.
pub enum Step<'a> {
    /// A projection to gate and up, and the gate.
    Gated {
        of: Value,
        by: &'a [Factor],
        activation: Activation,
    },
    /// A projection that is added to the residual stream.
    Added {
        of: Value,
        by: &'a [Factor],
    },
    Alone(&'a Op),
}

/// The first step of `ops` and the operations after it. `wants` says whether a site between two operations is looked at,
/// which keeps them apart.
pub fn split_first(ops: &[Op], wants: impl Fn(Site) -> bool) -> Option<(Step<'_>, &[Op])> {
    let (op, after) = ops.split_first()?;
    if let Op::Project { of, by } = op {
        let of = *of;
        let unbiased = by.iter().all(|factor| factor.bias.is_none());
        if let [Op::Gate { by: activation }, rest @ ..] = after
            && unbiased
        {
            let activation = *activation;
            return Some((Step::Gated { of, by, activation }, rest));
        }
        let unwatched = match after {
            [Op::Boundary { site, .. }, rest @ ..] if !wants(*site) => rest,
            _ => after,
        };
        if let ([factor], [Op::Add { of: added, scale }, rest @ ..]) = (&by[..], unwatched)
            && unbiased
            && factor.to == *added
            && *scale == 1.0
        {
            return Some((Step::Added { of, by }, rest));
        }
    }
    Some((Step::Alone(op), after))
}
