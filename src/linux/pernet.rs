// SPDX-License-Identifier: GPL-2.0

//! Network namespaces: state and hooks in each, from its start to its end.
//!
//! A [`PerNet`] type is registered once, with data that all namespaces share. Each namespace that
//! exists or will exist gets a state, and then its hooks. At its end, and on unload, the hooks are
//! unregistered first. A grace period later, the state is dropped.
//!
//! No reference to a namespace is held. Code outside of its packet path has a [`NetHandle`], which
//! tells whether it still exists.
//!
//! C headers: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h),
//! [`include/net/netns/generic.h`](srctree/include/net/netns/generic.h)
//!
//! # Examples
//!
//! ```ignore
//! /// Counts the IPv4 and IPv6 packets of a namespace.
//! struct Meter(Counters<1>);
//!
//! impl_has_pernet_slot!(Meter);
//!
//! impl PerNet for Meter {
//!     type Shared = ();
//!
//!     fn init(_net: NetHandle, _shared: &Arc<()>) -> Result<Arc<Self>> {
//!         Ok(Arc::new(Meter(Counters::new()?), GFP_KERNEL)?)
//!     }
//!
//!     fn no_room(_this: &Arc<Self>, _shared: &Arc<()>) -> Result {
//!         Err(E2BIG)
//!     }
//!
//!     fn exit(this: &Arc<Self>, _shared: &Arc<()>) {
//!         pr_info!("{} packets\n", this.0.at(0).sum());
//!     }
//! }
//!
//! impl Handler for Meter {
//!     fn handle<P: Place>(&self, _skb: Skb<'_>, _state: HookState<'_>) -> Accept {
//!         self.0.at(0).count()
//!     }
//! }
//!
//! // Held by the module for as long as it is to see packets.
//! let registration = Registration::<Meter>::new(Arc::new((), GFP_KERNEL)?)?;
//! ```

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::size_of, //
};

use kernel::{
    bindings::net,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::{
        atomic::{
            ordering,
            Atomic, //
        },
        Arc, //
    },
    types::{
        ForeignOwnable,
        Opaque, //
    },
};

use crate::linux::{
    bindings as raw,
    compat::synchronize_rcu,
    net::{
        Net,
        NetHandle, //
    },
    netfilter::{
        Handler,
        Hooks, //
    },
};

/// The state of a namespace, which handles its packets. See the [module](self) for an example.
///
/// All functions are called in process context, under `pernet_ops_rwsem`. They may sleep, but not
/// for long: no namespace can start or end while a type is registered or unregistered.
pub(crate) trait PerNet: HasPernetSlot + Handler {
    /// Data that all namespaces share.
    type Shared: Send + Sync + 'static;

    /// Returns the state of the namespace `net`.
    ///
    /// Called when a namespace starts, and on registration for each that exists. Packets come as
    /// soon as the function has returned. An error fails the start of the namespace, or the
    /// registration.
    fn init(net: NetHandle, shared: &Arc<Self::Shared>) -> Result<Arc<Self>>;

    /// Called where a hook point of the namespace has as many hooks as it may have: no packet will
    /// come.
    ///
    /// That is possible on registration only, as a new namespace has room. An error fails the
    /// registration, after [`Self::exit()`]; it should be `E2BIG`.
    fn no_room(this: &Arc<Self>, shared: &Arc<Self::Shared>) -> Result;

    /// Undoes the work of [`Self::init()`] outside of the state.
    ///
    /// Called when the namespace ends, on unload, and where the hooks could not be registered. The
    /// hooks are unregistered, but packets may still be in the handler. The namespace's
    /// [`NetHandle`]s are emptied when this returns. The reference to the state is dropped a grace
    /// period later.
    fn exit(this: &Arc<Self>, shared: &Arc<Self::Shared>);
}

/// A [`PerNet`] type with a place for its registration. [`impl_has_pernet_slot!`] implements it.
///
/// # Safety
///
/// [`Self::slot()`] must return the same place on each call, and that place must be no other
/// type's.
pub(crate) unsafe trait HasPernetSlot: Sized {
    /// Returns the place.
    fn slot() -> &'static PernetSlot<Self>
    where
        Self: PerNet;
}

