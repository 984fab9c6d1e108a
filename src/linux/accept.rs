// SPDX-License-Identifier: GPL-2.0

//! The verdict of a hook function.
//!
//! C header: [`include/uapi/linux/netfilter.h`](srctree/include/uapi/linux/netfilter.h)

use kernel::prelude::*;

use crate::linux::bindings as raw;

/// What a hook function returns: the packet goes on.
///
/// It comes from the last thing that is done for a packet, which may be a call of C: so there is
/// nothing left to do behind that call.
///
/// # Invariants
///
/// Is `NF_ACCEPT`.
pub(crate) struct Accept(c_uint);

impl Accept {
    /// Has the packet go on, with nothing done for it.
    #[inline(always)]
    pub(crate) fn packet() -> Self {
        // INVARIANT: By construction.
        Self(raw::NF_ACCEPT)
    }

    /// Wraps what a C function returned.
    ///
    /// # Safety
    ///
    /// `verdict` must be `NF_ACCEPT`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(verdict: c_uint) -> Self {
        // INVARIANT: By the safety requirements.
        Self(verdict)
    }
    /// Returns the value for C.
    #[inline(always)]
    pub(crate) fn into_raw(self) -> c_uint {
        self.0
    }
}
