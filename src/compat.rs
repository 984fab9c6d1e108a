// SPDX-License-Identifier: GPL-2.0

//! What differs between the kernels that this module is built for. All other code reads as if there
//! were one.
//!
//! What the kernel crate of some of them lacks is made here of what all of them have, for all alike.
//! Where a kernel does something otherwise, Kbuild finds it by what is in its headers, never by its
//! version, and says so by a `cfg`.

use kernel::{
    bindings,
    prelude::*, //
};

use crate::bindings as raw;

/// The type of nf_nat's hooks.
#[cfg(ctskip_nf_hook_op_nat)]
pub(crate) const NF_HOOK_OP_NAT: raw::nf_hook_ops_type = raw::nf_hook_ops_type_NF_HOOK_OP_NAT;

/// The type of nf_nat's hooks: here they have none. That does tell them from others at their
/// priority, as these are nft's chains and BPF programs.
#[cfg(not(ctskip_nf_hook_op_nat))]
pub(crate) const NF_HOOK_OP_NAT: raw::nf_hook_ops_type = raw::nf_hook_ops_type_NF_HOOK_OP_UNDEFINED;

/// Gives the error of one who read something in pieces that has changed meanwhile.
pub(crate) fn estale() -> Error {
    Error::from_errno((bindings::ESTALE as c_int).wrapping_neg())
}

/// Waits for all read-side critical sections that are under way. Process context.
pub(crate) fn synchronize_rcu() {
    // SAFETY: Takes no arguments; process context.
    unsafe { bindings::synchronize_rcu() };
}
