// SPDX-License-Identifier: GPL-2.0

//! Netfilter hooks: they call a [`Handler`] for each packet.
//!
//! A [`Handler`] sees the IPv4 and IPv6 packets of a namespace at PRE_ROUTING and at LOCAL_OUT. It
//! runs after the raw table and before conntrack. It cannot drop a packet or keep it. Only
//! [`crate::linux::pernet`] registers hooks: one set for each namespace.
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
    bindings::{
        net_device,
        sk_buff, //
    },
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
            Family, //
        },
    },
};

// [`HookState::device()`] reads a name as two words.
static_assert!(raw::CTSKIP_NET_DEVICE_NAME % align_of::<u64>() == 0);

/// Priority of the hooks: one after the raw table, whose priority is `NF_IP_PRI_RAW` for IPv4 and
/// the same number, `NF_IP6_PRI_RAW`, for IPv6.
const PRIORITY: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_RAW + 1;

/// The handler of a namespace's packets.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Handles one packet and returns the verdict. `P` says at which hook.
    ///
    /// Called under the RCU read lock, in softirq context, or at LOCAL_OUT in process context too,
    /// where it may be preempted. Must not sleep.
    fn handle<P: Place>(&self, skb: Skb<'_>, state: HookState<'_>) -> Accept;
}

/// The point of a hook in the path of a packet.
#[derive(Clone, Copy)]
pub(crate) enum HookPoint {
    /// Packets that come in: `NF_INET_PRE_ROUTING`.
    PreRouting,
    /// Packets that this host made: `NF_INET_LOCAL_OUT`.
    LocalOut,
}

/// The family and the point of a hook, as a type.
///
/// [`Handler::handle()`] is compiled once for each of the four, and so needs no branch on either.
pub(crate) trait Place {
    /// Family of the packets.
    const FAMILY: Family;
    /// Point in their path.
    const POINT: HookPoint;
}

/// The four implementations of [`Place`].
struct At<const IPV6: bool, const OUT: bool>;

impl<const IPV6: bool, const OUT: bool> Place for At<IPV6, OUT> {
    const FAMILY: Family = if IPV6 { Family::Ipv6 } else { Family::Ipv4 };
    const POINT: HookPoint = if OUT {
        HookPoint::LocalOut
    } else {
        HookPoint::PreRouting
    };
}

/// The second argument of a handler: where the packet comes from and goes to.
///
/// # Invariants
///
/// Points at a `struct nf_hook_state` that is valid for `'a`, as are its devices and its namespace.
/// It was passed to one of the hooks of [`Hooks`]. The RCU read lock is held for `'a`.
pub(crate) struct HookState<'a>(
    NonNull<raw::nf_hook_state>,
    PhantomData<&'a raw::nf_hook_state>,
);

impl<'a> HookState<'a> {
    /// Returns the family of the hook.
    pub(crate) fn family(&self) -> Family {
        // SAFETY: By the type invariants.
        match u32::from(unsafe { (*self.0.as_ptr()).pf }) {
            raw::NFPROTO_IPV6 => Family::Ipv6,
            _ => Family::Ipv4,
        }
    }

    /// Returns the point of the hook.
    pub(crate) fn point(&self) -> HookPoint {
        // SAFETY: By the type invariants.
        match u32::from(unsafe { (*self.0.as_ptr()).hook }) {
            raw::nf_inet_hooks_NF_INET_LOCAL_OUT => HookPoint::LocalOut,
            _ => HookPoint::PreRouting,
        }
    }

