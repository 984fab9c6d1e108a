// SPDX-License-Identifier: GPL-2.0

//! Netfilter hooks: where packets are seen.
//!
//! A [`Handler`] sees the IPv4 and IPv6 packets of a namespace at PRE_ROUTING and LOCAL_OUT, after
//! the raw table and before conntrack. It cannot drop or steal them. Hooks are registered by
//! [`crate::pernet`] only, one set for each namespace.
//!
//! C header: [`include/linux/netfilter.h`](srctree/include/linux/netfilter.h)

use core::{
    marker::PhantomData,
    mem::{
        align_of,
        offset_of, //
    },
    ptr::NonNull, //
};

use kernel::{
    bindings::{
        net,
        sk_buff, //
    },
    error::to_result,
    prelude::*,
    sync::{
        rcu::synchronize_rcu,
        Arc, //
    },
    types::Opaque, //
};

use crate::{
    bindings as raw,
    pernet::Net,
    pure::rule::{
        DeviceName,
        Family,
        HookPoint, //
    },
    rcu::ReadSide,
    skb::Skb, //
};

// What is read below lies where C has it, as bindgen sees it.
static_assert!(
    offset_of!(net, nf) + offset_of!(kernel::bindings::netns_nf, hooks_ipv4)
        == raw::CTSKIP_NET_HOOKS_IPV4
);
static_assert!(
    offset_of!(net, nf) + offset_of!(kernel::bindings::netns_nf, hooks_ipv6)
        == raw::CTSKIP_NET_HOOKS_IPV6
);
// A name is read as two words.
static_assert!(raw::CTSKIP_NET_DEVICE_NAME % align_of::<u64>() == 0);

/// The priority of the hooks: one after the raw table's, `NF_IP_PRI_RAW` and `NF_IP6_PRI_RAW`.
pub(crate) const PRIORITY: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_RAW + 1;

/// What looks at the packets of a namespace.
///
/// The function that calls it is made four times, once for each family and point: there the two are
/// constants.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Looks at one packet.
    ///
    /// Runs in softirq or process context, and may be preempted at LOCAL_OUT. Must not sleep.
    fn handle(
        &self,
        family: Family,
        point: HookPoint,
        skb: &mut Skb<'_>,
        state: &HookState<'_>,
        rcu: &ReadSide,
    );
}

/// What a hook function is told about a packet's way.
///
/// # Invariants
///
/// Points at a `struct nf_hook_state` that is valid for `'a`, and so are its devices and its
/// namespace; `point` is where it is from.
pub(crate) struct HookState<'a> {
    state: NonNull<raw::nf_hook_state>,
    point: HookPoint,
    _state: PhantomData<&'a raw::nf_hook_state>,
}

impl HookState<'_> {
    /// Gives the name of the device the packet came in by (PRE_ROUTING) or goes out by (LOCAL_OUT),
    /// padded with NUL.
    ///
    /// A rename at the same time may give a mix of both names.
    #[inline(always)]
    pub(crate) fn device(&self) -> DeviceName {
        // SAFETY: By the type invariants.
        let device = unsafe {
            match self.point {
                HookPoint::PreRouting => (*self.state.as_ptr()).in_,
                HookPoint::LocalOut => (*self.state.as_ptr()).out,
            }
        };

        if device.is_null() {
            return DeviceName::default();
        }
        // SAFETY: By the type invariants the device is valid, and `IFNAMSIZ` bytes of name lie
        // there, aligned as asserted above. The reads are volatile as a rename may be writing.
        let words = unsafe {
            let name = device.byte_add(raw::CTSKIP_NET_DEVICE_NAME).cast::<u64>();
            [name.read_volatile(), name.add(1).read_volatile()]
        };
        let bytes = words.map(u64::to_ne_bytes);
        let mut name = DeviceName::default();

        // A longer name that the device had before may have left its end behind the NUL.
        for (to, from) in name
            .iter_mut()
            .zip(bytes.iter().flatten())
            .take_while(|(_, &from)| from != 0)
        {
            *to = *from;
        }
        name
    }

    /// Tells whether NAT is in use for `family` in the packet's namespace: see
    /// [`Net::nat_in_use()`].
    #[inline]
    pub(crate) fn nat_in_use(&self, family: Family, rcu: &ReadSide) -> bool {
        // SAFETY: By the type invariants.
        let net = unsafe { Net::from_raw((*self.state.as_ptr()).net) };

        nat_in_use(net, family, rcu)
    }
}

