//! An engine's memory of its conversations: cached tokens, active plans, resident changes.

use crate::executor::ChangeSlot;
use crate::index::TokenId;
use crate::record::TokenRecord;
use crate::steering::{ComposedChange, Fingerprint, PlanError, SteeringPlan, TokenRole};

/// A token whose keys and values lie in the executor's cache.
#[derive(Clone, Debug)]
pub struct CachedToken {
    /// Fingerprint of the change that steered it.
    pub fingerprint: Fingerprint,
    /// The token that its prediction was scored against.
    pub scored: Option<TokenId>,
    pub record: TokenRecord,
}

/// One conversation's cache, from its first token.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    pub tokens: Vec<CachedToken>,
}

impl Sequence {
    pub fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
    }

    /// Whether the token at `index` already has the log-probability of `target` after it.
    pub fn is_scored(&self, index: usize, target: TokenId) -> bool {
        self.tokens[index].scored == Some(target)
    }
}

/// A plan's effect on one role of token.
#[derive(Clone, Debug)]
pub struct Effect(Option<ComposedChange>);

impl Effect {
    pub fn fingerprint(&self) -> Fingerprint {
        self.0
            .as_ref()
            .map_or(Fingerprint::UNSTEERED, |change| change.fingerprint)
    }

    pub fn change(&self) -> Option<&ComposedChange> {
        self.0.as_ref()
    }
}

/// A plan composed for both roles of token.
#[derive(Clone, Debug)]
pub struct ActivePlan {
    prompt: Effect,
    response: Effect,
}

impl ActivePlan {
    pub fn new(plan: &SteeringPlan, layer_rows: usize, width: usize) -> Result<Self, PlanError> {
        let effect = |role| plan.compose(role, layer_rows, width).map(Effect);
        Ok(Self {
            prompt: effect(TokenRole::Prompt)?,
            response: effect(TokenRole::Response)?,
        })
    }

    /// The plan's effect on the token at `index` of a sequence whose prompt has `prompt_length` tokens.
    pub fn effect(&self, index: usize, prompt_length: usize) -> &Effect {
        if index + 1 < prompt_length {
            &self.prompt
        } else {
            &self.response
        }
    }
}

/// Which composed changes lie on the executor; the one used longest ago makes room, but none that a row of
/// the batch in the making names.
#[derive(Debug)]
pub struct ChangeSlots {
    /// Fingerprint and time of last use.
    slots: Vec<(Fingerprint, u64)>,
    clock: u64,
    /// When the batch in the making was begun.
    begun: u64,
}

impl ChangeSlots {
    pub fn new(count: usize) -> Self {
        Self {
            slots: vec![(Fingerprint::UNSTEERED, 0); count],
            clock: 0,
            begun: 0,
        }
    }

    /// The slots used so far may make room again: their batch was submitted, or given up.
    pub fn begin_batch(&mut self) {
        self.begun = self.clock;
    }

    /// Whether the batch in the making can use this change, too.
    pub fn has_room(&self, fingerprint: Fingerprint) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|(known, used)| *known == fingerprint || *used <= self.begun)
    }

    /// The slot for a change, and whether the change is already there; `None` where the batch in the making
    /// names every slot for something else.
    pub fn place(&mut self, fingerprint: Fingerprint) -> Option<(ChangeSlot, bool)> {
        let known = self.slots.iter().position(|slot| slot.0 == fingerprint);
        let oldest = || {
            (0..self.slots.len())
                .filter(|&index| self.slots[index].1 <= self.begun)
                .min_by_key(|&index| self.slots[index].1)
        };
        let index = known.or_else(oldest)?;
        self.clock += 1;
        self.slots[index] = (fingerprint, self.clock);
        Some((ChangeSlot(index as u32), known.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_used_longest_ago_makes_room_between_batches() {
        let mut slots = ChangeSlots::new(2);
        let (first, resident) = slots.place(Fingerprint(1)).unwrap();
        assert!(!resident);
        slots.place(Fingerprint(2)).unwrap();
        assert_eq!(slots.place(Fingerprint(1)), Some((first, true)));
        assert!(slots.has_room(Fingerprint(2)) && !slots.has_room(Fingerprint(3)));
        assert_eq!(slots.place(Fingerprint(3)), None, "both are in use");
        slots.begin_batch();
        assert!(slots.has_room(Fingerprint(3)));
        let (third, resident) = slots.place(Fingerprint(3)).unwrap();
        assert!(!resident && third != first);
        assert_eq!(slots.place(Fingerprint(1)), Some((first, true)));
    }

    #[test]
    fn the_last_prompt_token_counts_as_response() {
        let plan = ActivePlan::new(&SteeringPlan::default(), 2, 2).unwrap();
        assert!(std::ptr::eq(plan.effect(3, 4), &plan.response));
        assert!(std::ptr::eq(plan.effect(2, 4), &plan.prompt));
    }
}
