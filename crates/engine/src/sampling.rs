//! Sampling parameters, and the noise that both executors share.

/// How the next token is chosen. The order is Hugging Face's: repetition penalty, temperature,
/// top-k, top-p; then the largest `logit + Gumbel noise` wins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// 0 is greedy: the largest logit after the repetition penalty, the lower id on a tie.
    pub temperature: f32,
    /// Keep the `k` largest logits; 0 keeps all. Ties with the k-th are kept.
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f32,
    /// Logits of tokens already in the sequence are divided (positive) or multiplied (negative) by this; 1 is off.
    pub repetition_penalty: f32,
    pub seed: u32,
}

/// A setting that no distribution can be made of.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SamplerError {
    #[error("the temperature is {0}; give a number from 0 (greedy) on")]
    Temperature(f32),
    #[error("top-p is {0}; give a probability above 0, and at most 1 (which keeps all tokens)")]
    TopP(f32),
    #[error("the repetition penalty is {0}; give a number above 0 (1 is off)")]
    RepetitionPenalty(f32),
}

impl Sampler {
    /// The sampler itself, where every setting means something.
    pub fn checked(self) -> Result<Self, SamplerError> {
        let Self {
            temperature,
            top_k: _,
            top_p,
            repetition_penalty,
            seed: _,
        } = self;
        // Written so that NaN fails.
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(SamplerError::Temperature(temperature));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SamplerError::TopP(top_p));
        }
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            return Err(SamplerError::RepetitionPenalty(repetition_penalty));
        }
        Ok(self)
    }

    /// Number that logits are divided by; 0 where the choice is greedy.
    ///
    /// The ends of the range are cut off where nothing more changes: below `1e-8` the noise is lost in the rounding of
    /// the divided logits, which would overflow in the end; above `1e30` only the noise is left, and the reciprocal
    /// that the GPU multiplies by would be too small to be a normal number.
    pub fn divisor(&self) -> f32 {
        if self.temperature < 1e-8 {
            0.0
        } else {
            self.temperature.min(1e30)
        }
    }

    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        repetition_penalty: 1.0,
        seed: 0,
    };
}

impl Default for Sampler {
    fn default() -> Self {
        Self::GREEDY
    }
}

/// PCG-RXS-M-XS-32 output of an LCG step (Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020).
pub const fn pcg(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// Uniform number in the open interval (0, 1) with 23 bits, a function of (seed, position of the
/// token being predicted, token id) alone, so that two executors draw the same noise.
pub fn uniform(seed: u32, position: u32, token: u32) -> f32 {
    let bits = pcg(token ^ pcg(position ^ pcg(seed)));
    ((bits >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0)
}

/// Standard Gumbel noise. A function of [`uniform`].
pub fn gumbel(seed: u32, position: u32, token: u32) -> f32 {
    -(-uniform(seed, position, token).ln()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_gumbel_mean_and_is_finite() {
        let count = 100_000;
        let sum: f64 = (0..count).map(|token| f64::from(gumbel(7, 3, token))).sum();
        let mean = sum / f64::from(count);
        // Euler's constant; the standard error is 1.28 / √100,000 = 0.004.
        assert!((mean - 0.577_2).abs() < 0.016, "{mean}");
        assert!((0..count).all(|token| gumbel(1, 1, token).is_finite()));
    }

    #[test]
    fn settings_without_a_meaning_are_refused() {
        let with = |change: fn(&mut Sampler, f32), value| {
            let mut sampler = Sampler::GREEDY;
            change(&mut sampler, value);
            sampler.checked().is_ok()
        };
        for (change, right, wrong) in [
            (
                (|sampler, value| sampler.temperature = value) as fn(&mut Sampler, f32),
                [0.0, 2.5],
                [-0.1, f32::NAN, f32::INFINITY],
            ),
            (
                |sampler, value| sampler.top_p = value,
                [0.01, 1.0],
                [0.0, 1.1, f32::NAN],
            ),
            (
                |sampler, value| sampler.repetition_penalty = value,
                [0.5, 1.3],
                [0.0, -1.0, f32::NAN],
            ),
        ] {
            assert!(right.iter().all(|value| with(change, *value)));
            assert!(wrong.iter().all(|value| !with(change, *value)));
        }
    }

    #[test]
    fn divided_logits_are_finite_at_every_temperature() {
        let with = |temperature| Sampler {
            temperature,
            ..Sampler::GREEDY
        };
        for temperature in [0.0, f32::from_bits(1), f32::MIN_POSITIVE, 9e-9] {
            assert_eq!(with(temperature).divisor(), 0.0, "{temperature}");
        }
        for temperature in [1e-8, 0.7, 1e10, f32::MAX] {
            let divisor = with(temperature).divisor();
            assert!((1e4 / divisor).is_finite() && (1.0 / divisor).is_normal());
        }
        assert_eq!(with(0.7).divisor(), 0.7);
    }

    #[test]
    fn every_argument_changes_the_noise() {
        let base = uniform(1, 2, 3);
        assert!(uniform(2, 2, 3) != base && uniform(1, 3, 3) != base && uniform(1, 2, 4) != base);
    }
}
