//! Rotary positions (Su et al., "RoFormer", 2021): by which angles a model turns its queries and keys.

use serde_json::{Map, Value};

/// The pair `i` of a head is turned by `position · frequency(i)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// The base: unscaled, frequency `i` is `theta^(−2i / dimensions)`.
    pub theta: f32,
    /// The share of a head's dimensions that is turned; those behind it stay as they are.
    pub fraction: f32,
    pub scaling: Scaling,
}

/// How frequencies are changed, so that a model reads longer texts than it was first trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    None,
    /// Every frequency is divided by `factor` (Chen et al., "Position Interpolation", 2023).
    Linear {
        factor: f32,
    },
    /// Llama 3: waves longer than `original_context / low` are stretched by `factor`, those shorter than
    /// `original_context / high` stay, and between them it goes smoothly.
    Llama3 {
        factor: f32,
        low: f32,
        high: f32,
        original_context: f32,
    },
    /// Each frequency is divided by its own factor, and what was turned multiplied by `amplitude` (Ding et al., "LongRoPE",
    /// 2024). A run that stays within the original context takes the short factors.
    Factors {
        short: Vec<f32>,
        long: Vec<f32>,
        amplitude: f32,
        original_context: usize,
    },
}

impl Rotary {
    pub const fn unscaled(theta: f32) -> Self {
        Self {
            theta,
            fraction: 1.0,
            scaling: Scaling::None,
        }
    }

    /// How many dimensions of a head are turned.
    pub fn dimensions(&self, head_dim: usize) -> usize {
        (head_dim as f32 * self.fraction) as usize
    }

    /// One for each pair, in f32 as Hugging Face computes them.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        let dimensions = self.dimensions(head_dim);
        let powers =
            (0..dimensions / 2).map(|pair| self.theta.powf((2 * pair) as f32 / dimensions as f32));
        match &self.scaling {
            Scaling::None => powers.map(|power| 1.0 / power).collect(),
            Scaling::Linear { factor } => powers.map(|power| 1.0 / power / factor).collect(),
            Scaling::Factors { short, .. } => powers
                .zip(short)
                .map(|(power, factor)| 1.0 / (factor * power))
                .collect(),
            Scaling::Llama3 {
                factor,
                low,
                high,
                original_context,
            } => powers
                .map(|power| {
                    let frequency = 1.0 / power;
                    let wavelength = 2.0 * std::f32::consts::PI / frequency;
                    if wavelength > original_context / low {
                        frequency / factor
                    } else if wavelength < original_context / high {
                        frequency
                    } else {
                        let smooth = (original_context / wavelength - low) / (high - low);
                        (1.0 - smooth) * (frequency / factor) + smooth * frequency
                    }
                })
                .collect(),
        }
    }

    /// What sines and cosines are multiplied by.
    pub const fn amplitude(&self) -> f32 {
        match self.scaling {
            Scaling::Factors { amplitude, .. } => amplitude,
            _ => 1.0,
        }
    }

    /// The longest text that these frequencies serve, where they do not serve every one.
    pub fn longest(&self) -> Option<usize> {
        match &self.scaling {
            Scaling::Factors {
                short,
                long,
                original_context,
                ..
            } => (short != long).then_some(*original_context),
            _ => None,
        }
    }

    /// Fails unless heads of that width can be turned so.
    pub fn check(&self, head_dim: usize) -> Result<(), String> {
        let dimensions = self.dimensions(head_dim);
        if !(0.0..=1.0).contains(&self.fraction) || dimensions == 0 || !dimensions.is_multiple_of(2)
        {
            return Err(format!(
                "turns {} of {head_dim} dimensions of a head, which is not an even number of them",
                self.fraction * head_dim as f32
            ));
        }
        let Scaling::Factors { short, long, .. } = &self.scaling else {
            return Ok(());
        };
        let pairs = dimensions / 2;
        match short.len() == pairs && long.len() == pairs {
            true => Ok(()),
            false => Err(format!(
                "has {} short and {} long factors for {pairs} pairs of dimensions",
                short.len(),
                long.len()
            )),
        }
    }

    /// As one of `config.json`'s `rope_…` objects says, and else as `self`. `context` is the longest text that the model reads,
    /// `original` the one that it was first trained on, where another field says so.
    ///
    /// # Errors
    /// Every key has to be understood: one that counted as absent would make every number a little wrong.
    pub fn stated(
        self,
        rope: &Map<String, Value>,
        context: usize,
        original: Option<u64>,
    ) -> Result<Self, String> {
        let mut fields = Fields(rope.iter().filter(|(_, value)| !value.is_null()).collect());
        let theta = fields.number("rope_theta")?;
        let fraction = fields.number("partial_rotary_factor")?;
        let kind = fields.text("rope_type")?.or(fields.text("type")?);
        let scaling = match kind.unwrap_or("default") {
            "default" => match fields.number("factor")? {
                None | Some(1.0) => Scaling::None,
                Some(factor) => return Err(format!("has factor: {factor} without a rope_type")),
            },
            "linear" => Scaling::Linear {
                factor: fields.needed("factor")? as f32,
            },
            "llama3" => Scaling::Llama3 {
                factor: fields.needed("factor")? as f32,
                low: fields.needed("low_freq_factor")? as f32,
                high: fields.needed("high_freq_factor")? as f32,
                original_context: fields.needed("original_max_position_embeddings")? as f32,
            },
            "longrope" | "su" => {
                let stated = fields.number("original_max_position_embeddings")?;
                let original = stated
                    .or(original.map(|original| original as f64))
                    .unwrap_or(context as f64);
                let factor = fields.number("factor")?;
                let factor = factor.unwrap_or(context as f64 / original);
                let amplitude = match fields.number("attention_factor")? {
                    Some(stated) => stated,
                    None if factor <= 1.0 => 1.0,
                    None => (1.0 + factor.ln() / original.ln()).sqrt(),
                };
                Scaling::Factors {
                    short: fields.factors("short_factor")?,
                    long: fields.factors("long_factor")?,
                    amplitude: amplitude as f32,
                    original_context: original as usize,
                }
            }
            kind => {
                let kind: String = kind.chars().take(64).collect();
                return Err(format!(
                    "is `{kind}`, which is not supported (default, linear, llama3 and longrope are)"
                ));
            }
        };
        fields.nothing_left()?;
        Ok(Self {
            theta: theta.map_or(self.theta, |theta| theta as f32),
            fraction: fraction.map_or(self.fraction, |fraction| fraction as f32),
            scaling: match kind {
                None => self.scaling,
                Some(_) => scaling,
            },
        })
    }
}

