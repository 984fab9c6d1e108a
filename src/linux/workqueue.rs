// SPDX-License-Identifier: GPL-2.0

//! The module's own workqueue: what must not be done where it is found to be needed.
//!
//! Two kinds of work go there: memory that waits for a grace period (see [`crate::linux::rcu`]), and jobs
//! that are queued where one may not wait, such as a namespace's exit. Both are embedded in what
//! they are about, so that queueing never allocates. It is ordered: one item runs at a time.
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
/// Dropping it waits until every [`Handle`] is gone, and with them all that could queue more, then
/// for the last item to end: after that nothing of it runs in the module's text. So it must be
/// dropped after everything that holds a handle, and never from one of its own items.
///
/// # Invariants
///
/// `wq` is a workqueue that this owns; only [`Drop`] destroys it. `handle` is [`Some`] until then.
pub(crate) struct Workqueue {
    wq: NonNull<bindings::workqueue_struct>,
    handle: Option<Handle>,
    unused: Arc<Completion>,
}

// SAFETY: A workqueue may be used and destroyed from any thread.
unsafe impl Send for Workqueue {}
// SAFETY: `&Workqueue` gives out handles only, which are `Sync` themselves.
unsafe impl Sync for Workqueue {}

impl Workqueue {
    /// Makes a workqueue called `name`.
    ///
    /// Process context; fails with `ENOMEM`. C: `alloc_ordered_workqueue()`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let unused = Arc::pin_init(Completion::new(), GFP_KERNEL)?;

        // SAFETY: `name` is a string that the call copies.
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
            // SAFETY: `wq` was made above, and nobody else has seen it.
            unsafe { bindings::destroy_workqueue(wq.as_ptr()) }
        })?;

        // INVARIANT: `wq` is ours, and the handle is there.
        Ok(Self {
            wq,
            handle: Some(handle),
            unused,
        })
    }

    /// Gives a handle, for those who queue; fails with `ENODEV` only while this is being dropped.
    pub(crate) fn handle(&self) -> Result<Handle> {
        self.handle.clone().ok_or(ENODEV)
    }
}

impl Drop for Workqueue {
    fn drop(&mut self) {
        self.handle = None;
        self.unused.wait_for_completion();
        // SAFETY: By the type invariants the queue is ours. The last handle is gone, so that
        // nobody queues any more; what is queued or running is waited for by this call.
        unsafe { bindings::destroy_workqueue(self.wq.as_ptr()) };
    }
}

/// A reference on a [`Workqueue`], for queueing.
///
/// The workqueue outlives all of its handles.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Token>);

/// What holds a [`Handle`]; made by [`impl_has_handle!`].
///
/// # Safety
///
/// [`Self::handle()`] must give a handle that is kept, and the same, for as long as `self` is there.
pub(crate) unsafe trait HasHandle {
    /// Gives the handle.
    fn handle(&self) -> &Handle;
}

/// Implements [`HasHandle`] by a field that is not written to.
macro_rules! impl_has_handle {
    ($type:ty, $field:ident) => {
        // SAFETY: What is borrowed is a part of `self`.
        unsafe impl $crate::linux::workqueue::HasHandle for $type {
            fn handle(&self) -> &$crate::linux::workqueue::Handle {
                &self.$field
            }
        }
    };
}
pub(crate) use impl_has_handle;

/// Queues a work item with a delay, on the workqueue whose handle it holds; gives it back where it is
/// queued already.
///
/// Any context, allocates nothing. The workqueue's end waits for it.
pub(crate) fn enqueue_delayed<T, const ID: u64>(
    work: Arc<T>,
    delay: Jiffies,
) -> <Arc<T> as RawWorkItem<ID>>::EnqueueOutput
where
    T: HasHandle,
    Arc<T>: RawDelayedWorkItem<ID> + Send + 'static,
{
    let wq = work.handle().0.wq.as_ptr();

    // SAFETY: By the invariants of `Token`, the queue is valid as long as the handle is. That is part
    // of what the timer owns: the queue is there when it puts the item in.
    unsafe { Queue::from_raw(wq) }.enqueue_delayed(work, delay)
}

/// What the handles of a workqueue share.
///
/// # Invariants
///
/// `wq` is valid as long as this lives: [`Workqueue`] destroys it after `unused` is completed, which
/// is done by this type's [`Drop`] only.
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
    /// Queues a work item of the kernel crate; gives it back where it is queued already.
    ///
    /// Any context, allocates nothing. Where the item holds a handle itself, as it does through an
    /// [`Arc`] of its owner, it is sure to have run when the workqueue is gone.
    pub(crate) fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the invariants of `Token`, the queue is valid as long as `self` is.
        unsafe { Queue::from_raw(self.0.wq.as_ptr()) }.enqueue(work)
    }

    /// Has `func` called with `&work->work` from the workqueue after a grace period.
    ///
    /// Any context, allocates nothing. C: `INIT_RCU_WORK()`, `queue_rcu_work()`.
    ///
    /// # Safety
    ///
    /// - `this` must be valid when this is called; `func` may drop it before this returns.
    /// - `work` must be valid, used by nothing else, and stay so until `func` is called, from any
    ///   thread. Where `func` drops the last handle, the workqueue's end waits for it to return.
    pub(crate) unsafe fn enqueue_rcu(
        this: *const Self,
        work: *mut bindings::rcu_work,
        func: unsafe extern "C" fn(*mut bindings::work_struct),
    ) {
        // SAFETY: By the safety requirements. No reference outlives this line, as `func` may run
        // as soon as the work is queued.
        let wq = unsafe { &*this }.0.wq.as_ptr();

        // SAFETY: By the invariants of `Token` and the safety requirements, both pointers are
        // valid, and `work` is not queued anywhere.
        unsafe { raw::ctskip_queue_rcu_work(wq, work, Some(func)) };
    }
}
