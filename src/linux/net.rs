// SPDX-License-Identifier: GPL-2.0

//! A network namespace, and a handle on one that may be gone.
//!
//! C header: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h)

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    bindings::{
        self,
        net, //
    },
    error::from_err_ptr,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    task::Pid, //
};

use crate::{
    linux::bindings as raw,
    pure::rule::NetnsId, //
};

/// A network namespace.
///
/// # Invariants
///
/// Points at a `struct net` that is valid for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Net<'a>(NonNull<net>, PhantomData<&'a net>);

impl<'a> Net<'a> {
    /// Wraps a pointer from C.
    ///
    /// # Safety
    ///
    /// `net` must be valid for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(net: *mut net) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: What is valid is not null.
        Self(unsafe { NonNull::new_unchecked(net) }, PhantomData)
    }

    /// Gives the initial namespace.
    pub(crate) fn init() -> Net<'static> {
        // SAFETY: `init_net` is there always.
        unsafe { Net::from_raw(&raw mut bindings::init_net) }
    }

    /// Gives the pointer, for calls of C functions.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut net {
        self.0.as_ptr()
    }

    /// Gives what the namespace is called.
    pub(crate) fn id(self) -> NetnsId {
        // SAFETY: By the type invariants; neither changes after the namespace was made.
        unsafe {
            NetnsId {
                cookie: self
                    .as_ptr()
                    .byte_add(raw::CTSKIP_NET_COOKIE)
                    .cast::<u64>()
                    .read(),
                inum: self
                    .as_ptr()
                    .byte_add(raw::CTSKIP_NET_INUM)
                    .cast::<u32>()
                    .read(),
            }
        }
    }
}

/// Gives the namespace of the process that has `pid` in the caller's pid namespace.
///
/// Process context; fails with `ESRCH`. C: `get_net_ns_by_pid()`.
pub(crate) fn find_by_pid(pid: Pid) -> Result<NetnsId> {
    // SAFETY: Takes any number.
    let net = from_err_ptr(unsafe { raw::get_net_ns_by_pid(pid) })?;

    // SAFETY: A reference was given with it, which is held until below.
    let id = unsafe { Net::from_raw(net) }.id();

    // SAFETY: Gives that reference back.
    unsafe { raw::ctskip_put_net(net) };
    Ok(id)
}

/// Tells whether the current task is in the initial network namespace. Process context.
pub(crate) fn current_is_in_init() -> bool {
    // SAFETY: Takes no arguments.
    unsafe { raw::ctskip_current_in_init_net() }
}

/// A namespace that is looked at from outside of its packets' way, and may be gone.
#[derive(Clone)]
pub(crate) struct NetHandle(Arc<NetLink>);

/// What the handles of a namespace share.
///
/// # Invariants
///
/// While there is a pointer in `net`, the namespace is valid: it is taken out, under the lock,
/// before that ends.
#[pin_data]
struct NetLink {
    id: NetnsId,
    #[pin]
    net: Mutex<Option<NonNull<net>>>,
}

// SAFETY: A namespace may be looked at by any thread.
unsafe impl Send for NetLink {}
// SAFETY: As above; which one it is, is guarded by the lock.
unsafe impl Sync for NetLink {}

impl NetHandle {
    /// Makes a handle.
    ///
    /// # Safety
    ///
    /// [`Self::clear()`] must be called before `net` ends.
    pub(super) unsafe fn new(net: Net<'_>) -> Result<Self> {
        // INVARIANT: By the safety requirements.
        let link = pin_init!(NetLink {
            id: net.id(),
            net <- new_mutex!(Some(net.0)),
        });

        Ok(Self(Arc::pin_init(link, GFP_KERNEL)?))
    }

    /// Gives what the namespace is, or was, called.
    pub(crate) fn id(&self) -> NetnsId {
        self.0.id
    }

    /// Tells whether it is the initial namespace.
    pub(crate) fn is_init(&self) -> bool {
        self.id() == Net::init().id()
    }

    /// Looks at the namespace; [`None`] where it is gone.
    ///
    /// Process context. Its end waits for `look`, which must be short and take no lock under which
    /// this is called. Must not be nested for the same namespace.
    pub(crate) fn with<R>(&self, look: impl FnOnce(Net<'_>) -> R) -> Option<R> {
        let net = self.0.net.lock();

        // SAFETY: By the type invariants it is valid while the lock is held.
        net.map(|net| look(unsafe { Net::from_raw(net.as_ptr()) }))
    }

    /// Says that the namespace is about to end. Waits for those who look at it.
    pub(super) fn clear(&self) {
        *self.0.net.lock() = None;
    }
}