/// An entry of the hooks that a namespace has at PRE_ROUTING, as it was registered.
struct Entry {
    priority: i32,
    ops_type: raw::nf_hook_ops_type,
}

/// Gives the entries of `net` at PRE_ROUTING, those of the highest priority value first.
///
/// They are in the order of their priorities. C: `nf_hook_entries_get_hook_ops()`.
#[inline]
fn entries<'r>(
    net: Net<'r>,
    family: Family,
    _rcu: &'r ReadSide,
) -> impl Iterator<Item = Entry> + 'r {
    let nf = net.as_ptr();
    let point = raw::nf_inet_hooks_NF_INET_PRE_ROUTING as usize;

    // SAFETY: The namespace is valid. Its arrays have five elements, of which this is the first. A
    // volatile read is what READ_ONCE() is in C.
    let entries = unsafe {
        match family {
            Family::Ipv4 => (&raw const (*nf).nf.hooks_ipv4[point]).read_volatile(),
            Family::Ipv6 => (&raw const (*nf).nf.hooks_ipv6[point]).read_volatile(),
        }
    }
    .cast::<raw::nf_hook_entries>();

    let n = if entries.is_null() {
        0
    } else {
        // SAFETY: The kernel frees the array after a grace period, and `_rcu` proves that none ends
        // within `'r`. The number is not changed once published.
        usize::from(unsafe { (*entries).num_hook_entries })
    };

    // `n` pointers to what was registered follow the `n` hooks.
    let ops = entries
        .wrapping_byte_add(offset_of!(raw::nf_hook_entries, hooks))
        .cast::<raw::nf_hook_entry>()
        .wrapping_add(n)
        .cast::<*const raw::nf_hook_ops>();

    let all = (0..n).rev().map(move |i| {
        // SAFETY: The array is there, as above, and `i` within it; see the comment at
        // `struct nf_hook_entries`. The owners of what it points at free that no sooner than a grace
        // period after they unregistered it, as nfnetlink_hook needs it too.
        unsafe {
            let ops = ops.wrapping_add(i).read_volatile();
            Entry {
                priority: (*ops).priority,
                ops_type: raw::nf_hook_ops::hook_ops_type_raw(ops),
            }
        }
    });

    // What is being unregistered has a dummy in its place, outside the order.
    all.filter(|entry| entry.priority != i32::MIN)
}

/// Tells whether `net` translates addresses of `family`: nf_nat hooks PRE_ROUTING wherever it hooks
/// any point. Follows `nf_nat_register_fn()`.
#[inline]
pub(crate) fn nat_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    const PRIORITY: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_NAT_DST;

    entries(net, family, rcu)
        .take_while(|entry| entry.priority >= PRIORITY)
        .any(|entry| {
            entry.priority == PRIORITY && entry.ops_type == raw::nf_hook_ops_type_NF_HOOK_OP_NAT
        })
}

/// Tells whether conntrack sees the packets of `family` in `net`: it has a hook of no type at its
/// own priority, where nft chains and BPF programs have one. Follows `nf_ct_netns_do_get()`.
pub(crate) fn conntrack_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    const PRIORITY: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_CONNTRACK;

    entries(net, family, rcu)
        .take_while(|entry| entry.priority >= PRIORITY)
        .any(|entry| {
            entry.priority == PRIORITY
                && entry.ops_type == raw::nf_hook_ops_type_NF_HOOK_OP_UNDEFINED
        })
}

/// How many hooks a set has: two families, two points.
const HOOKS: usize = 4;

/// The hooks of one namespace, and the handler they call.
///
/// # Invariants
///
/// `handler` is what the hooks' `priv` points at.
#[pin_data]
pub(crate) struct Hooks<T: Handler> {
    handler: Arc<T>,
    /// Pinned, because netfilter keeps pointers to it while the hooks are registered.
    #[pin]
    ops: Opaque<[raw::nf_hook_ops; HOOKS]>,
}

