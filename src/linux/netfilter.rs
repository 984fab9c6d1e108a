// SPDX-License-Identifier: GPL-2.0

//! Netfilter hooks: where packets are seen.
//!
//! A [`Handler`] sees the IPv4 and IPv6 packets of a namespace at PRE_ROUTING and LOCAL_OUT, after
//! the raw table and before conntrack. It cannot drop or steal them. Hooks are registered by
//! [`crate::linux::pernet`] only, one set for each namespace.
//!
//! C header: [`include/linux/netfilter.h`](srctree/include/linux/netfilter.h)

use core::{
    marker::PhantomData,
    mem::{
        align_of,
        offset_of,
        size_of, //
    },
    ptr::NonNull, //
};

use kernel::{
    bindings::sk_buff,
    error::to_result,
    prelude::*,
    sync::{
        rcu::Guard,
        Arc, //
    },
    types::Opaque, //
};

use crate::{
    linux::{
        accept::Accept,
        bindings as raw,
        compat::synchronize_rcu,
        net::Net,
        rcu::ReadSide,
        skb::Skb, //
    },
    pure::{
        packet::header::device_name,
        rule::{
            DeviceName,
            Family,
            HookPoint, //
        },
    },
};

// A name is read as two words.
static_assert!(raw::CTSKIP_NET_DEVICE_NAME % align_of::<u64>() == 0);

/// The priority of the hooks: one after the raw table's, `NF_IP_PRI_RAW` and `NF_IP6_PRI_RAW`.
pub(crate) const PRIORITY: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_RAW + 1;

/// What looks at the packets of a namespace.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Looks at one packet, whose place `P` is.
    ///
    /// Runs in softirq or process context, and may be preempted at LOCAL_OUT. Must not sleep.
    fn handle<P: Place>(&self, skb: Skb<'_>, state: HookState<'_>) -> Accept;
}

/// Where a packet is looked at, as a type: what is made for each of the four needs not ask for it.
pub(crate) trait Place {
    /// The family.
    const FAMILY: Family;
    /// The point.
    const POINT: HookPoint;
}

/// The places of the hooks.
struct At<const IPV6: bool, const OUT: bool>;

impl<const IPV6: bool, const OUT: bool> Place for At<IPV6, OUT> {
    const FAMILY: Family = if IPV6 { Family::Ipv6 } else { Family::Ipv4 };
    const POINT: HookPoint = if OUT {
        HookPoint::LocalOut
    } else {
        HookPoint::PreRouting
    };
}

/// What a hook function is told about a packet's way.
///
/// # Invariants
///
/// Points at a `struct nf_hook_state` that is valid for `'a`, and so are its devices and its
/// namespace. It is from one of the hooks of [`Hooks`]. RCU is read-locked for `'a`.
pub(crate) struct HookState<'a>(
    NonNull<raw::nf_hook_state>,
    PhantomData<&'a raw::nf_hook_state>,
);

impl<'a> HookState<'a> {
    /// Gives the family of the hook.
    pub(crate) fn family(&self) -> Family {
        // SAFETY: By the type invariants.
        match u32::from(unsafe { (*self.0.as_ptr()).pf }) {
            raw::NFPROTO_IPV6 => Family::Ipv6,
            _ => Family::Ipv4,
        }
    }

    /// Gives the point of the hook.
    pub(crate) fn point(&self) -> HookPoint {
        // SAFETY: By the type invariants.
        match u32::from(unsafe { (*self.0.as_ptr()).hook }) {
            raw::nf_inet_hooks_NF_INET_LOCAL_OUT => HookPoint::LocalOut,
            _ => HookPoint::PreRouting,
        }
    }

