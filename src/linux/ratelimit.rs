// SPDX-License-Identifier: GPL-2.0

//! How many lines the kernel's log may get of what anybody, or a script in a loop, can cause.
//!
//! Where lines were left out, the kernel says how many, before the next one.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use crate::linux::bindings as raw;

/// Returns whether a line about a refused write may be logged now: ten in a minute may. Process
/// context.
pub(crate) fn refusals() -> bool {
    // SAFETY: Any context may call it.
    unsafe { raw::ctskip_may_log_refusal() }
}

/// Returns whether a line about a call that failed with `EPERM` may be logged now: three in half an
/// hour may, as tenants can cause them. Process context.
pub(super) fn denials() -> bool {
    // SAFETY: Any context may call it.
    unsafe { raw::ctskip_may_log_denial() }
}