impl<T: Handler> Hooks<T> {
    /// Registers the hooks in `net`. C: `nf_register_net_hooks()`.
    ///
    /// Process context. When it fails (`ENOMEM`), no packet is in the handler any more.
    ///
    /// # Safety
    ///
    /// After success, [`Self::unregister()`] must be called with the same `net` before that ends,
    /// and a grace period pass from there to the end of the hooks.
    pub(crate) unsafe fn new(net: Net<'_>, handler: Arc<T>) -> impl PinInit<Self, Error> + '_ {
        let priv_ = Arc::as_ptr(&handler).cast_mut().cast::<c_void>();

        try_pin_init!(Self {
            handler,
            ops <- Opaque::try_ffi_init(move |slot: *mut [raw::nf_hook_ops; HOOKS]| {
                let ops = slot.cast::<raw::nf_hook_ops>();

                // SAFETY: `slot` is valid for writes. Zero is a value of every field.
                unsafe {
                    ops.write_bytes(0, HOOKS);
                    fill(ops, Family::Ipv4, HookPoint::PreRouting, hook::<T, false, false>);
                    fill(ops.add(1), Family::Ipv4, HookPoint::LocalOut, hook::<T, false, true>);
                    fill(ops.add(2), Family::Ipv6, HookPoint::PreRouting, hook::<T, true, false>);
                    fill(ops.add(3), Family::Ipv6, HookPoint::LocalOut, hook::<T, true, true>);
                    for i in 0..HOOKS {
                        (*ops.add(i)).priv_ = priv_;
                    }
                }

                // SAFETY: The namespace is valid, the operations are filled in. They and the handler
                // stay where they are until unregistered and out of use, as the caller promises.
                to_result(unsafe {
                    raw::nf_register_net_hooks(net.as_ptr(), ops, HOOKS as c_uint)
                })
                .inspect_err(|_| {
                    // Those registered first have been taken off again, but may have seen packets.
                    synchronize_rcu();
                })
            }),
        })
    }

    /// Takes the hooks off. Does not wait for packets in flight. C: `nf_unregister_net_hooks()`.
    ///
    /// # Safety
    ///
    /// `net` must be the namespace that they were registered in, and this be called only once.
    pub(crate) unsafe fn unregister(&self, net: Net<'_>) {
        // SAFETY: By the safety requirements, and by those of `new()`.
        unsafe {
            raw::nf_unregister_net_hooks(net.as_ptr(), self.ops.get().cast(), HOOKS as c_uint)
        };
    }

    /// Gives the handler.
    pub(crate) fn handler(&self) -> &Arc<T> {
        &self.handler
    }
}

/// Fills in what one hook is, but for its `priv`.
///
/// # Safety
///
/// `ops` must be valid for writes.
unsafe fn fill(
    ops: *mut raw::nf_hook_ops,
    family: Family,
    point: HookPoint,
    hook: unsafe extern "C" fn(*mut c_void, *mut sk_buff, *const raw::nf_hook_state) -> c_uint,
) {
    // SAFETY: By the safety requirements.
    let ops = unsafe { &mut *ops };

    ops.hook = Some(hook);
    ops.pf = match family {
        Family::Ipv4 => kernel::bindings::NFPROTO_IPV4 as u8,
        Family::Ipv6 => kernel::bindings::NFPROTO_IPV6 as u8,
    };
    ops.hooknum = match point {
        HookPoint::PreRouting => raw::nf_inet_hooks_NF_INET_PRE_ROUTING,
        HookPoint::LocalOut => raw::nf_inet_hooks_NF_INET_LOCAL_OUT,
    };
    ops.priority = PRIORITY;
}

/// The hook function of one family and point.
///
/// # Safety
///
/// To be used as the `hook` of [`Hooks`] only, for that family and point.
unsafe extern "C" fn hook<T: Handler, const IPV6: bool, const OUT: bool>(
    priv_: *mut c_void,
    skb: *mut sk_buff,
    state: *const raw::nf_hook_state,
) -> c_uint {
    let family = if IPV6 { Family::Ipv6 } else { Family::Ipv4 };
    let point = if OUT {
        HookPoint::LocalOut
    } else {
        HookPoint::PreRouting
    };

    // SAFETY: `priv_` is the handler of `Hooks`, which lives until a grace period after they were
    // taken off.
    let handler = unsafe { &*priv_.cast_const().cast::<T>() };
    // SAFETY: Netfilter lends the packet for the length of the call; at these two points its data
    // begin at the network header.
    let mut skb = unsafe { Skb::from_raw(skb) };
    // INVARIANT: Netfilter gives a valid state, from the point that this was registered for.
    let state = HookState {
        // SAFETY: It is not null.
        state: unsafe { NonNull::new_unchecked(state.cast_mut()) },
        point,
        _state: PhantomData,
    };
    // SAFETY: `nf_hook()` holds the RCU read lock around its hook functions.
    let rcu = unsafe { ReadSide::assert() };

    handler.handle(family, point, &mut skb, &state, rcu);
    raw::NF_ACCEPT
}
