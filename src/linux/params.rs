// SPDX-License-Identifier: GPL-2.0

//! The values of the module's parameters, and its version.
//!
//! `params.c` defines the parameters. The kernel sets them before the module's init, and not after.
//!
//! C header: [`include/linux/moduleparam.h`](srctree/include/linux/moduleparam.h)

use core::{
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    prelude::*, //
};

use crate::{
    linux::bindings as raw,
    pure::packet::verdict::Mode, //
};

/// Returns the `mode` parameter. `params.c` has refused any other text than the three.
pub(crate) fn mode() -> Mode {
    // SAFETY: The helper reads a variable that was last written before the module's init.
    match unsafe { raw::ctskip_param_mode() } {
        0 => Mode::Skip,
        1 => Mode::Observe,
        _ => Mode::Off,
    }
}

/// Returns the `icmp_errors` parameter.
pub(crate) fn icmp_errors() -> bool {
    // SAFETY: The helper reads a variable that was last written before the module's init.
    unsafe { raw::ctskip_param_icmp_errors() }
}

/// Returns the `worst_lookup` parameter: how many instructions the lookup of a packet may take, roughly.
/// 0, for no bound, is [`usize::MAX`].
pub(crate) fn worst_lookup() -> usize {
    // SAFETY: The helper reads a variable that was last written before the module's init.
    match unsafe { raw::ctskip_param_worst_lookup() } {
        0 => usize::MAX,
        most => most as usize,
    }
}

/// Returns the module's version, as `modinfo` shows it.
pub(crate) fn version() -> &'static str {
    // SAFETY: The helper returns a constant string.
    let version = unsafe { CStr::from_char_ptr(raw::ctskip_param_version()) };

    version.to_str().unwrap_or_default()
}

/// The text of all `rules` parameters, joined by newlines. Freed when dropped.
///
/// # Invariants
///
/// Points at a string that `kvmalloc()` allocated and that this type owns.
pub(crate) struct RulesParameter(NonNull<c_char>);

/// Takes the text of the `rules` parameters out. [`None`] where none was given, or where it was
/// taken before.
pub(crate) fn take_rules() -> Option<RulesParameter> {
    // SAFETY: The helper takes the string out by an atomic exchange. The kernel sets it only before
    // the module's init. It frees a string that is still there only after the module's end.
    let text = unsafe { raw::ctskip_param_take_rules() };

    // INVARIANT: The helper gave up the string.
    NonNull::new(text).map(RulesParameter)
}

impl Deref for RulesParameter {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariants.
        unsafe { CStr::from_char_ptr(self.0.as_ptr()) }.to_bytes()
    }
}

impl Drop for RulesParameter {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The string is not used after this.
        unsafe { bindings::kvfree(self.0.as_ptr().cast::<c_void>()) };
    }
}
