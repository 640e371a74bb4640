//! Weights on their way from the file to GPU memory, in pieces of a few MiB.

use super::buffers::Buffers;
use super::device::Device;
use super::layout::{Form, MatrixShape, RowOrder, TILE, place_row};
use super::profile::Work;
use crate::error::EngineError;
use crate::op::{ForwardPass, MatrixId};
use crate::types::LoadProgress;
use std::ops::Range;
use trimtab_checkpoint::encoding::BLOCK;
use trimtab_checkpoint::family::ModelWeight;
use trimtab_checkpoint::{ByteSource, Encoding, StoredTensor, WeightFile, WeightRows};

/// Bytes read from the file, and bytes given to the queue, at once.
const PIECE: usize = 4 << 20;
/// The queue keeps written bytes in host memory until a submission: make one this often.
const FLUSH: u64 = 16 << 20;

/// A matrix in tiles on the GPU; biases lie after the scales.
#[derive(Debug)]
pub struct GpuMatrix {
    pub data: wgpu::Buffer,
    pub scales: wgpu::Buffer,
    pub shape: MatrixShape,
}

impl GpuMatrix {
    /// The work of a product with one vector.
    pub fn work(&self) -> Work {
        let rows = self.shape.tiles * TILE;
        Work {
            bytes: (self.data.size() + self.scales.size()) as f64,
            products: (rows * self.shape.blocks * BLOCK) as f64,
        }
    }
}

/// Reads tensors, checks their shapes, uploads them and reports how far it is.
pub struct Uploader<'a, S> {
    pub device: &'a Device,
    pub buffers: &'a Buffers<'a>,
    pub file: &'a WeightFile<S>,
    progress: &'a mut dyn FnMut(LoadProgress),
    done: LoadProgress,
    unflushed: u64,
}

impl<'a, S: ByteSource> Uploader<'a, S> {
    pub fn new(
        device: &'a Device,
        buffers: &'a Buffers<'a>,
        file: &'a WeightFile<S>,
        progress: &'a mut dyn FnMut(LoadProgress),
    ) -> Self {
        let bytes_total = file.tensors().map(StoredTensor::stored_bytes).sum();
        let done = LoadProgress {
            bytes_done: 0,
            bytes_total,
        };
        Self {
            device,
            buffers,
            file,
            progress,
            done,
            unflushed: 0,
        }
    }

    /// A vector as f32 on the host.
    pub async fn vector(&mut self, vector: &ModelWeight) -> Result<Vec<f32>, EngineError> {
        let values = self.file.vector(vector).await?;
        self.advance(4 * values.len() as u64);
        Ok(values)
    }

    /// A vector as a storage buffer.
    pub async fn vector_buffer(
        &mut self,
        vector: &ModelWeight,
    ) -> Result<wgpu::Buffer, EngineError> {
        let values = self.vector(vector).await?;
        let buffer = self.buffers.storage(&vector.name, vector.cols);
        self.device
            .queue
            .write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
        Ok(buffer)
    }

    fn encodings(&self, weights: &[&ModelWeight]) -> Result<Vec<Encoding>, EngineError> {
        let holders = weights.iter().map(|weight| self.file.holder(weight));
        let encodings = holders.map(|holder| Ok(holder?.encoding));
        encodings.collect()
    }

    /// The form and size that matrices of `pass` have together in `order`.
    pub fn shape(
        &self,
        pass: &ForwardPass,
        matrices: &[MatrixId],
        order: &RowOrder,
        biases: usize,
    ) -> Result<MatrixShape, EngineError> {
        let weights: Vec<_> = matrices.iter().map(|&id| pass.matrix(id)).collect();
        let encodings = self.encodings(&weights)?.into_iter();
        let forms: Vec<_> = encodings.map(Form::of).collect();
        Ok(MatrixShape::new(&forms, order, weights[0].cols, biases))
    }

