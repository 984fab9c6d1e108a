// SPDX-License-Identifier: GPL-2.0

//! What conntrack holds, where its module is loaded.
//!
//! Its symbols are taken for the length of a call only: ctskip needs no other module, and keeps none
//! from being unloaded.
//!
//! C header: [`include/net/netfilter/nf_conntrack.h`](srctree/include/net/netfilter/nf_conntrack.h)

use crate::{
    bindings as raw,
    pernet::Net, //
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

/// The hash that all namespaces share.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// Its buckets. C: `nf_conntrack_htable_size`.
    pub(crate) buckets: u32,
    /// The limit that applies to each namespace. C: `nf_conntrack_max`.
    pub(crate) max: u32,
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

/// Tells how large the hash is. Process context. [`None`] where conntrack is not loaded.
pub(crate) fn table() -> Option<Table> {
    let mut table = Table { buckets: 0, max: 0 };

    // SAFETY: Both pointers are valid.
    unsafe { raw::ctskip_conntrack_table(&mut table.buckets, &mut table.max) }.then_some(table)
}
