//! Text files as they are published: with a byte order mark, or with a Git LFS pointer in their place.

use crate::text::as_utf8;
use std::borrow::Cow;

/// The sentence about a file of which a `git clone` brought only the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is a Git LFS pointer, three lines that stand for the file; fetch the file itself with `git lfs pull` in the clone, or \
     download it from the model's page"
)]
pub struct LfsPointer;

const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Length of the beginning by which [`is_lfs_pointer`] knows a pointer.
pub const LFS_POINTER_BYTES: usize = LFS_POINTER.len();

/// Whether a file that begins with `bytes` is a Git LFS pointer.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(LFS_POINTER)
}

/// The bytes of a JSON or template file as UTF-8 without a byte order mark.
///
/// # Errors
/// A Git LFS pointer in its place.
pub fn plain_text(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LfsPointer> {
    if is_lfs_pointer(bytes) {
        return Err(LfsPointer);
    }
    Ok(as_utf8(bytes))
}