    /// Returns the evidence of the RCU read lock. The kernel holds it around hook functions.
    #[inline(always)]
    pub(crate) fn rcu(&self) -> &'a ReadSide {
        // SAFETY: By the type invariants.
        unsafe { ReadSide::assert() }
    }

    /// Returns the name of the packet's device, padded with NUL: the incoming one at PRE_ROUTING,
    /// the outgoing one at LOCAL_OUT. `point` must be that of the hook.
    ///
    /// All bytes are NUL where the packet has no such device. A rename at the same time may give a
    /// mix of both names.
    #[inline(always)]
    pub(crate) fn device(&self, point: HookPoint) -> DeviceName {
        let device = self.device_ptr(point);

        if device.is_null() {
            return DeviceName::default();
        }
        // SAFETY: By the type invariants the device is valid. `IFNAMSIZ` bytes of name lie at the
        // offset, aligned as asserted above. The reads are volatile, as a rename may write at the
        // same time.
        let words = unsafe {
            let name = device.byte_add(raw::CTSKIP_NET_DEVICE_NAME).cast::<u64>();
            [name.read_volatile(), name.add(1).read_volatile()]
        };

        device_name(words)
    }

    /// Returns the packet's device, which is valid for `'a` or null; see [`Self::device()`].
    #[inline(always)]
    fn device_ptr(&self, point: HookPoint) -> *mut net_device {
        // SAFETY: By the type invariants.
        unsafe {
            match point {
                HookPoint::PreRouting => (*self.0.as_ptr()).in_,
                HookPoint::LocalOut => (*self.0.as_ptr()).out,
            }
        }
    }

    /// Returns whether an address is one of the packet's namespace: that of a device, of a local
    /// route, or of many hosts (multicast, broadcast, anycast).
    ///
    /// `family` and `point` must be those of the hook. `address` is a number, most significant bit
    /// first; an IPv4 address is in the top 32 bits. C: `inet_addr_type_dev_table()`,
    /// `ipv6_chk_addr()`.
    #[inline(never)]
    pub(crate) fn is_local(&self, family: Family, point: HookPoint, address: u128) -> bool {
        let device = self.device_ptr(point);
        // SAFETY: By the type invariants.
        let net = unsafe { (*self.0.as_ptr()).net };

        // SAFETY: By the type invariants, the namespace is valid, the device is valid or null, and
        // the RCU read lock is held. The array has the 16 bytes of an address.
        unsafe {
            match family {
                Family::Ipv4 => {
                    let address = ((address >> 96) as u32).to_be();
                    raw::ctskip_ipv4_is_local(net, device, address)
                }
                Family::Ipv6 => {
                    raw::ctskip_ipv6_is_local(net, device, address.to_be_bytes().as_ptr())
                }
            }
        }
    }

    /// Returns whether NAT is in use for `family` in the packet's namespace; see
    /// [`Net::nat_in_use()`].
    #[inline(always)]
    pub(crate) fn nat_in_use(&self, family: Family) -> bool {
        // SAFETY: By the type invariants.
        let net = unsafe { Net::from_raw((*self.0.as_ptr()).net) };

        nat_in_use(net, family, self.rcu())
    }

    /// Returns whether NAT may be in use for `family`: `false` is certain, `true` is not.
    ///
    /// Reads one hook only, where [`Self::nat_in_use()`] may read them all.
    #[inline(always)]
    pub(crate) fn nat_may_be_in_use(&self, family: Family) -> bool {
        // SAFETY: By the type invariants.
        let net = unsafe { Net::from_raw((*self.0.as_ptr()).net) };

        nat_may_be_in_use(net, family, self.rcu())
    }
}

/// A hook of a namespace, as its owner registered it.
struct RegisteredHook {
    priority: i32,
    ops_type: raw::nf_hook_ops_type,
}

impl RegisteredHook {
    /// Priority of the dummy that takes the place of a hook that is being unregistered. It is out
    /// of the array's order. C: `nf_hook_entries_grow()`.
    const DUMMY: i32 = i32::MIN;

    /// Returns whether the hook is an nft chain or a BPF program.
    ///
    /// A hook that is neither belongs to a part of the kernel, such as nf_nat. A hook of a type
    /// that is not known here counts as such, too: then some packets are tracked without need.
    fn is_chain_or_program(&self) -> bool {
        matches!(
            self.ops_type,
            raw::nf_hook_ops_type_NF_HOOK_OP_NF_TABLES | raw::nf_hook_ops_type_NF_HOOK_OP_BPF
        )
    }
}

/// A kernel whose `struct nf_hook_ops` has this field frees nf_nat's by `kfree_rcu()`. One without it
/// freed them at once, while packets may read them: there, ctskip must not be built.
const _: usize = offset_of!(raw::nf_hook_ops, rcu);

/// The hooks of a namespace at PRE_ROUTING for one family, in ascending order of priority.
///
/// # Invariants
///
/// Points at a `struct nf_hook_entries` that is valid for `'r`: an array of `n` hooks, then `n`
/// pointers to their `struct nf_hook_ops`. `n` is not 0, as C has no array where there is no hook.
struct RegisteredHooks<'r> {
    array: *mut raw::nf_hook_entries,
    n: usize,
    _rcu: PhantomData<&'r ReadSide>,
}

