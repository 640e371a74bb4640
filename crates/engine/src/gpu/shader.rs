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
    pub const ALL: [Self; 8] = [
        Self::Embed,
        Self::Boundary,
        Self::ProjectQkv,
        Self::Attention,
        Self::ProjectResidual,
        Self::ProjectGated,
        Self::ProjectLogits,
        Self::Sample,
    ];

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
