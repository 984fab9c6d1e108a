// SPDX-License-Identifier: GPL-2.0

//! The module's own workqueue, for work that its caller must not do itself.
//!
//! There are two kinds of work: to free memory after a grace period (see [`crate::linux::rcu`]),
//! and jobs whose caller must not wait, such as the end of a namespace. A work item is a field of
//! the data that it is about, so that queueing allocates nothing. The workqueue is ordered: one
//! item runs at a time.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    prelude::*,
    sync::{
        Arc,
        Completion, //
    },
    time::Jiffies,
    workqueue::{
        Queue,
        RawDelayedWorkItem,
        RawWorkItem, //
    },
};

use crate::linux::bindings as raw;

/// An ordered workqueue, drained and destroyed when dropped.
///
/// The drop waits until every [`Handle`] is gone, so that no item can be queued any more. Then it
/// waits for the last item to end. After that, no item runs in the module's text. So a workqueue
/// must be dropped after each owner of a handle, and not by one of its own items.
///
/// # Invariants
///
/// `wq` is a workqueue that this type owns. Only [`Drop`] destroys it. `handle` is [`Some`] until
/// then.
pub(crate) struct Workqueue {
    wq: NonNull<bindings::workqueue_struct>,
    handle: Option<Handle>,
    unused: Arc<Completion>,
}

// SAFETY: A workqueue may be used and destroyed from any thread.
unsafe impl Send for Workqueue {}
// SAFETY: `&Workqueue` is good only for handles, which are `Sync` themselves.
unsafe impl Sync for Workqueue {}

impl Workqueue {
    /// Creates a workqueue of that name.
    ///
    /// Process context; may sleep. Fails with `ENOMEM`. C: `alloc_ordered_workqueue()`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let unused = Arc::pin_init(Completion::new(), GFP_KERNEL)?;

        // SAFETY: `name` is a string, which the function copies.
        let wq = unsafe { raw::ctskip_alloc_ordered_workqueue(name.as_char_ptr()) };
        let wq = NonNull::new(wq).ok_or(ENOMEM)?;

        let handle = Arc::new(
            Token {
                wq,
                unused: unused.clone(),
            },
            GFP_KERNEL,
        )
        .map(Handle)
        .inspect_err(|_| {
            // SAFETY: `wq` was created above, and no other code knows it.
            unsafe { bindings::destroy_workqueue(wq.as_ptr()) }
        })?;

        // INVARIANT: `wq` is ours, and the handle is there.
        Ok(Self {
            wq,
            handle: Some(handle),
            unused,
        })
    }

    /// Returns a handle. Fails with `ENODEV`, but only while the workqueue is being dropped.
    pub(crate) fn handle(&self) -> Result<Handle> {
        self.handle.clone().ok_or(ENODEV)
    }
}

impl Drop for Workqueue {
    fn drop(&mut self) {
        self.handle = None;
        self.unused.wait_for_completion();
        // SAFETY: By the type invariants the workqueue is ours. The last handle is gone, so that no
        // item can be queued. The call waits for items that are queued or running.
        unsafe { bindings::destroy_workqueue(self.wq.as_ptr()) };
    }
}

/// A reference to a [`Workqueue`], to queue items on.
///
/// The workqueue outlives all of its handles.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Token>);

/// A type that owns a [`Handle`]. [`impl_has_handle!`] implements it.
///
/// # Safety
///
/// [`Self::handle()`] must return the same handle on each call, and `self` must keep that handle
/// while it is there.
pub(crate) unsafe trait HasHandle {
    /// Returns the handle.
    fn handle(&self) -> &Handle;
}

/// Implements [`HasHandle`] by a field that the type does not write to.
macro_rules! impl_has_handle {
    ($type:ty, $field:ident) => {
        // SAFETY: The handle is a field of `self`, which does not change.
        unsafe impl $crate::linux::workqueue::HasHandle for $type {
            fn handle(&self) -> &$crate::linux::workqueue::Handle {
                &self.$field
            }
        }
    };
}
pub(crate) use impl_has_handle;

/// Queues a work item on the workqueue of its handle, `delay` jiffies later. Returns it where it is
/// queued already.
///
/// Any context; allocates nothing. The end of the workqueue waits for the item.
pub(crate) fn enqueue_delayed<T, const ID: u64>(
    work: Arc<T>,
    delay: Jiffies,
) -> <Arc<T> as RawWorkItem<ID>>::EnqueueOutput
where
    T: HasHandle,
    Arc<T>: RawDelayedWorkItem<ID> + Send + 'static,
{
    let wq = work.handle().0.wq.as_ptr();

    // SAFETY: By the invariants of `Token`, the workqueue is valid while the handle is there. The
    // timer owns `work`, and so the handle: the workqueue is there when the timer queues the item.
    unsafe { Queue::from_raw(wq) }.enqueue_delayed(work, delay)
}

/// State that all handles of a workqueue share.
///
/// # Invariants
///
/// `wq` is valid while this is there: [`Workqueue`] destroys it after `unused` is completed, which
/// only [`Drop`] of this type does.
struct Token {
    wq: NonNull<bindings::workqueue_struct>,
    unused: Arc<Completion>,
}

// SAFETY: A workqueue may be used from any thread.
unsafe impl Send for Token {}
// SAFETY: As above.
unsafe impl Sync for Token {}

impl Drop for Token {
    fn drop(&mut self) {
        self.unused.complete_all();
    }
}

impl Handle {
    /// Queues a work item of the kernel crate. Returns it where it is queued already.
    ///
    /// Any context; allocates nothing. Where the item owns a handle, through the [`Arc`] that it is
    /// part of, the end of the workqueue waits for it.
    pub(crate) fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the invariants of `Token`, the workqueue is valid while `self` is there.
        unsafe { Queue::from_raw(self.0.wq.as_ptr()) }.enqueue(work)
    }

    /// Queues `work` after a grace period: the workqueue then calls `func` with `&work->work`.
    ///
    /// Any context; allocates nothing. C: `INIT_RCU_WORK()`, `queue_rcu_work()`.
    ///
    /// # Safety
    ///
    /// - `this` must be valid when the call starts. `func` may drop it before the call has
    ///   returned.
    /// - `work` must be valid, and not be used by other code, until `func` is called, on any
    ///   thread. Where `func` drops the last handle, the end of the workqueue waits for `func` to
    ///   return.
    pub(super) unsafe fn enqueue_rcu(
        this: *const Self,
        work: *mut bindings::rcu_work,
        func: unsafe extern "C" fn(*mut bindings::work_struct),
    ) {
        // SAFETY: By the safety requirements. The reference ends with this statement, as `func` may
        // run as soon as the work is queued.
        let wq = unsafe { &*this }.0.wq.as_ptr();

        // SAFETY: By the invariants of `Token` and the safety requirements, both pointers are
        // valid. `work` is not queued anywhere.
        unsafe { raw::ctskip_queue_rcu_work(wq, work, Some(func)) };
    }
}