impl<'r> RegisteredHooks<'r> {
    /// Returns the hooks of `net` for `family`; [`None`] where there is none. Any context.
    #[inline(always)]
    fn of(net: Net<'r>, family: Family, rcu: &'r ReadSide) -> Option<Self> {
        rcu.check();

        let array_at = |offset| {
            // SAFETY: The namespace is valid. A pointer to an array lies at each of the two offsets
            // below. A volatile read is what READ_ONCE() is in C.
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
        // ends within `'r`. The number of hooks is constant once the array is published.
        Some(Self {
            array,
            // SAFETY: The array is valid, as said above.
            n: usize::from(unsafe { (*array).num_hook_entries }),
            _rcu: PhantomData,
        })
    }

    /// Returns the hook of index `i`. C: `nf_hook_entries_get_hook_ops()`.
    ///
    /// # Safety
    ///
    /// `i` must be less than `n`.
    #[inline(always)]
    unsafe fn get(&self, i: usize) -> RegisteredHook {
        // The `n` pointers follow the `n` hooks.
        let at = offset_of!(raw::nf_hook_entries, hooks)
            .wrapping_add(self.n.wrapping_mul(size_of::<raw::nf_hook_entry>()))
            .wrapping_add(i.wrapping_mul(size_of::<*const raw::nf_hook_ops>()));
        let ops = self
            .array
            .wrapping_byte_add(at)
            .cast::<*const raw::nf_hook_ops>();

        // SAFETY: By the type invariants the array is valid, and `i` is within it by the safety
        // requirements; see the comment at `struct nf_hook_entries`. The owner of a `struct
        // nf_hook_ops` frees it no sooner than a grace period after unregistering it, as
        // nfnetlink_hook needs that too; nf_nat does since it has the field checked above.
        unsafe {
            let ops = ops.read_volatile();
            RegisteredHook {
                priority: (*ops).priority,
                ops_type: raw::nf_hook_ops::hook_ops_type_raw(ops),
            }
        }
    }

    /// Returns the hook of the highest priority, or a dummy.
    #[inline(always)]
    fn last(&self) -> RegisteredHook {
        // SAFETY: By the type invariants, `n` is not 0.
        unsafe { self.get(self.n.wrapping_sub(1)) }
    }

    /// Returns whether `test` holds for a hook of `priority`.
    fn any_at(&self, priority: i32, test: impl Fn(&RegisteredHook) -> bool) -> bool {
        // SAFETY: Every index is less than `n`.
        let hooks = (0..self.n).rev().map(|i| unsafe { self.get(i) });

        hooks
            .filter(|hook| hook.priority != RegisteredHook::DUMMY)
            .take_while(|hook| hook.priority >= priority)
            .any(|hook| hook.priority == priority && test(&hook))
    }
}

/// Priority of nf_nat at PRE_ROUTING, which is the same number for both families.
const NF_IP_PRI_NAT_DST: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_NAT_DST;

/// Priority of conntrack at PRE_ROUTING, which is the same number for both families.
const NF_IP_PRI_CONNTRACK: i32 = raw::nf_ip_hook_priorities_NF_IP_PRI_CONNTRACK;

/// Returns whether NAT is in use in `net` for `family`.
///
/// nf_nat has a hook at PRE_ROUTING wherever it has one at all. Not every kernel gives that hook a
/// type of its own. So any hook of its priority counts that is neither an nft chain nor a BPF
/// program. C: `nf_nat_register_fn()`.
fn nat_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    RegisteredHooks::of(net, family, rcu)
        .is_some_and(|hooks| hooks.any_at(NF_IP_PRI_NAT_DST, |hook| !hook.is_chain_or_program()))
}

/// Returns whether [`nat_in_use()`] may return `true`, judged by the last hook alone.
///
/// Mostly that hook's priority is ahead of NAT's: then NAT is not in use.
#[inline(always)]
fn nat_may_be_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    const AHEAD_OF_ALL: i32 = RegisteredHook::DUMMY + 1;
    const AHEAD_OF_NAT: i32 = NF_IP_PRI_NAT_DST - 1;

    RegisteredHooks::of(net, family, rcu)
        .is_some_and(|hooks| !matches!(hooks.last().priority, AHEAD_OF_ALL..=AHEAD_OF_NAT))
}

/// Returns whether conntrack sees the packets of `net` of `family`.
///
/// It has a hook without a type at its own priority. An nft chain or a BPF program there has a
/// type. C: `nf_ct_netns_do_get()`.
fn conntrack_in_use(net: Net<'_>, family: Family, rcu: &ReadSide) -> bool {
    RegisteredHooks::of(net, family, rcu).is_some_and(|hooks| {
        hooks.any_at(NF_IP_PRI_CONNTRACK, |hook| {
            hook.ops_type == raw::nf_hook_ops_type_NF_HOOK_OP_UNDEFINED
        })
    })
}

impl Net<'_> {
    /// Returns whether NAT is in use for `family`: its hooks are there, whether or not they
    /// translate a given packet. Any context.
    pub(crate) fn nat_in_use(self, family: Family) -> bool {
        nat_in_use(self, family, ReadSide::of(&Guard::new()))
    }

    /// Returns whether conntrack sees the packets of a family. Any context.
    pub(crate) fn conntrack_in_use(self) -> bool {
        [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .any(|family| conntrack_in_use(self, family, ReadSide::of(&Guard::new())))
    }
}

