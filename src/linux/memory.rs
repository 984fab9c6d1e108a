// SPDX-License-Identifier: GPL-2.0

//! Memory for arrays that is as large as they are.
//!
//! The kernel's `KVmalloc` asks `kmalloc()` first, which gives a power of two pages: up to twice of
//! what a large table needs.

use core::{
    alloc::Layout,
    ptr::NonNull, //
};

use kernel::{
    alloc::{
        allocator::{
            KVmalloc,
            Kmalloc,
            Vmalloc, //
        },
        AllocError,
        Allocator,
        Flags,
        NumaNode, //
    },
    page::PAGE_SIZE, //
};

/// Allocates by `kmalloc()` what is small, else by `vmalloc()`.
pub struct Exact;

/// The most that `kmalloc()` is asked for: what comes from a slab.
const SMALL: usize = 2 * PAGE_SIZE;

// SAFETY: What is allocated is from `Kmalloc` or `Vmalloc`, whose guarantees are those asked for; it
// is freed by `KVmalloc`, which takes both.
unsafe impl Allocator for Exact {
    const MIN_ALIGN: usize = Kmalloc::MIN_ALIGN;

    unsafe fn realloc(
        ptr: Option<NonNull<u8>>,
        layout: Layout,
        old_layout: Layout,
        flags: Flags,
        nid: NumaNode,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // Where nothing is allocated, the size is 0.
        if layout.size() <= SMALL && old_layout.size() <= SMALL {
            // SAFETY: By the safety requirements; what is there is from `Kmalloc`, being small.
            return unsafe { Kmalloc::realloc(ptr, layout, old_layout, flags, nid) };
        }
        if layout.size() > SMALL && old_layout.size() > SMALL {
            // SAFETY: By the safety requirements; what is there is from `Vmalloc`, being large.
            return unsafe { Vmalloc::realloc(ptr, layout, old_layout, flags, nid) };
        }
        let new = match layout.size() {
            0..=SMALL => Kmalloc::alloc(layout, flags, nid)?,
            _ => Vmalloc::alloc(layout, flags, nid)?,
        };
        if let Some(old) = ptr.filter(|_| old_layout.size() != 0) {
            // SAFETY: Both are as large as that, and the one is new. The old one is not used again.
            unsafe {
                let size = layout.size().min(old_layout.size());
                new.cast::<u8>().copy_from_nonoverlapping(old, size);
                Self::free(old, old_layout);
            }
        }
        Ok(new)
    }

    unsafe fn free(ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: By the safety requirements it is from `Kmalloc` or `Vmalloc`.
        unsafe { KVmalloc::free(ptr, layout) }
    }
}
