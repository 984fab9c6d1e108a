// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, as they were given when it was loaded, and its version.
//!
//! They are defined in `params.c`.

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

/// Gives the `mode` parameter. A value that is none was refused by `params.c`.
pub(crate) fn mode() -> Mode {
    // SAFETY: Reads a variable that was last written before the module's init.
    match unsafe { raw::ctskip_param_mode() } {
        0 => Mode::Skip,
        1 => Mode::Observe,
        _ => Mode::Off,
    }
}

/// Gives the `icmp_errors` parameter.
pub(crate) fn icmp_errors() -> bool {
    // SAFETY: Reads a variable that was last written before the module's init.
    unsafe { raw::ctskip_param_icmp_errors() }
}

/// Gives the module's version, as `modinfo` shows it.
pub(crate) fn version() -> &'static str {
    // SAFETY: The helper gives a constant string.
    let version = unsafe { CStr::from_char_ptr(raw::ctskip_param_version()) };

    version.to_str().unwrap_or_default()
}

/// The text of the `rules` parameters, one line for each; freed when dropped.
///
/// # Invariants
///
/// Points at a string that was allocated by `kvmalloc()` and is owned by this.
pub(crate) struct RulesParameter(NonNull<c_char>);

/// Takes over the `rules` parameter; [`None`] where none was given
/// or where it was taken before.
pub(crate) fn take_rules() -> Option<RulesParameter> {
    // SAFETY: The helper takes the string out by an atomic exchange. It is set only before the
    // module's init, and freed by the kernel, if it is still there, after the module's end.
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
        // SAFETY: By the type invariants; it is not used again.
        unsafe { bindings::kvfree(self.0.as_ptr().cast::<c_void>()) };
    }
}
