// SPDX-License-Identifier: GPL-2.0

//! The allocation seam: the containers of the pure core, each of whose allocations may fail.
//!
//! In the kernel they stand on the kernel's `Vec` and `Arc`: process context, may sleep, and fails where
//! memory is short. On the host they stand on the standard library, and tests make the n-th
//! allocation fail with `fail_after`.

use core::ops::{
    Deref,
    DerefMut, //
};

/// An allocation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

#[cfg(MODULE)]
mod backend {
    use super::NoMemory;
    use crate::linux::memory::{
        Exact,
        MAY_FAIL, //
    };
    use kernel::sync::UniqueArc;

    pub(super) type Buffer<T> = kernel::alloc::Vec<T, Exact>;
    pub(super) type Shared<T> = kernel::sync::Arc<T>;

    pub(super) fn reserve<T>(buffer: &mut Buffer<T>, additional: usize) -> Result<(), NoMemory> {
        buffer.reserve(additional, MAY_FAIL).map_err(|_| NoMemory)
    }

    #[inline(never)]
    pub(super) fn share<T>(value: T) -> Result<Shared<T>, NoMemory> {
        // `Arc::new()` would put a copy of it on the stack.
        let memory = UniqueArc::new_uninit(MAY_FAIL).map_err(|_| NoMemory)?;
        Ok(memory.write(value).into())
    }

    /// Appends `value` where a place was reserved.
    pub(super) fn push<T>(buffer: &mut Buffer<T>, value: T) -> Result<(), NoMemory> {
        buffer.push_within_capacity(value).map_err(|_| NoMemory)
    }

    /// Appends clones of `values`.
    pub(super) fn extend<T: Clone>(buffer: &mut Buffer<T>, values: &[T]) -> Result<(), NoMemory> {
        buffer
            .extend_from_slice(values, MAY_FAIL)
            .map_err(|_| NoMemory)
    }

    /// Inserts `value` where a place was reserved.
    pub(super) fn insert<T>(
        buffer: &mut Buffer<T>,
        index: usize,
        value: T,
    ) -> Result<(), NoMemory> {
        buffer
            .insert_within_capacity(index, value)
            .map_err(|_| NoMemory)
    }

    pub(super) fn remove<T>(buffer: &mut Buffer<T>, index: usize) -> Option<T> {
        buffer.remove(index).ok()
    }
}

#[cfg(not(MODULE))]
mod backend {
    use super::NoMemory;
    use std::cell::Cell;

    pub(super) type Buffer<T> = std::vec::Vec<T>;
    pub(super) type Shared<T> = std::sync::Arc<T>;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Makes this thread's allocations through the seam fail after `count` more; `None`: never.
    pub fn fail_after(count: Option<u32>) {
        LEFT.with(|left| left.set(count));
    }

    fn charge() -> Result<(), NoMemory> {
        LEFT.with(|left| match left.get() {
            None => Ok(()),
            Some(0) => Err(NoMemory),
            Some(n) => {
                left.set(Some(n.saturating_sub(1)));
                Ok(())
            }
        })
    }

    pub(super) fn reserve<T>(buffer: &mut Buffer<T>, additional: usize) -> Result<(), NoMemory> {
        if buffer.capacity().saturating_sub(buffer.len()) >= additional {
            return Ok(());
        }
        charge()?;
        buffer.try_reserve(additional).map_err(|_| NoMemory)
    }

    pub(super) fn share<T>(value: T) -> Result<Shared<T>, NoMemory> {
        charge()?;
        Ok(Shared::new(value))
    }

    pub(super) fn push<T>(buffer: &mut Buffer<T>, value: T) -> Result<(), NoMemory> {
        buffer.push(value);
        Ok(())
    }

    pub(super) fn extend<T: Clone>(buffer: &mut Buffer<T>, values: &[T]) -> Result<(), NoMemory> {
        reserve(buffer, values.len())?;
        buffer.extend_from_slice(values);
        Ok(())
    }

    pub(super) fn insert<T>(
        buffer: &mut Buffer<T>,
        index: usize,
        value: T,
    ) -> Result<(), NoMemory> {
        if index > buffer.len() {
            return Err(NoMemory);
        }
        buffer.insert(index, value);
        Ok(())
    }

    pub(super) fn remove<T>(buffer: &mut Buffer<T>, index: usize) -> Option<T> {
        (index < buffer.len()).then(|| buffer.remove(index))
    }
}

#[cfg(not(MODULE))]
pub use backend::fail_after;

/// A growing array.
pub struct Vec<T>(backend::Buffer<T>);

impl<T> Vec<T> {
    /// The most elements: so the index of each fits a `u32`, and so does the length.
    pub const MAX_LEN: usize = u32::MAX as usize;

    /// An empty array; allocates nothing.
    pub const fn new() -> Self {
        Self(backend::Buffer::new())
    }

    /// An empty array with room for `capacity` elements.
    pub fn with_capacity(capacity: usize) -> Result<Self, NoMemory> {
        let mut vec = Self::new();
        vec.reserve(capacity)?;
        Ok(vec)
    }

    /// Makes room for `additional` more elements.
    ///
    /// Fails, too, where there would be more than [`MAX_LEN`](Self::MAX_LEN).
    pub fn reserve(&mut self, additional: usize) -> Result<(), NoMemory> {
        if additional > Self::MAX_LEN.saturating_sub(self.0.len()) {
            return Err(NoMemory);
        }
        backend::reserve(&mut self.0, additional)
    }

    /// Appends `value`.
    pub fn push(&mut self, value: T) -> Result<(), NoMemory> {
        self.reserve(1)?;
        backend::push(&mut self.0, value)
    }

    /// Inserts `value` ahead of the element at `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, value: T) -> Result<(), NoMemory> {
        self.reserve(1)?;
        backend::insert(&mut self.0, index, value)
    }

    /// Takes the element at `index` out, if there is one.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        backend::remove(&mut self.0, index)
    }

    /// Drops all elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Drops all elements, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps the elements that `keep` says to keep, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|value| keep(value));
    }
}

impl<T: Clone> Vec<T> {
    /// Appends clones of all of `other`.
    pub fn extend_from_slice(&mut self, other: &[T]) -> Result<(), NoMemory> {
        self.reserve(other.len())?;
        backend::extend(&mut self.0, other)
    }

    /// A copy of `other`.
    pub fn from_slice(other: &[T]) -> Result<Self, NoMemory> {
        let mut vec = Self::new();
        vec.extend_from_slice(other)?;
        Ok(vec)
    }
}

impl<T> Default for Vec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Vec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Vec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> IntoIterator for Vec<T> {
    type Item = T;
    type IntoIter = <backend::Buffer<T> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T: PartialEq> PartialEq for Vec<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Vec<T> {}

impl<T: core::fmt::Debug> core::fmt::Debug for Vec<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

/// Returns the length of an array that lies in a [`Vec`].
pub fn end_of<T>(array: &[T]) -> u32 {
    u32::try_from(array.len()).unwrap_or(u32::MAX)
}

/// Shared ownership of a `T` that does not change.
pub struct Arc<T>(backend::Shared<T>);

impl<T> Arc<T> {
    /// Moves `value` to the heap.
    pub fn new(value: T) -> Result<Self, NoMemory> {
        Ok(Self(backend::share(value)?))
    }

    /// Whether both are the same object.
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        backend::Shared::ptr_eq(&this.0, &other.0)
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: PartialEq> PartialEq for Arc<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Arc<T> {}

impl<T: core::fmt::Debug> core::fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}
