//! The static graph: every dispatch of a forward pass with its pipeline and bind group, built once.

use super::profile::Work;
use super::shader::{Kernel, ShaderSources};
use super::upload::GpuMatrix;
use super::variant::ManyRows;
use crate::error::EngineError;
use std::collections::HashMap;

/// Rows of the batch that one invocation of a projection computes, for one row, few and many.
pub const fn widths(many: ManyRows) -> [u32; 3] {
    [1, 2, many.tokens()]
}

/// Which of [`widths`] a batch of `rows` rows takes: the widest that is not mostly idle.
pub const fn width_for(rows: u32) -> usize {
    match rows {
        0 | 1 => 0,
        2..=4 => 1,
        _ => 2,
    }
}

/// How many workgroups along y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// One for every row of the batch, in groups of this many.
    Rows(u32),
    /// One for every row that asks for the head, in groups of this many.
    HeadRows(u32),
}

/// What of a batch decides how many workgroups there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub rows: u32,
    pub head_rows: u32,
    /// Splits of the keys that a row attends to (`shaders/parts.wgsl`).
    pub splits: u32,
}

/// One dispatch, ready to record.
#[derive(Debug)]
pub struct Dispatch {
    pub kernel: Kernel,
    pub pipeline: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroup,
    pub x: u32,
    pub y: Over,
    /// For one row.
    pub work: Work,
}

impl Dispatch {
    /// Notes that it multiplies with these.
    pub fn with(mut self, matrices: &[&GpuMatrix]) -> Self {
        for matrix in matrices {
            self.work += matrix.work();
        }
        self
    }

    /// Workgroups along x and y, or `None` where there is nothing to do.
    pub fn workgroups(&self, extent: Extent) -> Option<[u32; 2]> {
        let y = match self.y {
            Over::Rows(width) => extent.rows.div_ceil(width),
            Over::HeadRows(width) => extent.head_rows.div_ceil(width),
        };
        let workgroups = match self.kernel {
            Kernel::Boundary | Kernel::Sample => [y, 1],
            Kernel::AttentionOutput => [self.x * extent.splits, y],
            _ => [self.x, y],
        };
        (y > 0).then_some(workgroups)
    }

    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>, [x, y]: [u32; 2]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(x, y, 1);
    }
}

/// What a binding is to its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Uniform,
    Read,
    Write,
}

/// The bindings of each kernel in the order of its WGSL: `u`niform, `r`ead, `w`rite.
const fn signature(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Embed => "urrwwww",
        Kernel::Boundary => "uuwrrrwwww",
        Kernel::ProjectQkv => "urrrrrwww",
        Kernel::Attention => "urrrww",
        Kernel::AttentionOutput => "urrrrrw",
        Kernel::ProjectResidual => "urrrrwrww",
        Kernel::ProjectGated => "urrrrww",
        Kernel::FeedForward => "uwrrrrr",
        Kernel::ProjectLogits => "urrrrw",
        Kernel::Sample => "uwrww",
        Kernel::Peak => "rw",
    }
}

fn accesses(kernel: Kernel, bindings: usize) -> impl Iterator<Item = Access> {
    signature(kernel)
        .bytes()
        .take(bindings)
        .map(|letter| match letter {
            b'u' => Access::Uniform,
            b'r' => Access::Read,
            _ => Access::Write,
        })
}

/// Builds pipelines, each rendered source once.
#[derive(Debug)]
pub struct Pipelines<'a> {
    device: &'a wgpu::Device,
    sources: &'a ShaderSources,
    built: HashMap<String, wgpu::ComputePipeline>,
}

impl<'a> Pipelines<'a> {
    pub fn new(device: &'a wgpu::Device, sources: &'a ShaderSources) -> Self {
        Self {
            device,
            sources,
            built: HashMap::new(),
        }
    }

    /// The dispatch of `kernel` rendered with `variables`, over `buffers` in the order of its bindings.
    /// A kernel without its last bindings (the norm of `project_residual.wgsl`) is given fewer buffers.
    pub fn dispatch(
        &mut self,
        kernel: Kernel,
        variables: minijinja::Value,
        buffers: &[&wgpu::Buffer],
        x: u32,
        y: Over,
    ) -> Result<Dispatch, EngineError> {
        let source = self.sources.render(kernel, variables)?;
        let pipeline = match self.built.get(&source) {
            Some(pipeline) => pipeline.clone(),
            None => {
                let pipeline = self.build(kernel, &source, buffers.len());
                self.built.insert(source, pipeline.clone());
                pipeline
            }
        };
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let bindings = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.file()),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Ok(Dispatch {
            kernel,
            pipeline,
            bindings,
            x,
            y,
            work: Work::default(),
        })
    }

    fn build(&self, kernel: Kernel, source: &str, bindings: usize) -> wgpu::ComputePipeline {
        let label = Some(kernel.file());
        let entries: Vec<_> = (0..)
            .zip(accesses(kernel, bindings))
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label,
                entries: &entries,
            });
        let pipeline_layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
        let module = self
            .device
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label,
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
        self.device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            })
    }
}