    /// Gives the evidence of the RCU read lock that is held around hook functions.
    #[inline(always)]
    pub(crate) fn rcu(&self) -> &'a ReadSide {
        // SAFETY: By the type invariants.
        unsafe { ReadSide::assert() }
    }

    /// Gives the name of the device the packet came in by (PRE_ROUTING) or goes out by (LOCAL_OUT),
    /// padded with NUL.
    ///
    /// A rename at the same time may give a mix of both names.
    #[inline(always)]
    pub(crate) fn device(&self, point: HookPoint) -> DeviceName {
        // SAFETY: By the type invariants.
        let device = unsafe {
            match point {
                HookPoint::PreRouting => (*self.0.as_ptr()).in_,
                HookPoint::LocalOut => (*self.0.as_ptr()).out,
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

        device_name(words)
    }

    /// Tells whether NAT is in use for `family` in the packet's namespace: see
    /// [`Net::nat_in_use()`].
    #[inline(always)]
    pub(crate) fn nat_in_use(&self, family: Family) -> bool {
        // SAFETY: By the type invariants.
        let net = unsafe { Net::from_raw((*self.0.as_ptr()).net) };

        nat_in_use(net, family, self.rcu())
    }

    /// Tells the same from one look, where it can; `true` where it can't.
    #[inline(always)]
    pub(crate) fn nat_may_be_in_use(&self, family: Family) -> bool {
        // SAFETY: By the type invariants.
        let net = unsafe { Net::from_raw((*self.0.as_ptr()).net) };

        nat_may_be_in_use(net, family, self.rcu())
    }
}

/// A hook of a namespace, as it was registered.
struct RegisteredHook {
    priority: i32,
    ops_type: raw::nf_hook_ops_type,
}

impl RegisteredHook {
    /// The priority of the dummy that stands in the place of what is being unregistered, outside
    /// the order. C: `nf_hook_entries_grow()`.
    const DUMMY: i32 = i32::MIN;

    /// Tells whether nft or BPF has put it there: what is not a subsystem's own. Where it does not tell
    /// of one, there is tracking that need not be.
    fn is_chain_or_program(&self) -> bool {
        matches!(
            self.ops_type,
            raw::nf_hook_ops_type_NF_HOOK_OP_NF_TABLES | raw::nf_hook_ops_type_NF_HOOK_OP_BPF
        )
    }
}

/// The hooks that a namespace has for a family at PRE_ROUTING, in the order of their priorities.
///
/// # Invariants
///
/// Points at an array of `n` hooks, and as many pointers to what was registered, that is there for
/// `'r`. `n` is not 0: C has no array where there are no hooks.
struct RegisteredHooks<'r> {
    array: *mut raw::nf_hook_entries,
    n: usize,
    _rcu: PhantomData<&'r ReadSide>,
}

impl<'r> RegisteredHooks<'r> {
    /// Reads which there are.
    #[inline(always)]
    fn of(net: Net<'r>, family: Family, rcu: &'r ReadSide) -> Option<Self> {
        rcu.check();

        let array_at = |offset| {
            // SAFETY: The namespace is valid, and has pointers to arrays at the two offsets below. A
            // volatile read is what READ_ONCE() is in C.
            unsafe {
                net.as_ptr()
                    .byte_add(offset)
                    .cast::<*mut raw::nf_hook_entries>()
                    .read_volatile()
            }
        };
        let array = match family {
            Family::Ipv4 => array_at(raw::CTSKIP_NET_PRE_ROUTING_IPV4),
            Family::Ipv6 => array_at(raw::CTSKIP_NET_PRE_ROUTING_IPV6),
        };

        if array.is_null() {
            return None;
        }
        // INVARIANT: The kernel frees the array after a grace period, and `rcu` proves that none
        // ends within `'r`. The number is not changed once published.
        Some(Self {
            array,
            // SAFETY: As above.
            n: usize::from(unsafe { (*array).num_hook_entries }),
            _rcu: PhantomData,
        })
    }

