// SPDX-License-Identifier: GPL-2.0

//! What the kernel crate of one or another of the kernels that this module is built for lacks, made of
//! what all of them have, for all alike. All other code reads as if there were one kernel.
//!
//! Nothing here asks for a kernel's version. What one does otherwise is to be found in Kbuild by what is
//! in its headers, and said by a `cfg`; so far, nothing has to be.

use kernel::{
    bindings,
    prelude::*, //
};

/// Gives the error of one who read something in pieces that has changed meanwhile.
pub(crate) fn estale() -> Error {
    Error::from_errno((bindings::ESTALE as c_int).wrapping_neg())
}

/// Waits for all read-side critical sections that are under way. Process context.
pub(crate) fn synchronize_rcu() {
    // SAFETY: Takes no arguments; process context.
    unsafe { bindings::synchronize_rcu() };
}