/// Number of hooks in a set: two families, two points.
const HOOKS: usize = 4;

/// The set of hooks of one namespace, and their handler.
///
/// # Invariants
///
/// `handler` is the pointer in the hooks' `priv`.
#[pin_data]
pub(super) struct Hooks<T: Handler> {
    handler: Arc<T>,
    /// Whether every point had room.
    are_registered: bool,
    /// Pinned, because Netfilter keeps pointers to it while the hooks are registered.
    #[pin]
    ops: Opaque<[raw::nf_hook_ops; HOOKS]>,
}

impl<T: Handler> Hooks<T> {
    /// Registers the hooks in `net`; none of them where a point has as many hooks as it may have.
    ///
    /// Process context. Fails with `ENOMEM`. After a failure no packet is in the handler any more.
    /// Where there is no room, packets may still be in it for a grace period. C:
    /// `nf_register_net_hooks()`, and `MAX_HOOK_COUNT` of `net/netfilter/core.c`.
    ///
    /// # Safety
    ///
    /// After success, [`Self::unregister()`] must be called with the same `net` before that ends. A
    /// grace period must pass between that call and the drop of the hooks; where there was no room,
    /// between this one and the drop.
    pub(super) unsafe fn new(net: Net<'_>, handler: Arc<T>) -> impl PinInit<Self, Error> + '_ {
        let priv_ = Arc::as_ptr(&handler).cast_mut().cast::<c_void>();

        try_pin_init!(Self {
            handler,
            are_registered: true,
            ops <- Opaque::try_ffi_init(move |slot: *mut [raw::nf_hook_ops; HOOKS]| {
                let ops = slot.cast::<raw::nf_hook_ops>();

                // SAFETY: `slot` is valid for writes. Zero is a valid value of every field.
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

                // SAFETY: The namespace is valid, and the operations are filled in. They and the
                // handler stay in their place until they are unregistered and a grace period has
                // passed, as the caller promises.
                to_result(unsafe {
                    raw::nf_register_net_hooks(net.as_ptr(), ops, HOOKS as c_uint)
                })
                .or_else(|error| {
                    // The hooks that were registered before the failing one are off again, but may
                    // have seen packets. There may be many namespaces without room, so that these
                    // wait for each other.
                    if error != E2BIG {
                        synchronize_rcu();
                        return Err(error);
                    }
                    *are_registered = false;
                    Ok(())
                })
            }),
        })
    }

    /// Returns whether the hooks are registered: [`Self::new()`] found room for them.
    pub(super) fn are_registered(&self) -> bool {
        self.are_registered
    }

    /// Unregisters the hooks. Packets may still be in the handler for a grace period.
    ///
    /// Process context. C: `nf_unregister_net_hooks()`.
    ///
    /// # Safety
    ///
    /// `net` must be the namespace of [`Self::new()`]. This function must be called only once.
    pub(super) unsafe fn unregister(&self, net: Net<'_>) {
        if !self.are_registered() {
            return;
        }
        // SAFETY: They are registered in `net`, by the safety requirements of this function, and
        // stay in their place by those of [`Self::new()`].
        unsafe {
            raw::nf_unregister_net_hooks(net.as_ptr(), self.ops.get().cast(), HOOKS as c_uint)
        };
    }

    /// Returns the handler.
    pub(super) fn handler(&self) -> &Arc<T> {
        &self.handler
    }
}

/// Sets all fields of the hook at `P` but `priv`.
///
/// # Safety
///
/// `ops` must be valid for writes, and initialised.
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

/// The hook function at `P`: calls the handler in `priv_` for a packet.
///
/// # Safety
///
/// Must be used only as the `hook` of [`Hooks`] at `P`.
unsafe extern "C" fn hook<T: Handler, P: Place>(
    priv_: *mut c_void,
    skb: *mut sk_buff,
    state: *const raw::nf_hook_state,
) -> c_uint {
    // SAFETY: `priv_` is the handler of `Hooks`. It lives until a grace period after the hooks were
    // unregistered.
    let handler = unsafe { &*priv_.cast_const().cast::<T>() };
    // SAFETY: Netfilter lends the packet for the length of the call. At these two points its data
    // begin at the network header.
    let skb = unsafe { Skb::from_raw(skb) };
    // SAFETY: Netfilter passes a pointer that is not null.
    let state = unsafe { NonNull::new_unchecked(state.cast_mut()) };
    // INVARIANT: Netfilter passes a valid state, of the hook that this function is registered for.
    // `nf_hook()` holds the RCU read lock around hook functions.
    let state = HookState(state, PhantomData);

    handler.handle::<P>(skb, state).into_raw()
}
