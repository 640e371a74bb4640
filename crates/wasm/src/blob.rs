//! A JavaScript `Blob` (or `File`) as a source of bytes.

use js_sys::Uint8Array;
use std::cell::RefCell;
use std::collections::VecDeque;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_checkpoint::{ByteSource, SourceError};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

/// Bytes of one `ArrayBuffer`: the file's bytes pass through JavaScript's memory in such pieces.
const PIECE: usize = 4 << 20;
/// Pieces that are kept: a file of weights has matrices, their scales and their vectors in places of their own.
const KEPT: usize = 3;

/// A browser takes milliseconds to read however few bytes, and a model has hundreds of small tensors: what stands behind
/// one is read with it and kept for the next.
#[derive(Debug)]
pub struct BlobSource {
    name: String,
    blob: Blob,
    /// `(offset, bytes)`, the last read first. In JavaScript's memory, since this module's never shrinks.
    kept: RefCell<VecDeque<(u64, Uint8Array)>>,
}

impl BlobSource {
    pub fn new(name: &str, blob: Blob) -> Self {
        Self {
            name: name.to_owned(),
            blob,
            kept: RefCell::default(),
        }
    }

    fn unreadable(&self, error: &JsValue) -> SourceError {
        SourceError::Unreadable {
            name: self.name.clone(),
            reason: format!(
                "the browser cannot read it ({}); if it lies on a removable disk or was changed meanwhile, open it again",
                crate::convert::text_of(error)
            ),
        }
    }

    async fn read_piece(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        if self.copy_kept(offset, into) {
            return Ok(());
        }
        let end = self.length().min(offset + PIECE as u64);
        let part = self
            .blob
            .slice_with_f64_and_f64(offset as f64, end as f64)
            .map_err(|error| self.unreadable(&error))?;
        let buffer = JsFuture::from(part.array_buffer())
            .await
            .map_err(|error| self.unreadable(&error))?;
        let bytes = Uint8Array::new(&buffer);
        if u64::from(bytes.length()) != end - offset {
            return Err(self.unreadable(&JsValue::from_str("it is shorter than it was")));
        }
        bytes.subarray(0, into.len() as u32).copy_to(into);
        if into.len() < PIECE {
            let mut kept = self.kept.borrow_mut();
            kept.truncate(KEPT - 1);
            kept.push_front((offset, bytes));
        }
        Ok(())
    }

    /// Whether all of it was there.
    fn copy_kept(&self, offset: u64, into: &mut [u8]) -> bool {
        let kept = self.kept.borrow();
        let end = offset + into.len() as u64;
        let found = kept
            .iter()
            .find(|(start, bytes)| *start <= offset && end <= start + u64::from(bytes.length()));
        let Some((start, bytes)) = found else {
            return false;
        };
        let at = (offset - start) as u32;
        bytes.subarray(at, at + into.len() as u32).copy_to(into);
        true
    }
}

impl ByteSource for BlobSource {
    fn length(&self) -> u64 {
        // A blob's size is an integer below 2^53.
        self.blob.size() as u64
    }

    fn read(&self, offset: u64, length: usize) -> LocalFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let end = offset.saturating_add(length as u64);
            if end > self.length() {
                return Err(SourceError::OutOfBounds {
                    name: self.name.clone(),
                    offset,
                    end,
                    length: self.length(),
                });
            }
            let mut bytes = vec![0; length];
            let mut at = offset;
            for piece in bytes.chunks_mut(PIECE) {
                self.read_piece(at, piece).await?;
                at += piece.len() as u64;
            }
            Ok(bytes)
        })
    }
}
