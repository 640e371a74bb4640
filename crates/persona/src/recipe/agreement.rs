//! Agreement of a replay: how many tokens this machine would have chosen too, and how far readings lie apart.

use crate::recipe::replay::ReplayedAnswer;
use crate::recipe::tokens::{READING_STEP, coarse};
use crate::recipe::{Recipe, RecipeMessage};

/// A replay in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Tokens of all answers.
    pub tokens: usize,
    /// Number of tokens that this machine would have chosen too.
    pub agreed: usize,
    /// Largest distance of a reading from the one that the link carries in steps of
    /// [`READING_STEP`]; half a step is nothing. `None` where it carries none.
    pub readings_apart: Option<f32>,
    /// True if prompts were rendered to the author's tokens; `None` where the link does not say.
    pub same_prompts: Option<bool>,
}

/// Readings of one message's tokens as the recipe's author looked at them: from the first answer after
/// (or in) it. Empty where there are none.
pub fn readings_of_message(
    answers: &[ReplayedAnswer],
    recipe: &Recipe,
    direction: Option<usize>,
    message: usize,
) -> Vec<f32> {
    let (Some(direction), Some(layer)) = (direction, recipe.look.layer) else {
        return Vec::new();
    };
    let found = answers.iter().find_map(|answer| {
        let place = answer.places.get(message)?.clone()?;
        let block = match recipe.look.inside_run {
            true => &answer.in_run,
            false => &answer.reread,
        };
        (layer.index() < block.layer_rows && direction < block.traits).then_some((place, block))
    });
    found.map_or_else(Vec::new, |(place, block)| {
        place
            .map(|token| block.at(token, direction, layer))
            .collect()
    })
}

/// Writes the readings that the author looked at into a recipe, as coarsely as links carry them.
pub fn keep_readings(recipe: &mut Recipe, answers: &[ReplayedAnswer], direction: Option<usize>) {
    for message in 0..recipe.messages.len() {
        let readings = readings_of_message(answers, recipe, direction, message);
        let tokens = recipe.messages[message].tokens.as_mut();
        for (token, reading) in tokens.into_iter().flatten().zip(readings) {
            token.reading = coarse(reading);
        }
    }
}

impl Agreement {
    pub(crate) fn of(
        answers: &[ReplayedAnswer],
        recipe: &Recipe,
        direction: Option<usize>,
        same_prompts: Option<bool>,
    ) -> Self {
        let count = |of: fn(&ReplayedAnswer) -> usize| answers.iter().map(of).sum();
        let tokens = count(|answer| answer.chosen.len());
        let apart = |(message, carried): (usize, &RecipeMessage)| {
            let readings = readings_of_message(answers, recipe, direction, message);
            let tokens = carried.tokens.as_deref().unwrap_or_default();
            tokens
                .iter()
                .zip(readings)
                .filter_map(|(token, here)| Some((token.reading?, here)))
                .filter(|(_, here)| !here.is_nan())
                .map(|(author, here)| {
                    let most = coarse(f32::INFINITY).unwrap_or_default();
                    (author - here.clamp(-most, most)).abs()
                })
                .max_by(f32::total_cmp)
        };
        Self {
            tokens,
            agreed: tokens - count(|answer| answer.disagreements().len()),
            readings_apart: recipe
                .messages
                .iter()
                .enumerate()
                .filter_map(apart)
                .max_by(f32::total_cmp),
            same_prompts,
        }
    }

    /// Both together; whether prompts are the same is said by the first.
    pub(crate) fn and(self, more: Self) -> Self {
        let apart = [self.readings_apart, more.readings_apart];
        Self {
            tokens: self.tokens + more.tokens,
            agreed: self.agreed + more.agreed,
            readings_apart: apart.into_iter().flatten().max_by(f32::total_cmp),
            same_prompts: self.same_prompts,
        }
    }

    /// `this machine agrees on 148 of 150 tokens`, and what else is to be said.
    pub fn sentence(&self) -> String {
        let mut sentence = format!(
            "this machine agrees on {} of {} tokens",
            self.agreed, self.tokens
        );
        if let Some(apart) = self.readings_apart {
            let half = READING_STEP / 2.0;
            if apart > half + 0.01 {
                sentence += &format!("; readings differ by up to {:.2} deviations", apart - half);
            }
        }
        if self.same_prompts == Some(false) {
            sentence += "; its chat template or tokenizer makes other tokens of the messages than the author's did";
        }
        sentence
    }
}
