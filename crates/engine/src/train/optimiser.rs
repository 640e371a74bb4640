//! AdamW, its schedule and the clipping of gradients, as PyTorch and Hugging Face transformers have them, in f32.

use serde::{Deserialize, Serialize};

/// Settings of the optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimiserSettings {
    pub learning_rate: f32,
    /// Decoupled from the gradient (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).
    pub weight_decay: f32,
    pub betas: [f32; 2],
    pub epsilon: f32,
    /// Steps over which the learning rate rises from 0; afterwards it falls to 0 over all that are left
    /// (`get_linear_schedule_with_warmup` of transformers, whose first step has a rate of 0 where there is a warm-up).
    pub warmup_steps: u32,
    /// The gradient's norm over all parameters is brought down to this; `None` leaves it.
    pub clip: Option<f32>,
}

impl Default for OptimiserSettings {
    /// PyTorch's, with a rate for adapters of small models and no decay.
    fn default() -> Self {
        Self {
            learning_rate: 5e-4,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            warmup_steps: 0,
            clip: Some(1.0),
        }
    }
}

impl OptimiserSettings {
    /// The learning rate of zero-based `step` of `steps`.
    pub fn rate(&self, step: u32, steps: u32) -> f32 {
        let warmup = self.warmup_steps;
        let factor = match step < warmup {
            true => f64::from(step) / f64::from(warmup.max(1)),
            false => {
                let left = f64::from(steps.saturating_sub(step));
                left / f64::from(steps.saturating_sub(warmup).max(1))
            }
        };
        (f64::from(self.learning_rate) * factor) as f32
    }

    pub(super) fn complaint(&self) -> Option<String> {
        let finite = |name: &str, value: f32, low: f32, high: f32| {
            let fits = value.is_finite() && low <= value && value <= high;
            (!fits).then(|| format!("{name} is {value}; it must be from {low} to {high}"))
        };
        let [first, second] = self.betas;
        finite("the learning rate", self.learning_rate, 0.0, 10.0)
            .or_else(|| finite("the weight decay", self.weight_decay, 0.0, 10.0))
            .or_else(|| finite("the first beta", first, 0.0, 0.999_999))
            .or_else(|| finite("the second beta", second, 0.0, 0.999_999_9))
            .or_else(|| finite("the optimiser's ε", self.epsilon, 0.0, 1.0))
            .or_else(|| finite("the clipping norm", self.clip.unwrap_or(1.0), 1e-12, 1e12))
    }
}

/// The running means of AdamW, one number a parameter each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Of gradients.
    pub first: Vec<f32>,
    /// Of their squares.
    pub second: Vec<f32>,
}

impl Moments {
    pub(super) fn zeros(parameters: usize) -> Self {
        Self {
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
        }
    }

    /// One step of AdamW (PyTorch's `AdamW`, `foreach=False`): `step` counts from 1, `rate` is its learning rate.
    pub(super) fn update(
        &mut self,
        settings: &OptimiserSettings,
        (step, rate): (u32, f32),
        gradient: &[f32],
        parameters: &mut [f32],
    ) {
        let [beta1, beta2] = settings.betas.map(f64::from);
        let power = f64::from(step);
        let first_correction = 1.0 - beta1.powf(power);
        let root_correction = (1.0 - beta2.powf(power)).sqrt();
        let size = (f64::from(rate) / first_correction) as f32;
        let root_correction = root_correction as f32;
        let decay = (1.0 - f64::from(rate) * f64::from(settings.weight_decay)) as f32;
        let (keep1, keep2) = (settings.betas[0], settings.betas[1]);
        let (take1, take2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((p, g), (m, v)) in parameters.iter_mut().zip(gradient).zip(moments) {
            *p *= decay;
            *m = keep1 * *m + take1 * g;
            *v = keep2 * *v + take2 * g * g;
            *p -= size * (*m / (v.sqrt() / root_correction + settings.epsilon));
        }
    }
}

/// Scales `gradient` down to norm `most`, where it is longer (PyTorch's `clip_grad_norm_`); returns the norm that it had.
pub(super) fn clip(gradient: &mut [f32], most: Option<f32>) -> f32 {
    let squares = gradient.iter().map(|g| f64::from(*g) * f64::from(*g));
    let norm = squares.sum::<f64>().sqrt();
    if let Some(most) = most {
        let scale = (f64::from(most) / (norm + 1e-6)).min(1.0) as f32;
        if scale < 1.0 {
            gradient.iter_mut().for_each(|g| *g *= scale);
        }
    }
    norm as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let settings = OptimiserSettings {
            learning_rate: 1.0,
            warmup_steps: 2,
            ..OptimiserSettings::default()
        };
        let rates: Vec<f32> = (0..6).map(|step| settings.rate(step, 6)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
    }

    /// The first step of Adam moves every parameter by the rate, whatever the gradient's size.
    #[test]
    fn the_first_step_is_the_rate_long_and_decay_is_apart_from_it() {
        let settings = OptimiserSettings {
            weight_decay: 0.1,
            ..OptimiserSettings::default()
        };
        let mut parameters = [2.0, -1.0];
        let mut moments = Moments::zeros(2);
        moments.update(&settings, (1, 0.01), &[1e3, -1e-3], &mut parameters);
        assert!((parameters[0] - (2.0 * 0.999 - 0.01)).abs() < 1e-6);
        assert!((parameters[1] - (-0.999 + 0.01)).abs() < 1e-6);
    }

    #[test]
    fn a_long_gradient_is_shortened() {
        let mut gradient = [3.0, 4.0];
        assert_eq!(clip(&mut gradient, Some(1.0)), 5.0);
        assert!((gradient[0] - 0.6).abs() < 1e-6 && (gradient[1] - 0.8).abs() < 1e-6);
        // A short one is left.
        let left = gradient;
        assert!((clip(&mut gradient, Some(2.0)) - 1.0).abs() < 1e-5);
        assert_eq!(gradient, left);
    }
}
