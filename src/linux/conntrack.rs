// SPDX-License-Identifier: GPL-2.0

//! The number of conntrack's entries, its limits and its drops, where nf_conntrack is loaded; and a sweep,
//! which looks at all entries and deletes some.
//!
//! ctskip needs no other module. A call takes the symbols that it needs and gives them back before
//! it returns: only meanwhile, nf_conntrack cannot be unloaded.
//!
//! C header: [`include/net/netfilter/nf_conntrack.h`](srctree/include/net/netfilter/nf_conntrack.h)

use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

use crate::{
    linux::{
        bindings as raw,
        compat::synchronize_rcu,
        net::Net, //
    },
    pure::{
        packet::conn::{
            Conn,
            Tuple,
            Uses, //
        },
        rule::Family,
    },
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

/// What a sweep asks about entries.
pub(crate) trait Sweep {
    /// Called ahead of the first entry; again where all entries are looked at anew, because the hash was
    /// resized: what was counted so far is counted again.
    fn begin(&mut self);

    /// Called every thousand buckets; an error ends the sweep. Process context.
    fn go_on(&mut self) -> Result;

    /// Returns whether `conn`, an entry of the namespace `net`, is to be deleted; an error ends the sweep.
    ///
    /// Process context; may sleep, but not for long: the end of the namespace waits.
    fn is_to_go(&mut self, conn: &Conn, net: Net<'_>) -> Result<bool>;
}

/// Room for the references on the entries of one bucket, made ahead of a sweep.
///
/// # Invariants
///
/// Has room for [`Self::LEN`] pointers.
pub(crate) struct Room(KVVec<*mut c_void>);

impl Room {
    /// The number of entries. Conntrack lets no chain grow to as many: C: `MAX_CHAINLEN`.
    const LEN: usize = 128;

    /// Makes room. Fails with `ENOMEM`. Process context; may sleep.
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: Just allocated.
        Ok(Self(KVVec::with_capacity(Self::LEN, GFP_KERNEL)?))
    }
}

/// Looks at all entries of all namespaces, once, and deletes those that `sweep` says. Returns how many it has
/// deleted, also where it fails.
///
/// A grace period passes first: packets that began their way before the call have made their entries. An
/// entry is in the hash once its first packet has been through all hooks. So this does not see the entry of a
/// packet that waits in user space (NFQUEUE) or that a preempted task is sending.
///
/// Nothing is done where nf_conntrack is not loaded. Fails with the error of [`Sweep`]; with `EINTR`
/// where the current task was killed; with `EAGAIN` where the hash was resized again and again; and with
/// `ENOMEM` where `room` is too small for a bucket, as it may be where the hash was made smaller, and there is
/// no memory. Process context; may sleep, and takes up to seconds.
pub(crate) fn sweep<S: Sweep>(mut room: Room, sweep: &mut S) -> (u64, Result) {
    let mut deleted = 0;
    let data: *mut S = sweep;

    synchronize_rcu();
    // SAFETY: The functions may be called with `data` for the length of the call, as it points at a `S` that
    // is borrowed mutably for that long, and they are called one at a time. By the type invariants of `Room`,
    // the room is as large as said. `deleted` is valid for a write. The call is made in process context.
    let result = to_result(unsafe {
        raw::ctskip_conntrack_sweep(
            Some(begin::<S>),
            Some(go_on::<S>),
            Some(is_to_go::<S>),
            data.cast(),
            room.0.as_mut_ptr(),
            Room::LEN as c_uint,
            &mut deleted,
        )
    });

    (deleted, result)
}

/// Calls [`Sweep::begin()`].
///
/// # Safety
///
/// `data` must be valid as a `&mut S` for the length of the call.
unsafe extern "C" fn begin<S: Sweep>(data: *mut c_void) {
    // SAFETY: By the safety requirements.
    unsafe { &mut *data.cast::<S>() }.begin();
}

/// Calls [`Sweep::go_on()`].
///
/// # Safety
///
/// `data` must be valid as a `&mut S` for the length of the call.
unsafe extern "C" fn go_on<S: Sweep>(data: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements.
    let sweep = unsafe { &mut *data.cast::<S>() };
    from_result(|| sweep.go_on().map(|()| 0))
}

/// Calls [`Sweep::is_to_go()`].
///
/// # Safety
///
/// `data` must be valid as a `&mut S` for the length of the call, and `conn` for reads. The namespace in
/// `conn` must not end within the call.
unsafe extern "C" fn is_to_go<S: Sweep>(data: *mut c_void, conn: *const raw::ctskip_conn) -> c_int {
    // SAFETY: By the safety requirements.
    let (sweep, conn) = unsafe { (&mut *data.cast::<S>(), &*conn) };
    // SAFETY: By the safety requirements: the caller has a reference on the entry, and the end of a namespace
    // waits until none of its entries is left.
    let net = unsafe { Net::from_raw(conn.net) };
    let family = match conn.ipv6 {
        true => Family::Ipv6,
        false => Family::Ipv4,
    };
    let tuple = |tuple: &raw::ctskip_tuple| Tuple {
        family,
        protocol: tuple.protocol,
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
    };

    let conn = Conn {
        original: tuple(&conn.original),
        reply: tuple(&conn.reply),
        uses: Uses {
            translated: conn.translated,
            expected: conn.expected,
            helped: conn.helped,
            offloaded: conn.offloaded,
            marked: conn.marked,
            labelled: conn.labelled,
            templated: conn.templated,
        },
    };

    from_result(|| Ok(c_int::from(sweep.is_to_go(&conn, net)?)))
}