    /// Stacks matrices of `pass` in `order` into one; `biases` (in pair order) follow the scales.
    pub async fn matrix(
        &mut self,
        pass: &ForwardPass,
        matrices: &[MatrixId],
        order: &RowOrder,
        biases: &[f32],
    ) -> Result<GpuMatrix, EngineError> {
        let weights: Vec<_> = matrices.iter().map(|&id| pass.matrix(id)).collect();
        let encodings = self.encodings(&weights)?;
        let label = weights[0].name.as_str();
        let shape = self.shape(pass, matrices, order, biases.len())?;
        let [data_words, _] = shape.words();
        let (data, scales) = self
            .device
            .allocate("the weights", || {
                (
                    self.buffers.storage(label, data_words),
                    self.buffers.storage(label, shape.all_scale_words()),
                )
            })
            .await?;
        let mut windows: Vec<_> = weights
            .iter()
            .zip(encodings)
            .map(|(weight, encoding)| Window::new(self.file, weight, encoding))
            .collect();
        let mut at = [0, 0];
        for (tiles, form) in shape.runs() {
            let [tile_words, tile_scales] = form.tile_words(shape.blocks);
            let step = (PIECE / (tile_words * 4)).max(1);
            for first in tiles.clone().step_by(step) {
                let count = step.min(tiles.end - first);
                let mut words = vec![0; count * tile_words];
                let mut scale_words = vec![0; count * tile_scales];
                for tile in 0..count {
                    for lane in 0..TILE {
                        let Some(source) = order.source(first + tile, lane) else {
                            continue;
                        };
                        let window = &mut windows[source.tensor];
                        let row = window.locate(source.row).await?;
                        place_row(
                            &window.rows,
                            row,
                            form,
                            lane,
                            &mut words[tile * tile_words..][..tile_words],
                            &mut scale_words[tile * tile_scales..][..tile_scales],
                        );
                    }
                }
                let parts = [(&data, &words), (&scales, &scale_words)];
                for ((buffer, words), at) in parts.into_iter().zip(&mut at) {
                    if !words.is_empty() {
                        let bytes = bytemuck::cast_slice(words);
                        self.device.queue.write_buffer(buffer, *at, bytes);
                        *at += bytes.len() as u64;
                    }
                }
                let read = windows
                    .iter_mut()
                    .map(|window| std::mem::take(&mut window.bytes_read))
                    .sum();
                self.advance(read);
            }
        }
        if !biases.is_empty() {
            self.device.queue.write_buffer(
                &scales,
                (shape.scale_words() * 4) as u64,
                bytemuck::cast_slice(biases),
            );
        }
        Ok(GpuMatrix {
            data,
            scales,
            shape,
        })
    }

    fn advance(&mut self, bytes: u64) {
        self.done.bytes_done += bytes;
        self.unflushed += bytes;
        if self.unflushed >= FLUSH {
            self.unflushed = 0;
            self.device.queue.submit([]);
        }
        (self.progress)(self.done);
    }
}

/// The part of a weight that is in host memory.
struct Window<'a, S> {
    file: &'a WeightFile<S>,
    weight: &'a ModelWeight,
    range: Range<usize>,
    rows: WeightRows,
    bytes_read: u64,
}

impl<'a, S: ByteSource> Window<'a, S> {
    fn new(file: &'a WeightFile<S>, weight: &'a ModelWeight, encoding: Encoding) -> Self {
        Self {
            file,
            weight,
            range: 0..0,
            rows: WeightRows::none(encoding, weight.cols),
            bytes_read: 0,
        }
    }

    /// Makes `row` part of the window and returns its place there.
    async fn locate(&mut self, row: usize) -> Result<usize, EngineError> {
        if !self.range.contains(&row) {
            let count = (PIECE / self.rows.encoding.data_bytes(self.weight.cols)).max(1);
            self.range = row..self.weight.rows.min(row + count);
            // The old rows go before the new ones come.
            self.rows.data = Vec::new();
            self.rows = self.file.rows_of(self.weight, self.range.clone()).await?;
            self.bytes_read += self.rows.bytes() as u64;
        }
        Ok(row - self.range.start)
    }
}
