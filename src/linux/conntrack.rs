// SPDX-License-Identifier: GPL-2.0

//! What conntrack holds, where its module is loaded.
//!
//! Its symbols are taken for the length of a call only, during which it cannot be unloaded: ctskip
//! needs no other module.
//!
//! C header: [`include/net/netfilter/nf_conntrack.h`](srctree/include/net/netfilter/nf_conntrack.h)

use crate::linux::{
    bindings as raw,
    net::Net, //
};

/// What one namespace has.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// Entries there are. C: `nf_conntrack_count()`.
    pub(crate) entries: u32,
    /// Entries there may be. C: `nf_conntrack_max`.
    pub(crate) max: u32,
    /// Packets dropped as the table was full, or memory.
    pub(crate) drop: u64,
    /// Entries dropped early to make room.
    pub(crate) early_drop: u64,
}

/// Tells what conntrack holds in `net`.
///
/// Process context. [`None`] where conntrack is not loaded, or the namespace still being made.
pub(crate) fn usage(net: Net<'_>) -> Option<Usage> {
    let mut usage = raw::ctskip_conntrack_usage {
        entries: 0,
        max: 0,
        drop: 0,
        early_drop: 0,
    };

    // SAFETY: Both pointers are valid.
    unsafe { raw::ctskip_conntrack_usage(net.as_ptr(), &mut usage) }.then_some(Usage {
        entries: usage.entries,
        max: usage.max,
        drop: usage.drop,
        early_drop: usage.early_drop,
    })
}

/// Tells how many buckets the hash has that all namespaces share.
///
/// Process context. [`None`] where conntrack is not loaded. C: `nf_conntrack_htable_size`.
pub(crate) fn buckets() -> Option<u32> {
    // SAFETY: Takes no arguments.
    let buckets = unsafe { raw::ctskip_conntrack_buckets() };

    (buckets != 0).then_some(buckets)
}
