// SPDX-License-Identifier: GPL-2.0

//! Network namespaces: state and hooks in each of them, from its making to its end.
//!
//! A [`PerNet`] type is registered once, with something that all namespaces share. In each
//! namespace that exists, and each that will, a state is made and then its hooks registered; at the
//! namespace's end, and on unload, the hooks are taken off first, and the state is let go after a
//! grace period. No reference on a namespace is held: who wants to look at one from elsewhere has
//! a [`NetHandle`], which knows when it is gone.
//!
//! C headers: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h),
//! [`include/net/netns/generic.h`](srctree/include/net/netns/generic.h)

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
    net::{
        Net,
        NetHandle, //
    },
    netfilter::{
        Handler,
        Hooks, //
    },
};

/// The state of a namespace, which handles its packets.
pub(crate) trait PerNet: HasPernetSlot + Handler {
    /// What all namespaces share.
    type Shared: Send + Sync + 'static;

    /// Makes the state of `net`.
    ///
    /// Runs when the namespace is made, and on registration for each that exists; an error fails
    /// that. Its packets come as soon as this has returned. It must not wait for anything that
    /// takes long: no namespace can be made or ended meanwhile.
    fn init(net: NetHandle, shared: &Arc<Self::Shared>) -> Result<Arc<Self>>;

    /// Says that no packet of the namespace will come, as a point there has as many hooks as it may
    /// have. That is so only on registration: a new namespace has room.
    ///
    /// An error, `E2BIG`, fails the registration, after [`Self::exit()`].
    fn no_room(this: &Arc<Self>, shared: &Arc<Self::Shared>) -> Result;

    /// Undoes what [`Self::init()`] did outside of the state.
    ///
    /// Runs when the namespace ends, on unload, and where its hooks could not be registered. The
    /// hooks are off, `net` looks at nothing any more, but packets may still be in the handler. The
    /// reference on the state is dropped a grace period later. It must not wait long either.
    fn exit(this: &Arc<Self>, shared: &Arc<Self::Shared>);
}

/// A [`PerNet`] type that has a place for its registration; made by [`impl_has_pernet_slot!`].
///
/// # Safety
///
/// [`Self::slot()`] must give the same place each time, and no other type's.
pub(crate) unsafe trait HasPernetSlot: Sized {
    /// Gives the place.
    fn slot() -> &'static PernetSlot<Self>
    where
        Self: PerNet;
}

/// Implements [`HasPernetSlot`] by a `static` of the type's own.
macro_rules! impl_has_pernet_slot {
    ($type:ty) => {
        // SAFETY: There is one `static` here, for this type.
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
/// The fields other than `taken` are written by the one that has turned `taken` to `true`, while
/// `ops` is not registered, and only read while it is. While it is registered, `shared` is [`Some`].
pub(crate) struct PernetSlot<T: PerNet> {
    taken: Atomic<bool>,
    ops: Opaque<raw::pernet_operations>,
    id: UnsafeCell<c_uint>,
    shared: UnsafeCell<Option<Arc<T::Shared>>>,
}

// SAFETY: By the type invariants, there is one writer, and it excludes readers.
unsafe impl<T: PerNet> Sync for PernetSlot<T> {}

impl<T: PerNet> PernetSlot<T> {
    /// Makes the place.
    pub(crate) const fn new() -> Self {
        Self {
            taken: Atomic::new(false),
            ops: Opaque::zeroed(),
            id: UnsafeCell::new(0),
            shared: UnsafeCell::new(None),
        }
    }

    /// Gives what all namespaces share.
    ///
    /// # Safety
    ///
    /// To be called while registered.
    unsafe fn shared(&self) -> Result<&Arc<T::Shared>> {
        // SAFETY: By the type invariants it is only read now.
        unsafe { &*self.shared.get() }.as_ref().ok_or(ENODEV)
    }

    /// Gives the place in `net` that a pointer of [`Box`] to its [`NetData`] is kept in.
    ///
    /// C: `net_generic()`, which has it zeroed before `init` and freed after `exit`.
    ///
    /// # Safety
    ///
    /// To be called while registered, from the callbacks for `net`.
    unsafe fn storage(&self, net: *mut net) -> *mut *mut c_void {
        // SAFETY: By the safety requirements, the id was given and the memory allocated.
        unsafe { raw::ctskip_net_generic(net, *self.id.get()) }.cast()
    }
}

/// What is kept for a namespace.
#[pin_data]
struct NetData<T: PerNet> {
    handle: NetHandle,
    #[pin]
    hooks: Hooks<T>,
}

/// A registration of a [`PerNet`] type; undone when dropped.
///
/// # Invariants
///
/// `T::slot()` is taken by this, and its `ops` are registered.
pub(crate) struct Registration<T: PerNet>(PhantomData<Arc<T::Shared>>);

impl<T: PerNet> Registration<T> {
    /// Registers `T`. C: `register_pernet_subsys()`.
    ///
    /// Process context. Fails with what [`PerNet::init()`] fails with, `ENOMEM`, or `EBUSY` where
    /// it is registered already; nothing is left then. On success every namespace has its hooks but
    /// those that [`PerNet::no_room()`] was called for.
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
        // SAFETY: They are static and filled in.
        to_result(unsafe { raw::register_pernet_subsys(slot.ops.get()) })
            .map(|()| Self(PhantomData))
            // SAFETY: They are not registered.
            .inspect_err(|_| unsafe { release::<T>() })
    }
}

impl<T: PerNet> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants they are registered.
        unsafe { raw::unregister_pernet_subsys(T::slot().ops.get()) };
        // SAFETY: They are not any more.
        unsafe { release::<T>() };
    }
}

