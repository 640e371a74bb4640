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
    AttentionOutput,
    ProjectResidual,
    ProjectGated,
    FeedForward,
    ProjectLogits,
    Sample,
    /// Measures the adapter, not a model.
    Peak,
}

impl Kernel {
    pub const fn file(self) -> &'static str {
        match self {
            Self::Embed => "embed.wgsl",
            Self::Boundary => "boundary.wgsl",
            Self::ProjectQkv => "project_qkv.wgsl",
            Self::Attention => "attention.wgsl",
            Self::AttentionOutput => "attention_output.wgsl",
            Self::ProjectResidual => "project_residual.wgsl",
            Self::ProjectGated => "project_gated.wgsl",
            Self::FeedForward => "feed_forward.wgsl",
            Self::ProjectLogits => "project_logits.wgsl",
            Self::Sample => "sample.wgsl",
            Self::Peak => "peak.wgsl",
        }
    }
}

const SOURCES: [(&str, &str); 16] = [
    ("step.wgsl", include_str!("../../../../shaders/step.wgsl")),
    (
        "weights.wgsl",
        include_str!("../../../../shaders/weights.wgsl"),
    ),
    (
        "outputs.wgsl",
        include_str!("../../../../shaders/outputs.wgsl"),
    ),
    ("parts.wgsl", include_str!("../../../../shaders/parts.wgsl")),
    (
        "attend.wgsl",
        include_str!("../../../../shaders/attend.wgsl"),
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
        "attention_output.wgsl",
        include_str!("../../../../shaders/attention_output.wgsl"),
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
        "feed_forward.wgsl",
        include_str!("../../../../shaders/feed_forward.wgsl"),
    ),
    (
        "project_logits.wgsl",
        include_str!("../../../../shaders/project_logits.wgsl"),
    ),
    (
        "sample.wgsl",
        include_str!("../../../../shaders/sample.wgsl"),
    ),
    ("peak.wgsl", include_str!("../../../../shaders/peak.wgsl")),
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
        let source = template
            .render(context)
            .map_err(|error| broken(name, &error))?;
        #[cfg(test)]
        let source = sabotage::apply(kernel, source);
        Ok(source)
    }
}

/// For tests: the deliberate faults of `shaders/sabotage.json`, which the browser's tests read, too.
#[cfg(test)]
pub mod sabotage {
    use super::Kernel;
    use std::cell::RefCell;