/// Implements [`HasPernetSlot`] by a `static` of the type's own.
macro_rules! impl_has_pernet_slot {
    ($type:ty) => {
        // SAFETY: The `static` is one place, for this type only.
        unsafe impl $crate::linux::pernet::HasPernetSlot for $type {
            fn slot() -> &'static $crate::linux::pernet::PernetSlot<Self> {
                static SLOT: $crate::linux::pernet::PernetSlot<$type> =
                    $crate::linux::pernet::PernetSlot::new();
                &SLOT
            }
        }
    };
}
pub(crate) use impl_has_pernet_slot;

/// The place of a [`PerNet`] type's registration.
///
/// # Invariants
///
/// The thread that turned `taken` to `true` writes the other fields while `ops` is not registered.
/// No thread writes them while it is. While it is registered, `shared` is [`Some`].
pub(crate) struct PernetSlot<T: PerNet> {
    taken: Atomic<bool>,
    ops: Opaque<raw::pernet_operations>,
    id: UnsafeCell<c_uint>,
    shared: UnsafeCell<Option<Arc<T::Shared>>>,
}

// SAFETY: By the type invariants, there is one writer, and no reader at that time.
unsafe impl<T: PerNet> Sync for PernetSlot<T> {}

impl<T: PerNet> PernetSlot<T> {
    /// Creates an empty place.
    pub(crate) const fn new() -> Self {
        Self {
            taken: Atomic::new(false),
            ops: Opaque::zeroed(),
            id: UnsafeCell::new(0),
            shared: UnsafeCell::new(None),
        }
    }

    /// Returns the shared data.
    ///
    /// # Safety
    ///
    /// Must be called while the type is registered.
    unsafe fn shared(&self) -> Result<&Arc<T::Shared>> {
        // SAFETY: By the type invariants no thread writes it now.
        unsafe { &*self.shared.get() }.as_ref().ok_or(ENODEV)
    }

    /// Returns the address of the pointer that `net` keeps for this type: a [`KBox`] of
    /// [`NetData`].
    ///
    /// The kernel zeroes the pointer before `init` and frees its memory after `exit`. C:
    /// `net_generic()`.
    ///
    /// # Safety
    ///
    /// Must be called while the type is registered, in a callback for `net`.
    unsafe fn storage(&self, net: *mut net) -> *mut *mut c_void {
        // SAFETY: By the safety requirements, `id` has been assigned and the memory allocated.
        unsafe { raw::ctskip_net_generic(net, *self.id.get()) }.cast()
    }
}

/// The data of one namespace.
#[pin_data]
struct NetData<T: PerNet> {
    handle: NetHandle,
    #[pin]
    hooks: Hooks<T>,
}

/// A registration of a [`PerNet`] type, which ends when this is dropped (process context).
///
/// # Invariants
///
/// This type has taken `T::slot()`, whose `ops` are registered.
pub(crate) struct Registration<T: PerNet>(PhantomData<Arc<T::Shared>>);

impl<T: PerNet> Registration<T> {
    /// Registers `T` for all namespaces. C: `register_pernet_subsys()`.
    ///
    /// Process context; may sleep. Fails with the error of [`PerNet::init()`] or
    /// [`PerNet::no_room()`], with `ENOMEM`, or with `EBUSY` where `T` is registered already. No
    /// namespace keeps a state or a hook after a failure. After success every namespace has its
    /// hooks, but for those of [`PerNet::no_room()`].
    #[inline(never)]
    pub(crate) fn new(shared: Arc<T::Shared>) -> Result<Self> {
        let slot = T::slot();
        if slot.taken.xchg(true, ordering::Acquire) {
            return Err(EBUSY);
        }

        // SAFETY: By the type invariants of `PernetSlot` we are the one writer now.
        unsafe {
            *slot.shared.get() = Some(shared);

            let ops = &mut *slot.ops.get();
            ops.init = Some(init::<T>);
            ops.pre_exit = Some(pre_exit::<T>);
            ops.exit = Some(exit::<T>);
            ops.id = slot.id.get();
            ops.size = size_of::<*mut c_void>();
        }

        // INVARIANT: On success the operations are registered.
        // SAFETY: The operations are in a static, and filled in.
        to_result(unsafe { raw::register_pernet_subsys(slot.ops.get()) })
            .map(|()| Self(PhantomData))
            // SAFETY: We have taken the place. The operations are not registered.
            .inspect_err(|_| unsafe { release::<T>() })
    }
}

