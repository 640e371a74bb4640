//! Averages of the residual stream while the contrast set's responses were read: one per response,
//! from which every estimator and every control is made.

use crate::extract::Side;

/// Over which tokens of a conversation the residual stream is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The response's tokens.
    Response,
    /// The prompt's, without the first token, which is an attention sink.
    Prompt,
    /// The prompt's last token alone.
    PromptLast,
}

/// Averages of one conversation, `[L+1, d]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Averages {
    /// One entry per kind of average, in the order of [`Average`].
    tables: [Vec<f32>; 3],
}

impl Averages {
    /// `residual` is `[T, L+1, d]` with `size = (L+1)·d`; the prompt has at least two tokens and the
    /// response at least one.
    pub fn of(residual: &[f32], size: usize, prompt_length: usize) -> Self {
        let mut sums = AverageSums::new(size, prompt_length);
        for (index, token) in residual.chunks(size).enumerate() {
            sums.add(index, token);
        }
        sums.finish()
    }

    /// `[L+1, d]`
    pub fn table(&self, average: Average) -> &[f32] {
        &self.tables[average as usize]
    }

    /// `[d]`
    pub fn row(&self, average: Average, layer: usize, width: usize) -> &[f32] {
        &self.table(average)[layer * width..(layer + 1) * width]
    }
}

/// Averages on their way, token by token.
#[derive(Clone, Debug)]
pub struct AverageSums {
    prompt_length: usize,
    /// One entry per kind of average, in the order of [`Average`].
    sums: [Vec<f64>; 3],
    counts: [usize; 3],
}

impl AverageSums {
    /// `size` is `(L+1)·d`.
    pub fn new(size: usize, prompt_length: usize) -> Self {
        Self {
            prompt_length,
            sums: [(); 3].map(|()| vec![0.0; size]),
            counts: [0; 3],
        }
    }

    /// Adds token `index`, whose residual stream is `residual`, `[L+1, d]`.
    pub fn add(&mut self, index: usize, residual: &[f32]) {
        let part_of = [
            index >= self.prompt_length,
            (1..self.prompt_length).contains(&index),
            index + 1 == self.prompt_length,
        ];
        for average in (0..3).filter(|&average| part_of[average]) {
            self.counts[average] += 1;
            for (sum, &value) in self.sums[average].iter_mut().zip(residual) {
                *sum += f64::from(value);
            }
        }
    }

    /// Averages of at least two tokens of a prompt and one of a response.
    pub fn finish(self) -> Averages {
        let mut counts = self.counts.into_iter();
        let tables = self.sums.map(|sums| {
            let share = 1.0 / counts.next().unwrap_or(1).max(1) as f64;
            sums.into_iter().map(|sum| (sum * share) as f32).collect()
        });
        Averages { tables }
    }
}

/// One response as the estimators see it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub side: Side,
    /// Instruction pair and question: with its counterpart on the other side it makes a pair.
    pub pair: usize,
    pub question: usize,
    pub averages: &'a Averages,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_leave_out_what_they_should() {
        // One layer row of width 1; the first token's residual is enormous.
        let found = Averages::of(&[25_000.0, 1.0, 3.0, 10.0, 20.0], 1, 3);
        assert_eq!(found.table(Average::Response), [15.0]);
        assert_eq!(found.table(Average::Prompt), [2.0]);
        assert_eq!(found.row(Average::PromptLast, 0, 1), [3.0]);
    }
}
