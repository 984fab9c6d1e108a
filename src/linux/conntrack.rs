// SPDX-License-Identifier: GPL-2.0

//! The number of conntrack's entries, its limits and its drops, where nf_conntrack is loaded.
//!
//! ctskip needs no other module. A call takes the symbols that it needs and gives them back before
//! it returns: only meanwhile, nf_conntrack cannot be unloaded.
//!
//! C header: [`include/net/netfilter/nf_conntrack.h`](srctree/include/net/netfilter/nf_conntrack.h)

use crate::linux::{
    bindings as raw,
    net::Net, //
};

/// Figures of one namespace.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// Number of entries. C: `nf_conntrack_count()`.
    pub(crate) entries: u32,
    /// Limit of the number of entries. C: `nf_conntrack_max`.
    pub(crate) max: u32,
    /// Packets dropped because the table was full or memory ran out. C: `ip_conntrack_stat::drop`.
    pub(crate) drop: u64,
    /// Entries dropped early, to make room. C: `ip_conntrack_stat::early_drop`.
    pub(crate) early_drop: u64,
}

/// Returns the figures of `net`.
///
/// [`None`] where nf_conntrack is not loaded, or where the namespace is still being set up. Process
/// context; may sleep.
pub(crate) fn usage(net: Net<'_>) -> Option<Usage> {
    let mut usage = raw::ctskip_conntrack_usage {
        entries: 0,
        max: 0,
        drop: 0,
        early_drop: 0,
    };

    // SAFETY: Both pointers are valid for the length of the call, which is made in process context.
    unsafe { raw::ctskip_conntrack_usage(net.as_ptr(), &mut usage) }.then_some(Usage {
        entries: usage.entries,
        max: usage.max,
        drop: usage.drop,
        early_drop: usage.early_drop,
    })
}

/// Returns the number of buckets of the hash table that all namespaces share.
///
/// [`None`] where nf_conntrack is not loaded. Process context. C: `nf_conntrack_htable_size`.
pub(crate) fn buckets() -> Option<u32> {
    // SAFETY: The call has no requirement but process context.
    let buckets = unsafe { raw::ctskip_conntrack_buckets() };

    (buckets != 0).then_some(buckets)
}