/// Empties a slot, for the next registration.
///
/// # Safety
///
/// The slot must have been taken by the caller, and not be registered.
unsafe fn release<T: PerNet>() {
    let slot = T::slot();

    // SAFETY: By the safety requirements we are the one writer.
    drop(unsafe { (*slot.shared.get()).take() });
    slot.taken.store(false, ordering::Release);
}

/// Makes the state of a namespace, then registers its hooks.
///
/// # Safety
///
/// To be used as `init` of the slot's `ops` only.
unsafe extern "C" fn init<T: PerNet>(net: *mut net) -> c_int {
    let slot = T::slot();

    from_result(|| {
        // SAFETY: We are in a callback, with a namespace that is valid until after `exit`.
        let (net, shared, storage) =
            unsafe { (Net::from_raw(net), slot.shared()?, slot.storage(net)) };

        // SAFETY: It is cleared below or by `pre_exit()`, one of which comes before its end.
        let handle = unsafe { NetHandle::new(net) }?;

        let handler = T::init(handle.clone(), shared).inspect_err(|_| handle.clear())?;
        let state = {
            let (handle, handler) = (handle.clone(), handler.clone());

            try_pin_init!(NetData {
                handle,
                // SAFETY: `pre_exit()` unregisters them, and `exit()` drops them: the kernel waits
                // for a grace period in between.
                hooks <- unsafe { Hooks::new(net, handler) },
            }? Error)
        };
        let state = KBox::try_pin_init(state, GFP_KERNEL).and_then(|state| {
            if !state.hooks.are_registered() {
                T::no_room(&handler, shared)?;
            }
            Ok(state)
        });
        let state = state.inspect_err(|_| {
            handle.clear();
            T::exit(&handler, shared);
        })?;

        // SAFETY: The place is valid for writes.
        unsafe { storage.write(state.into_foreign()) };
        Ok(0)
    })
}

/// Takes a namespace's hooks off.
///
/// # Safety
///
/// To be used as `pre_exit` of the slot's `ops` only.
unsafe extern "C" fn pre_exit<T: PerNet>(net: *mut net) {
    let slot = T::slot();

    // SAFETY: We are in a callback, for a namespace that `init()` has put a state in, which is only
    // borrowed until `exit()`.
    let (net, state) = unsafe {
        let state = <Pin<KBox<NetData<T>>>>::borrow(*slot.storage(net));
        (Net::from_raw(net), state)
    };

    // SAFETY: They were made for this namespace, and this is called once.
    unsafe { state.hooks.unregister(net) };
    state.handle.clear();

    // SAFETY: As above.
    if let Ok(shared) = unsafe { slot.shared() } {
        T::exit(state.hooks.handler(), shared);
    }
}

/// Drops a namespace's state.
///
/// # Safety
///
/// To be used as `exit` of the slot's `ops` only.
unsafe extern "C" fn exit<T: PerNet>(net: *mut net) {
    // SAFETY: As in `pre_exit()`, after which a grace period has passed: no packet is in the
    // handler, and nothing borrows the state. Nobody looks at the place after this.
    drop(unsafe { <Pin<KBox<NetData<T>>>>::from_foreign(*T::slot().storage(net)) });
}
