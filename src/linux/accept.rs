// SPDX-License-Identifier: GPL-2.0

//! The verdict of a hook function.
//!
//! C header: [`include/uapi/linux/netfilter.h`](srctree/include/uapi/linux/netfilter.h)

use kernel::prelude::*;

use crate::linux::bindings as raw;

/// The verdict of a hook function: Netfilter goes on with the packet.
///
/// It is the result of the last step of a packet, which may be a call of C. So no code is left to
/// run behind that call.
///
/// # Invariants
///
/// The value is `NF_ACCEPT`.
pub(crate) struct Accept(c_uint);

impl Accept {
    /// Returns the verdict for a packet that needs no further step. Any context.
    #[inline(always)]
    pub(crate) fn packet() -> Self {
        // INVARIANT: The value is `NF_ACCEPT`.
        Self(raw::NF_ACCEPT)
    }

    /// Creates the verdict from the return value of a C function.
    ///
    /// # Safety
    ///
    /// `verdict` must be `NF_ACCEPT`.
    #[inline(always)]
    pub(super) unsafe fn from_raw(verdict: c_uint) -> Self {
        // INVARIANT: By the safety requirements.
        Self(verdict)
    }

    /// Returns the value that a hook function returns to C.
    #[inline(always)]
    pub(super) fn into_raw(self) -> c_uint {
        self.0
    }
}
