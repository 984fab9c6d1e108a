// SPDX-License-Identifier: GPL-2.0

//! Functions that the kernel crate of some supported kernel lacks.
//!
//! They are made of parts that every supported kernel has, and are the same code on all of them.
//! All other code reads as if there were one kernel.
//!
//! No code here asks for a kernel's version. Where a kernel differs, Kbuild finds that in the
//! kernel's headers and sets a `cfg`. So far, none is needed.
//!
//! C headers: [`include/uapi/asm-generic/errno.h`](srctree/include/uapi/asm-generic/errno.h),
//! [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use kernel::{
    bindings,
    prelude::*, //
};

/// Returns `ESTALE`: the error for a reader whose text has changed between two reads.
pub(crate) fn estale() -> Error {
    Error::from_errno((bindings::ESTALE as c_int).wrapping_neg())
}

/// Returns `ECANCELED`: the error for a write whose work somebody has ended.
pub(crate) fn ecanceled() -> Error {
    Error::from_errno((bindings::ECANCELED as c_int).wrapping_neg())
}

/// Waits for one RCU grace period: all read-side critical sections that exist now have ended.
///
/// Process context; may sleep. C: `synchronize_rcu()`.
pub(super) fn synchronize_rcu() {
    // SAFETY: All callers are in process context.
    unsafe { bindings::synchronize_rcu() };
}
