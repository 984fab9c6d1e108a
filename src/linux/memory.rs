// SPDX-License-Identifier: GPL-2.0

//! An allocator for arrays that takes no more memory than they need, and how tables are allocated.
//!
//! The kernel's `KVmalloc` tries `kmalloc()` first. That rounds a large size up to a power of two
//! pages, so that a large table may take up to twice its size.
//!
//! C headers: [`include/linux/slab.h`](srctree/include/linux/slab.h),
//! [`include/linux/vmalloc.h`](srctree/include/linux/vmalloc.h)

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

use crate::linux::bindings as raw;

/// Flags of all memory that tables take: process context, may sleep.
///
/// Where memory is short, the allocation fails. By `GFP_KERNEL` alone, processes are killed before a
/// large one does, and others than the writer: memory of `vmalloc()` counts as nobody's. The kernel
/// crate has no name for `__GFP_RETRY_MAYFAIL`.
pub(crate) const MAY_FAIL: Flags = {
    // SAFETY: `Flags` has one field, a `u32` of any value, and the same size, as the compiler checks
    // here. So that field is all of it.
    unsafe { core::mem::transmute::<u32, Flags>(raw::CTSKIP_GFP_MAY_FAIL) }
};

/// Allocates up to two pages by `kmalloc()`, and more by `vmalloc()`.
///
/// Process context, as `vmalloc()` may sleep. The pure core allocates by it; see
/// [`crate::pure::alloc`].
pub struct Exact;

/// Largest size in bytes that is asked of `kmalloc()`: a slab has it.
const SMALL: usize = 2 * PAGE_SIZE;

// SAFETY: All memory is from `Kmalloc` or `Vmalloc`, which give the guarantees that [`Allocator`]
// asks for. `KVmalloc` frees memory of both.
unsafe impl Allocator for Exact {
    const MIN_ALIGN: usize = Kmalloc::MIN_ALIGN;

    unsafe fn realloc(
        ptr: Option<NonNull<u8>>,
        layout: Layout,
        old_layout: Layout,
        flags: Flags,
        nid: NumaNode,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // Where nothing is allocated, the old size is 0.
        if layout.size() <= SMALL && old_layout.size() <= SMALL {
            // SAFETY: By the safety requirements. Memory of an old size up to `SMALL` is from
            // `Kmalloc`.
            return unsafe { Kmalloc::realloc(ptr, layout, old_layout, flags, nid) };
        }
        if layout.size() > SMALL && old_layout.size() > SMALL {
            // SAFETY: By the safety requirements. Memory of an old size above `SMALL` is from
            // `Vmalloc`.
            return unsafe { Vmalloc::realloc(ptr, layout, old_layout, flags, nid) };
        }
        let new = match layout.size() {
            0..=SMALL => Kmalloc::alloc(layout, flags, nid)?,
            _ => Vmalloc::alloc(layout, flags, nid)?,
        };
        if let Some(old) = ptr.filter(|_| old_layout.size() != 0) {
            // SAFETY: Both are valid for `size` bytes. They do not overlap, as the new one was just
            // allocated. The old one is not used after this.
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
