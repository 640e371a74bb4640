//! The static graph on a device: every dispatch of a forward pass with its pipeline and bind group, built once.

use super::graph::{Extent, Graph, Over, Planned, Slot};
use super::profile::Work;
use super::shader::{Constants, Kernel, render};
use crate::error::EngineError;
use std::collections::HashMap;

/// One dispatch, ready to record.
#[derive(Debug)]
pub struct Dispatch {
    pub kernel: Kernel,
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    /// The buffers that it is bound to.
    slots: Vec<Slot>,
    x: u32,
    y: Over,
    /// The work of its matrices for one row.
    pub work: Work,
}

impl Dispatch {
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

impl Graph<Dispatch> {
    /// Records a forward pass and says how many dispatches it took.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>, extent: Extent) -> usize {
        let mut recorded = 0;
        for dispatch in self.dispatches(extent) {
            if let Some(workgroups) = dispatch.workgroups(extent) {
                dispatch.record(pass, workgroups);
                recorded += 1;
            }
        }
        recorded
    }
}

impl Graph<Dispatch> {
    /// Binds those dispatches again that use a slot of which `moved` says that another buffer lies in it now.
    pub fn rebind<'b>(
        &mut self,
        device: &wgpu::Device,
        moved: impl Fn(&Slot) -> bool,
        buffer: impl Fn(Slot) -> Option<&'b wgpu::Buffer>,
    ) {
        for dispatch in &mut self.dispatches {
            if dispatch.slots.iter().any(&moved) {
                let slots = dispatch.slots.iter();
                let buffers: Vec<_> = slots.filter_map(|slot| buffer(*slot)).collect();
                dispatch.bindings = bind(device, dispatch.kernel, &dispatch.pipeline, &buffers);
            }
        }
    }
}

impl Graph<Planned> {
    /// Compiles each kernel once and binds every dispatch's buffers. `buffers` finds those of a dispatch, and the work of its matrices.
    pub fn compile<'b>(
        self,
        device: &wgpu::Device,
        buffers: impl Fn(&Planned) -> (Vec<&'b wgpu::Buffer>, Work),
    ) -> Result<Graph<Dispatch>, EngineError> {
        let mut pipelines = Pipelines::new(device);
        let compile = |planned: &Planned| {
            let (buffers, work) = buffers(planned);
            let Planned {
                kernel,
                constants,
                slots,
                x,
                y,
            } = planned;
            let mut dispatch = pipelines.dispatch(*kernel, constants, &buffers, (*x, *y), work)?;
            dispatch.slots.clone_from(slots);
            Ok(dispatch)
        };
        Ok(Graph {
            dispatches: self
                .dispatches
                .iter()
                .map(compile)
                .collect::<Result<_, EngineError>>()?,
            ways: self.ways,
            inside: self.inside,
            heads: self.heads,
            sample: self.sample,
        })
    }
}

/// Builds pipelines, one for each kernel and its constants.
#[derive(Debug)]
pub struct Pipelines<'a> {
    device: &'a wgpu::Device,
    built: HashMap<(Kernel, Constants), wgpu::ComputePipeline>,
}

impl<'a> Pipelines<'a> {
    pub fn new(device: &'a wgpu::Device) -> Self {
        Self {
            device,
            built: HashMap::new(),
        }
    }

    /// The dispatch of `kernel` over `buffers` in the order of its bindings.
    pub fn dispatch(
        &mut self,
        kernel: Kernel,
        constants: &Constants,
        buffers: &[&wgpu::Buffer],
        (x, y): (u32, Over),
        work: Work,
    ) -> Result<Dispatch, EngineError> {
        let key = (kernel, constants.clone());
        let pipeline = match self.built.get(&key) {
            Some(pipeline) => pipeline.clone(),
            None => {
                let pipeline = self.build(kernel, &render(kernel, constants)?);
                self.built.insert(key, pipeline.clone());
                pipeline
            }
        };
        Ok(Dispatch {
            kernel,
            bindings: bind(self.device, kernel, &pipeline, buffers),
            pipeline,
            slots: Vec::new(),
            x,
            y,
            work,
        })
    }

    fn build(&self, kernel: Kernel, source: &str) -> wgpu::ComputePipeline {
        let label = Some(kernel.label());
        let entries: Vec<_> = (0..)
            .zip(bindings(source))
            .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
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

fn bind(
    device: &wgpu::Device,
    kernel: Kernel,
    pipeline: &wgpu::ComputePipeline,
    buffers: &[&wgpu::Buffer],
) -> wgpu::BindGroup {
    let entries: Vec<_> = (0..)
        .zip(buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(kernel.label()),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    })
}

/// The kernel's bindings in order, as its own declarations say: a layout that said otherwise has given wrong numbers without an error.
pub fn bindings(source: &str) -> impl Iterator<Item = wgpu::BufferBindingType> {
    let declarations = source
        .lines()
        .filter_map(|line| line.strip_prefix("@group(0) @binding("));
    declarations.map(|rest| match rest.contains("var<uniform>") {
        true => wgpu::BufferBindingType::Uniform,
        false => wgpu::BufferBindingType::Storage {
            read_only: rest.contains("var<storage, read>"),
        },
    })
}