    /// Gives the one of that number, which must be less than `n`. C:
    /// `nf_hook_entries_get_hook_ops()`.
    ///
    /// # Safety
    ///
    /// `i` must be less than `n`.
    #[inline(always)]
    unsafe fn get(&self, i: usize) -> RegisteredHook {
        // `n` pointers to what was registered follow the `n` hooks.
        let at = offset_of!(raw::nf_hook_entries, hooks)
            .wrapping_add(self.n.wrapping_mul(size_of::<raw::nf_hook_entry>()))
            .wrapping_add(i.wrapping_mul(size_of::<*const raw::nf_hook_ops>()));
        let ops = self
            .array
            .wrapping_byte_add(at)
            .cast::<*const raw::nf_hook_ops>();

        // SAFETY: The array is there, and `i` within it; see the comment at `struct nf_hook_entries`.
        // The owners of what it points at free that no sooner than a grace period after they
        // unregistered it, as nfnetlink_hook needs it too.
        unsafe {
            let ops = ops.read_volatile();
            RegisteredHook {
                priority: (*ops).priority,
                ops_type: raw::nf_hook_ops::hook_ops_type_raw(ops),
            }
        }
    }

    /// Gives the last one, which may be a dummy.
    #[inline(always)]
    fn last(&self) -> RegisteredHook {
        // SAFETY: By the type invariants, there is one.
        unsafe { self.get(self.n.wrapping_sub(1)) }
    }

    /// Tells whether one of that priority meets `test`.
    fn any_at(&self, priority: i32, test: impl Fn(&RegisteredHook) -> bool) -> bool {
        // SAFETY: The numbers are less than `n`.
        let entries = (0..self.n).rev().map(|i| unsafe { self.get(i) });

        entries
            .filter(|entry| entry.priority != RegisteredHook::DUMMY)
            .take_while(|entry| entry.priority >= priority)
            .any(|entry| entry.priority == priority && test(&entry))
    }
}

/// The priority of nf_nat at PRE_ROUTING, for both families.
const NF_IP_PRI_NAT_DST: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_NAT_DST;

/// Tells whether `net` translates addresses of `family`: nf_nat hooks PRE_ROUTING wherever it hooks
/// any point. Follows `nf_nat_register_fn()`.
///
/// Not every kernel has a type for its hooks. What else may stand at its priority has one; of anything
/// that is not known, the packets are tracked.
pub(crate) fn nat_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    RegisteredHooks::of(net, family, rcu).is_some_and(|entries| {
        entries.any_at(NF_IP_PRI_NAT_DST, |entry| !entry.is_chain_or_program())
    })
}

/// Tells whether [`nat_in_use()`] may be true, from the last hook alone: mostly, that comes before
/// NAT would.
#[inline(always)]
fn nat_may_be_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    const AHEAD_OF_ALL: i32 = RegisteredHook::DUMMY + 1;
    const AHEAD_OF_NAT: i32 = NF_IP_PRI_NAT_DST - 1;

    RegisteredHooks::of(net, family, rcu)
        .is_some_and(|entries| !matches!(entries.last().priority, AHEAD_OF_ALL..=AHEAD_OF_NAT))
}

/// Tells whether conntrack sees the packets of `family` in `net`: it has a hook of no type at its
/// own priority, where nft chains and BPF programs have one. Follows `nf_ct_netns_do_get()`.
pub(crate) fn conntrack_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    const PRIORITY: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_CONNTRACK;

    RegisteredHooks::of(net, family, rcu).is_some_and(|entries| {
        entries.any_at(PRIORITY, |entry| {
            entry.ops_type == raw::nf_hook_ops_type_NF_HOOK_OP_UNDEFINED
        })
    })
}

impl Net<'_> {
    /// Tells whether NAT is in use here for `family`: it has hooks, whether or not for this packet.
    pub(crate) fn nat_in_use(self, family: Family) -> bool {
        nat_in_use(self, family, ReadSide::of(&Guard::new()))
    }

    /// Tells whether conntrack sees this namespace's packets of `family`.
    pub(crate) fn conntrack_in_use(self, family: Family) -> bool {
        conntrack_in_use(self, family, ReadSide::of(&Guard::new()))
    }
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
    /// Pinned, because netfilter keeps pointers to it while the hooks are registered. All zero where
    /// there was no room for them.
    #[pin]
    ops: Opaque<[raw::nf_hook_ops; HOOKS]>,
}

