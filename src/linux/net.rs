// SPDX-License-Identifier: GPL-2.0

//! Network namespaces, and handles that tell whether their namespace still exists.
//!
//! C header: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h)

use core::{
    fmt::{
        self,
        Display,
        Formatter, //
    },
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    bindings::{
        self,
        net, //
    },
    error::{
        from_err_ptr,
        to_result, //
    },
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
    pure::rule::{
        Family,
        NetnsId, //
    },
};

/// A network namespace.
///
/// # Invariants
///
/// Points at a `struct net` that is valid for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Net<'a>(NonNull<net>, PhantomData<&'a net>);

impl<'a> Net<'a> {
    /// Creates a reference from a pointer from C.
    ///
    /// # Safety
    ///
    /// `net` must be valid for `'a`.
    #[inline(always)]
    pub(super) unsafe fn from_raw(net: *mut net) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: A valid pointer is not null.
        Self(unsafe { NonNull::new_unchecked(net) }, PhantomData)
    }

    /// Returns the initial namespace.
    pub(crate) fn init() -> Net<'static> {
        // SAFETY: `init_net` is a static variable: it is always valid.
        unsafe { Net::from_raw(&raw mut bindings::init_net) }
    }

    /// Returns the pointer, for calls of C functions.
    #[inline(always)]
    pub(super) fn as_ptr(self) -> *mut net {
        self.0.as_ptr()
    }

    /// Returns whether the namespace forwards packets of `family`, by the setting for all devices.
    ///
    /// C: `net.ipv4.conf.all.forwarding`, `net.ipv6.conf.all.forwarding`.
    pub(crate) fn forwards(self, family: Family) -> bool {
        // SAFETY: By the type invariants.
        unsafe {
            match family {
                Family::Ipv4 => raw::ctskip_net_forwards_ipv4(self.as_ptr()),
                Family::Ipv6 => raw::ctskip_net_forwards_ipv6(self.as_ptr()),
            }
        }
    }

    /// Returns the namespace's cookie and inode number, which together name it.
    pub(crate) fn id(self) -> NetnsId {
        // SAFETY: By the type invariants. Both are constant once the namespace has been set up.
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

/// Returns the name of the network namespace of process `pid`, a number of the caller's pid
/// namespace.
///
/// Fails with `ESRCH` where there is no such process. Process context. C: `get_net_ns_by_pid()`.
pub(crate) fn find_by_pid(pid: Pid) -> Result<NetnsId> {
    // SAFETY: Any number may be passed.
    let net = from_err_ptr(unsafe { raw::get_net_ns_by_pid(pid) })?;

    // SAFETY: The call has returned a reference, which is held until below.
    let id = unsafe { Net::from_raw(net) }.id();

    // SAFETY: The reference is ours, and `net` is not used after this.
    unsafe { raw::ctskip_put_net(net) };
    Ok(id)
}

/// Calls `look` with the inode number of the namespace that the file at a path is, and returns its result. The
/// path consists of `parts`, and is looked up as the current task sees it.
///
/// The namespace, which may be one of another kind, exists until `look` returns. With `is_cached`, no file
/// system is asked: then it fails with `EAGAIN` where some of the path is not in memory. Fails with `EINVAL`
/// where the file is no namespace, with `ENOMEM`, and as a look-up of the path does. Process context. C:
/// `kern_path()`.
pub(crate) fn with_file<R>(
    parts: &[&[u8]],
    is_cached: bool,
    look: impl FnOnce(u32) -> R,
) -> Result<R> {
    let mut text = KVec::new();
    for part in parts {
        text.extend_from_slice(part, GFP_KERNEL)?;
    }
    text.push(0, GFP_KERNEL)?;
    let path = CStr::from_bytes_with_nul(&text).map_err(|_| EINVAL)?;
    let mut file = bindings::path::default();
    let mut inum = 0;

    // SAFETY: `path` ends with a NUL; `file` and `inum` are written to only.
    to_result(unsafe {
        raw::ctskip_find_namespace(path.as_char_ptr(), is_cached, &raw mut file, &raw mut inum)
    })?;
    let result = look(inum);

    // SAFETY: The call has returned a reference in `file`, which is not used after this.
    unsafe { raw::path_put(&raw const file) };
    Ok(result)
}

/// Returns whether the current task is in the initial network namespace. Process context.
pub(super) fn current_is_in_init() -> bool {
    // SAFETY: The call has no requirement but process context, where there is a current task.
    unsafe { raw::ctskip_current_in_init_net() }
}

/// A reference to a namespace for code outside of its packet path. The namespace may have ended.
///
/// It keeps no `struct net` alive.
#[derive(Clone)]
pub(crate) struct NetHandle(Arc<NetLink>);

/// State that all handles of one namespace share.
///
/// # Invariants
///
/// While `net` is [`Some`], the namespace is valid. [`NetHandle::clear()`] empties it, under the
/// lock, before the namespace ends.
#[pin_data]
struct NetLink {
    id: NetnsId,
    #[pin]
    net: Mutex<Option<NonNull<net>>>,
}

// SAFETY: A namespace may be used by any thread.
unsafe impl Send for NetLink {}
// SAFETY: `id` is constant, and the lock guards `net`.
unsafe impl Sync for NetLink {}

impl NetHandle {
    /// Creates the first handle of `net`. Fails with `ENOMEM`. Process context.
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

        Ok(Self(Arc::pin_init(link, GFP_KERNEL_ACCOUNT)?))
    }

    /// Returns the namespace's cookie and inode number, also after its end.
    pub(crate) fn id(&self) -> NetnsId {
        self.0.id
    }

    /// Returns whether this is the initial namespace.
    pub(crate) fn is_init(&self) -> bool {
        self.id() == Net::init().id()
    }

    /// Calls `look` with the namespace and returns its result; [`None`] where the namespace has
    /// ended.
    ///
    /// Process context. The end of the namespace waits for `look`, which must therefore be short.
    /// `look` must take no lock under which this function is called, and must not call this
    /// function for the same namespace.
    pub(crate) fn with<R>(&self, look: impl FnOnce(Net<'_>) -> R) -> Option<R> {
        let net = self.0.net.lock();

        // SAFETY: By the type invariants of `NetLink`, it is valid while the lock is held.
        net.map(|net| look(unsafe { Net::from_raw(net.as_ptr()) }))
    }

    /// Marks the namespace as ended. Waits for calls of [`Self::with()`] that are under way.
    /// Process context.
    pub(super) fn clear(&self) {
        *self.0.net.lock() = None;
    }
}

/// The namespace's name in the files and in the log: `init`, or its inode number.
impl Display for NetHandle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.is_init() {
            true => f.write_str("init"),
            false => self.id().inum.fmt(f),
        }
    }
}