/// The fields of an object that nobody has asked for yet.
struct Fields<'a>(Vec<(&'a String, &'a Value)>);

impl<'a> Fields<'a> {
    fn take(&mut self, key: &str) -> Option<(&'a String, &'a Value)> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at))
    }

    fn text(&mut self, key: &str) -> Result<Option<&'a str>, String> {
        self.take(key)
            .map(|(key, value)| value.as_str().ok_or_else(|| unsupported(key, value)))
            .transpose()
    }

    fn number(&mut self, key: &str) -> Result<Option<f64>, String> {
        self.take(key)
            .map(|(key, value)| positive(value).ok_or_else(|| unsupported(key, value)))
            .transpose()
    }

    fn needed(&mut self, key: &str) -> Result<f64, String> {
        self.number(key)?
            .ok_or_else(|| format!("does not say its {key}"))
    }

    fn factors(&mut self, key: &str) -> Result<Vec<f32>, String> {
        let (key, value) = self
            .take(key)
            .ok_or_else(|| format!("does not say its {key}"))?;
        let factors = value.as_array().filter(|factors| factors.len() <= 512);
        let factors = factors.ok_or_else(|| unsupported(key, value))?.iter();
        let factors = factors.map(|factor| positive(factor).map(|factor| factor as f32));
        factors
            .collect::<Option<_>>()
            .ok_or_else(|| unsupported(key, value))
    }

    fn nothing_left(&self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((key, value)) => Err(unsupported(key, value)),
        }
    }
}

/// A number that something can be divided by.
fn positive(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .filter(|number| (1e-9..=1e12).contains(number))
}

fn unsupported(key: &str, value: &Value) -> String {
    let shown: String = format!("{key}: {value}").chars().take(100).collect();
    format!("has {shown}, which is not supported")
}