    /// In sources of the kernel in file `kernel`, `from` becomes `to`; noticed at each of `precisions`.
    #[derive(Clone, Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Sabotage {
        pub name: String,
        /// Kind of kernel: a quick test makes one fault of each.
        pub class: String,
        pub kernel: String,
        pub precisions: Vec<String>,
        pub from: String,
        pub to: String,
    }

    pub fn all() -> Vec<Sabotage> {
        let list = include_str!("../../../../shaders/sabotage.json");
        serde_json::from_str(list).expect("a list of faults")
    }

    thread_local! {
        static UNDER_WAY: RefCell<Option<(Sabotage, usize)>> = const { RefCell::new(None) };
    }

    /// Runs `work` on this thread with every source that is rendered meanwhile so changed, and says how many were.
    pub fn during<T>(sabotage: &Sabotage, work: impl FnOnce() -> T) -> (T, usize) {
        UNDER_WAY.set(Some((sabotage.clone(), 0)));
        let done = work();
        (done, UNDER_WAY.take().map_or(0, |(_, applied)| applied))
    }

    pub fn apply(kernel: Kernel, source: String) -> String {
        UNDER_WAY.with_borrow_mut(|under_way| match under_way {
            Some((fault, applied))
                if fault.kernel == kernel.file() && source.contains(&fault.from) =>
            {
                *applied += 1;
                source.replace(&fault.from, &fault.to)
            }
            _ => source,
        })
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
    use crate::executor::Limits;
    use crate::gpu::attention::AttentionShape;
    use crate::gpu::graph::widths;
    use crate::gpu::model::{ProjectionShape, Rows, shader_sources};
    use crate::gpu::parts::{Parts, columns};
    use crate::gpu::variant::{ManyRows, Products, Workgroups};
    use crate::types::Precision;
    use trimtab_checkpoint::ModelConfig;

    const CONFIG: &[u8] = br#"{"model_type": "qwen2", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 96, "intermediate_size": 160, "vocab_size": 300, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": 2}"#;

    fn validate(label: &str, source: &str) {
        let module = naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(source)));
        // WebGPU's core and nothing else, unless halves are asked for; naga counts packing them as a capability, too.
        let mut capabilities = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        capabilities.set(
            naga::valid::Capabilities::SHADER_FLOAT16,
            source.contains("\nenable f16;"),
        );
        let mut validator =
            naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
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
            forks: false,
        };
        let mut validated = 0;
        let mut faults = sabotage::all();
        for activation in ["silu", "gelu_pytorch_tanh"] {
            let config = ModelConfig {
                activation: activation.into(),
                ..config.clone()
            };
            let architecture = Architecture::of(&config).unwrap();
            for precision in [Precision::Exact, Precision::Fast] {
                let mut validate = |label: &str, source: &str| {
                    super::tests::validate(label, source);
                    for fault in &mut faults {
                        if label.starts_with(&fault.kernel) && source.contains(&fault.from) {
                            fault
                                .precisions
                                .retain(|found| *found != format!("{precision:?}").to_lowercase());
                        }
                    }
                };
                for (packed_dot, workgroups) in
                    [(true, Workgroups::Wide), (false, Workgroups::Narrow)]
                {
                    let attention = AttentionShape::of(&config, precision, workgroups);
                    let sources =
                        shader_sources(&config, &architecture, &limits, precision, packed_dot)
                            .unwrap();
                    for work in ["read", "multiply"] {
                        let own = context! { work, rounds => 8 };
                        validate(work, &sources.render(Kernel::Peak, own).unwrap());
                    }
                    let parts = Parts::of(&config, precision, workgroups, attention).unwrap();
                    let parts = context! { ..parts.variables(), ..attention.variables() };
                    for (kernel, own) in [
                        (Kernel::Boundary, context! { lanes => 256, columns => 1 }),
                        (
                            Kernel::Boundary,
                            context! { lanes => 16, columns => 6, ..parts.clone() },
                        ),
                        (Kernel::Attention, attention.variables()),
                        (Kernel::Sample, context! {}),
                    ] {
                        validate(kernel.file(), &sources.render(kernel, own).unwrap());
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
                        let of_bytes = match precision {
                            Precision::Exact => [Products::Float; 2],
                            Precision::Fast => [Products::Packed, Products::Half],
                        };
                        for (tiles, products) in
                            [(1, of_bytes[0]), (1, of_bytes[1]), (3, Products::Float)]
                        {
                            let single = ProjectionShape {
                                tokens: 1,
                                tiles,
                                products,
                                rows: Rows::Single,
                                staged: 0,
                            };
                            let own = context! { form => *form, matrix_tiles => 2, strips => tiles, ..single.variables() };
                            let own = context! { ..own, ..parts.clone() };
                            let source = sources.render(Kernel::AttentionOutput, own).unwrap();
                            validate("attention_output.wgsl", &source);
                            for tokens in [1, 2] {
                                let pairs = ProjectionShape {
                                    tokens,
                                    products,
                                    tiles,
                                    rows: Rows::Pairs(["gate", "up"]),
                                    staged: 0,
                                };
                                let own = context! {
                                    columns => columns(config.hidden_size, attention.lanes), form => *form, matrix_tiles => 6, strips => tiles, down_form => *form, down_strips => tiles,
                                    down_names => single.row_names(), ..pairs.variables()
                                };
                                let own = context! { ..own, ..parts.clone() };
                                let source = sources.render(Kernel::FeedForward, own).unwrap();
                                validate("feed_forward.wgsl", &source);
                            }
                            validated += 3;
                        }
                        let staged = ManyRows::Staged;
                        let shapes = widths(ManyRows::Packed)
                            .into_iter()
                            .flat_map(|tokens| of_bytes.map(|products| (tokens, 1, products, 0)))
                            .chain([1, 3].map(|tiles| (8, tiles, Products::Float, 0)))
                            .chain([(staged.tokens(), 1, of_bytes[0], staged.staged(precision))]);
                        for (tokens, tiles, products, staged) in shapes {
                            for flag in [true, false] {
                                for (kernel, rows) in [
                                    (Kernel::ProjectQkv, Rows::Pairs(["a", "b"])),
                                    (Kernel::ProjectResidual, Rows::Single),
                                    (Kernel::ProjectGated, Rows::Pairs(["gate", "up"])),
                                    (Kernel::ProjectLogits, Rows::Single),
                                ] {
                                    let shape = ProjectionShape {
                                        tokens,
                                        tiles,
                                        products,
                                        rows,
                                        staged,
                                    };
                                    let own = context! { form => *form, half_cache => attention.half_cache, bias => flag, norm => flag, bias_at => 64, cols => 160, matrix_tiles => 8, ..shape.variables() };
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
        for fault in faults {
            assert!(fault.precisions.is_empty(), "no shader has {fault:?}");
        }
    }
}