impl<T: Handler> Hooks<T> {
    /// Registers the hooks in `net`, or where a point has as many hooks as it may have, none. C:
    /// `nf_register_net_hooks()`, and `MAX_HOOK_COUNT` of `net/netfilter/core.c`.
    ///
    /// Process context. When it fails (`ENOMEM`), or there is no room, no packet is in the handler
    /// any more.
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
                    fill::<T, At<false, false>>(ops);
                    fill::<T, At<false, true>>(ops.add(1));
                    fill::<T, At<true, false>>(ops.add(2));
                    fill::<T, At<true, true>>(ops.add(3));
                    for i in 0..HOOKS {
                        (*ops.add(i)).priv_ = priv_;
                    }
                }

                // SAFETY: The namespace is valid, the operations are filled in. They and the handler
                // stay where they are until unregistered and out of use, as the caller promises.
                to_result(unsafe {
                    raw::nf_register_net_hooks(net.as_ptr(), ops, HOOKS as c_uint)
                })
                .or_else(|error| {
                    // Those registered first have been taken off again, but may have seen packets.
                    synchronize_rcu();
                    if error != E2BIG {
                        return Err(error);
                    }
                    // SAFETY: As above; none is registered.
                    unsafe { ops.write_bytes(0, HOOKS) };
                    Ok(())
                })
            }),
        })
    }

    /// Tells whether there was room for the hooks.
    pub(crate) fn are_registered(&self) -> bool {
        // SAFETY: They were initialized, and netfilter only reads them.
        unsafe { (*self.ops.get())[0].hook }.is_some()
    }

    /// Takes the hooks off. Does not wait for packets in flight. C: `nf_unregister_net_hooks()`.
    ///
    /// # Safety
    ///
    /// `net` must be the namespace that they were registered in, and this be called only once.
    pub(crate) unsafe fn unregister(&self, net: Net<'_>) {
        if !self.are_registered() {
            return;
        }
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

/// Fills in what the hook at `P` is, but for its `priv`.
///
/// # Safety
///
/// `ops` must be valid for writes.
unsafe fn fill<T: Handler, P: Place>(ops: *mut raw::nf_hook_ops) {
    // SAFETY: By the safety requirements.
    let ops = unsafe { &mut *ops };

    ops.hook = Some(hook::<T, P>);
    ops.pf = match P::FAMILY {
        Family::Ipv4 => raw::NFPROTO_IPV4 as u8,
        Family::Ipv6 => raw::NFPROTO_IPV6 as u8,
    };
    ops.hooknum = match P::POINT {
        HookPoint::PreRouting => raw::nf_inet_hooks_NF_INET_PRE_ROUTING,
        HookPoint::LocalOut => raw::nf_inet_hooks_NF_INET_LOCAL_OUT,
    };
    ops.priority = PRIORITY;
}

/// The hook function at `P`.
///
/// # Safety
///
/// To be used as the `hook` of [`Hooks`] only, at that place.
unsafe extern "C" fn hook<T: Handler, P: Place>(
    priv_: *mut c_void,
    skb: *mut sk_buff,
    state: *const raw::nf_hook_state,
) -> c_uint {
    // SAFETY: `priv_` is the handler of `Hooks`, which lives until a grace period after they were
    // taken off.
    let handler = unsafe { &*priv_.cast_const().cast::<T>() };
    // SAFETY: Netfilter lends the packet for the length of the call; at these two points its data
    // begin at the network header.
    let skb = unsafe { Skb::from_raw(skb) };
    // SAFETY: It is not null.
    let state = unsafe { NonNull::new_unchecked(state.cast_mut()) };
    // INVARIANT: Netfilter gives a valid state, from the hook that this is registered for, and holds
    // the RCU read lock around its hook functions in `nf_hook()`.
    let state = HookState(state, PhantomData);

    handler.handle::<P>(skb, state).into_raw()
}