impl<T: PerNet> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants they are registered.
        unsafe { raw::unregister_pernet_subsys(T::slot().ops.get()) };
        // SAFETY: By the type invariants we have taken the place. The operations were unregistered
        // above.
        unsafe { release::<T>() };
    }
}

/// Empties the place of `T`, for its next registration.
///
/// # Safety
///
/// The caller must have taken the place, and its operations must not be registered.
unsafe fn release<T: PerNet>() {
    let slot = T::slot();

    // SAFETY: By the safety requirements we are the one writer.
    drop(unsafe { (*slot.shared.get()).take() });
    slot.taken.store(false, ordering::Release);
}

/// Creates the state of a namespace, then registers its hooks.
///
/// # Safety
///
/// Must be used only as `init` of the place's `ops`.
unsafe extern "C" fn init<T: PerNet>(net: *mut net) -> c_int {
    let slot = T::slot();

    from_result(|| {
        // SAFETY: This is a callback for `net`, which is valid until after `exit`.
        let (net, shared, storage) =
            unsafe { (Net::from_raw(net), slot.shared()?, slot.storage(net)) };

        // SAFETY: The handle is cleared below or by `pre_exit()`. Either comes before the
        // namespace's end.
        let handle = unsafe { NetHandle::new(net) }?;

        let handler = T::init(handle.clone(), shared).inspect_err(|_| handle.clear())?;
        let state = {
            let (handle, handler) = (handle.clone(), handler.clone());

            try_pin_init!(NetData {
                handle,
                // SAFETY: `pre_exit()` unregisters the hooks, and `exit()` drops them. The kernel
                // waits for a grace period in between. Where there was no room, the state is
                // dropped by `exit()`, too, or below after a grace period.
                hooks <- unsafe { Hooks::new(net, handler) },
            }? Error)
        };
        let state = KBox::try_pin_init(state, GFP_KERNEL_ACCOUNT).and_then(|state| {
            if !state.hooks.are_registered() {
                // The state is dropped then: see `Hooks::new()`.
                T::no_room(&handler, shared).inspect_err(|_| synchronize_rcu())?;
            }
            Ok(state)
        });
        let state = state.inspect_err(|_| {
            T::exit(&handler, shared);
            handle.clear();
        })?;

        // SAFETY: `storage` is valid for writes.
        unsafe { storage.write(state.into_foreign()) };
        Ok(0)
    })
}

/// Unregisters a namespace's hooks, and empties its handles.
///
/// # Safety
///
/// Must be used only as `pre_exit` of the place's `ops`.
unsafe extern "C" fn pre_exit<T: PerNet>(net: *mut net) {
    let slot = T::slot();

    // SAFETY: This is a callback for `net`, for which `init()` has stored a state. That is only
    // borrowed until `exit()`.
    let (net, state) = unsafe {
        let state = <Pin<KBox<NetData<T>>>>::borrow(*slot.storage(net));
        (Net::from_raw(net), state)
    };

    // SAFETY: The hooks were registered in this namespace, and this is called once.
    unsafe { state.hooks.unregister(net) };

    // SAFETY: The type is registered while its callbacks run.
    if let Ok(shared) = unsafe { slot.shared() } {
        T::exit(state.hooks.handler(), shared);
    }
    state.handle.clear();
}

/// Drops a namespace's state.
///
/// # Safety
///
/// Must be used only as `exit` of the place's `ops`.
unsafe extern "C" fn exit<T: PerNet>(net: *mut net) {
    // SAFETY: This is a callback for `net`. A grace period has passed since `pre_exit()`: no packet
    // is in the handler, and nothing borrows the state. The pointer is not read after this.
    drop(unsafe { <Pin<KBox<NetData<T>>>>::from_foreign(*T::slot().storage(net)) });
}
