//! The kernels' source: templates of `shaders/`, rendered for one model and one adapter.

use crate::error::EngineError;
use minijinja::{Environment, Value, context};

/// Kernels, one WGSL file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    Embed,
    Boundary,
    ProjectQkv,
    Attention,
    ProjectResidual,
    ProjectGated,
    ProjectLogits,
    Sample,
}

impl Kernel {
    pub const fn file(self) -> &'static str {
        match self {
            Self::Embed => "embed.wgsl",
            Self::Boundary => "boundary.wgsl",
            Self::ProjectQkv => "project_qkv.wgsl",
            Self::Attention => "attention.wgsl",
            Self::ProjectResidual => "project_residual.wgsl",
            Self::ProjectGated => "project_gated.wgsl",
            Self::ProjectLogits => "project_logits.wgsl",
            Self::Sample => "sample.wgsl",
        }
    }
}

const SOURCES: [(&str, &str); 11] = [
    ("step.wgsl", include_str!("../../../../shaders/step.wgsl")),
    (
        "weights.wgsl",
        include_str!("../../../../shaders/weights.wgsl"),
    ),
    (
        "outputs.wgsl",
        include_str!("../../../../shaders/outputs.wgsl"),
    ),
    ("embed.wgsl", include_str!("../../../../shaders/embed.wgsl")),
    (
        "boundary.wgsl",
        include_str!("../../../../shaders/boundary.wgsl"),
    ),
    (
        "project_qkv.wgsl",
        include_str!("../../../../shaders/project_qkv.wgsl"),
    ),
    (
        "attention.wgsl",
        include_str!("../../../../shaders/attention.wgsl"),
    ),
    (
        "project_residual.wgsl",
        include_str!("../../../../shaders/project_residual.wgsl"),
    ),
    (
        "project_gated.wgsl",
        include_str!("../../../../shaders/project_gated.wgsl"),
    ),
    (
        "project_logits.wgsl",
        include_str!("../../../../shaders/project_logits.wgsl"),
    ),
    (
        "sample.wgsl",
        include_str!("../../../../shaders/sample.wgsl"),
    ),
];

/// The templates with what is common to every kernel of one engine.
#[derive(Debug)]
pub struct ShaderSources {
    environment: Environment<'static>,
    common: Value,
}

impl ShaderSources {
    /// `common` is visible to every kernel; `packed_dot` says whether the adapter's WGSL has
    /// `dot4I8Packed` (otherwise the same sum is spelled out).
    pub fn new(common: Value, packed_dot: bool) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        for (name, source) in SOURCES {
            environment
                .add_template(name, source)
                .map_err(|error| broken(name, &error))?;
        }
        environment.add_global("packed_dot", packed_dot);
        Ok(Self {
            environment,
            common,
        })
    }

    /// The WGSL of `kernel` with `own` added to what is common.
    pub fn render(&self, kernel: Kernel, own: Value) -> Result<String, EngineError> {
        let name = kernel.file();
        let template = self
            .environment
            .get_template(name)
            .map_err(|error| broken(name, &error))?;
        let context = context! { ..own, ..self.common.clone() };
        template
            .render(context)
            .map_err(|error| broken(name, &error))
    }
}

fn broken(name: &str, error: &minijinja::Error) -> EngineError {
    EngineError::Device {
        what: format!("the template {name}"),
        reason: format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::engine::Precision;
    use crate::executor::Limits;
    use crate::gpu::graph::WIDTHS;
    use crate::gpu::model::shader_sources;
    use trimtab_checkpoint::ModelConfig;

    const CONFIG: &[u8] = br#"{"model_type": "qwen2", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 96, "intermediate_size": 160, "vocab_size": 300, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": 2}"#;

    fn validate(label: &str, source: &str) {
        let module = naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(source)));
        // WebGPU's core and nothing else; naga counts packing halves as a capability.
        let mut validator = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        );
        validator
            .validate(&module)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(source)));
    }

    #[test]
    fn every_kernel_in_every_variant_is_valid_portable_wgsl() {
        let config = ModelConfig::from_json(CONFIG).unwrap();
        let limits = Limits {
            rows: 16,
            head_rows: 16,
            sequences: 2,
            context: 128,
            change_slots: 6,
            in_flight: 4,
        };
        let mut validated = 0;
        for activation in ["silu", "gelu_pytorch_tanh"] {
            let config = ModelConfig {
                activation: activation.into(),
                ..config.clone()
            };
            let architecture = Architecture::of(&config).unwrap();
            for precision in [Precision::Exact, Precision::Fast] {
                for packed_dot in [true, false] {
                    let sources =
                        shader_sources(&config, &architecture, &limits, precision, packed_dot)
                            .unwrap();
                    for kernel in [Kernel::Boundary, Kernel::Attention, Kernel::Sample] {
                        validate(kernel.file(), &sources.render(kernel, context! {}).unwrap());
                        validated += 1;
                    }
                    let forms: &[&str] = match precision {
                        Precision::Exact => &["q4", "q8", "f16", "bf16", "f32"],
                        Precision::Fast => &["q4", "q8"],
                    };
                    for form in forms {
                        validate(
                            "embed.wgsl",
                            &sources
                                .render(Kernel::Embed, context! { form => *form })
                                .unwrap(),
                        );
                        for tokens in WIDTHS {
                            for flag in [true, false] {
                                let own = context! { form => *form, tokens, bias => flag, norm => flag, bias_at => 64, cols => 160 };
                                for kernel in [
                                    Kernel::ProjectQkv,
                                    Kernel::ProjectResidual,
                                    Kernel::ProjectGated,
                                    Kernel::ProjectLogits,
                                ] {
                                    let label = format!(
                                        "{} {form} {precision:?} × {tokens}",
                                        kernel.file()
                                    );
                                    validate(&label, &sources.render(kernel, own.clone()).unwrap());
                                    validated += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
        assert!(validated > 600, "{validated}");
    }
}
