// SPDX-License-Identifier: GPL-2.0

//! Values that packets read under RCU and writers replace.
//!
//! A writer builds a [`Shared`] aside and swaps it into a [`Pointer`]; a packet loads the pointer
//! with one read and takes no reference. The last reference on a [`Shared`] may be dropped at any
//! time: the value itself is dropped after a grace period, by the module's workqueue.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use core::{
    mem::ManuallyDrop,
    ops::Deref, //
};

use kernel::{
    alloc::Flags,
    bindings, container_of,
    prelude::*,
    sync::{
        atomic::{
            ordering,
            Atomic, //
        },
        rcu::Guard,
        Arc, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

use crate::linux::workqueue::Handle;

#[cfg(CONFIG_PROVE_RCU)]
use crate::linux::bindings as raw;

/// Evidence that an RCU read-side critical section lasts as long as the reference to it.
///
/// # Invariants
///
/// While a reference to this exists, the current thread is in such a section.
pub(crate) struct ReadSide(NotThreadSafe);

impl ReadSide {
    /// Makes the evidence where C code has entered the section.
    ///
    /// # Safety
    ///
    /// The caller must be in a read-side critical section that does not end within `'a`.
    #[inline(always)]
    pub(crate) unsafe fn assert<'a>() -> &'a Self {
        // INVARIANT: By the safety requirements.
        &ReadSide(NotThreadSafe)
    }

    /// Makes the evidence out of the kernel crate's.
    #[inline]
    pub(crate) fn of(_guard: &Guard) -> &Self {
        // SAFETY: The section lasts as long as the guard, and so as the reference given.
        unsafe { Self::assert() }
    }

    /// Has a kernel that keeps book of its locks (`CONFIG_PROVE_RCU`) warn where this is no evidence.
    /// To be called where something is read under it. C: `RCU_LOCKDEP_WARN()`.
    #[inline(always)]
    pub(crate) fn check(&self) {
        #[cfg(CONFIG_PROVE_RCU)]
        // SAFETY: Takes no arguments. Any context.
        unsafe {
            raw::ctskip_check_rcu()
        };
    }
}

/// A value, its references, and what is needed to drop it later.
#[pin_data]
struct RcuBox<T> {
    value: T,
    /// Used when the last reference is gone, not before.
    #[pin]
    work: Opaque<bindings::rcu_work>,
    /// Dropped last: the workqueue may end as soon as it is.
    queue: Handle,
}

// SAFETY: A node is shared as `&T` (and the handle) and dropped by one thread; `work` is touched by
// the one that holds the last reference.
unsafe impl<T: Send + Sync> Send for RcuBox<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for RcuBox<T> {}

/// A counted reference on a value that is dropped a grace period after its last reference.
///
/// References may be dropped in any context; the value is dropped in process context.
///
/// # Invariants
///
/// The [`Arc`] within is there until [`Drop`] takes it.
pub(crate) struct Shared<T: Send + Sync + 'static>(ManuallyDrop<Arc<RcuBox<T>>>);

impl<T: Send + Sync + 'static> Shared<T> {
    /// Puts `value` into memory of its own; `queue` is where it will be dropped.
    pub(crate) fn new(value: T, queue: Handle, flags: Flags) -> Result<Self> {
        let node = Arc::pin_init(
            pin_init!(RcuBox {
                value,
                work: Opaque::uninit(),
                queue,
            }),
            flags,
        )?;

        Ok(Self(ManuallyDrop::new(node)))
    }

    /// Gives the reference away as a pointer.
    fn into_raw(self) -> *mut RcuBox<T> {
        let mut this = ManuallyDrop::new(self);

        // SAFETY: `this` is not used again, nor is it dropped.
        Arc::into_raw(unsafe { ManuallyDrop::take(&mut this.0) }).cast_mut()
    }

    /// Takes a reference back.
    ///
    /// # Safety
    ///
    /// `node` must come from [`Self::into_raw()`], and be used for this only once.
    unsafe fn from_raw(node: *mut RcuBox<T>) -> Self {
        // SAFETY: By the safety requirements.
        Self(ManuallyDrop::new(unsafe { Arc::from_raw(node) }))
    }
}

impl<T: Send + Sync + 'static> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + Sync + 'static> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Send + Sync + 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is there, and it is not used again.
        let node = unsafe { ManuallyDrop::take(&mut self.0) };

        if let Some(node) = Arc::into_unique_or_drop(node) {
            let node = Arc::into_raw(Arc::from(node)).cast_mut();

            // SAFETY: It was the last reference, and `into_raw()` keeps the memory: nobody but
            // `reclaim()` will touch the node, and that takes the memory back, perhaps before the
            // call has returned.
            unsafe {
                let work = Opaque::cast_into(&raw const (*node).work);
                Handle::enqueue_rcu(&raw const (*node).queue, work, reclaim::<T>);
            }
        }
    }
}

/// Drops a node whose last reference was dropped before a grace period began.
///
/// # Safety
///
/// To be used as the work function of a node's `work` only, by [`Shared`]'s [`Drop`].
unsafe extern "C" fn reclaim<T: Send + Sync + 'static>(work: *mut bindings::work_struct) {
    // SAFETY: By the safety requirements `work` is the `work` field of an `rcu_work`.
    let work = unsafe { container_of!(work, bindings::rcu_work, work) };
    // SAFETY: And that is the `work` field of a node; `Opaque` is transparent.
    let node = unsafe { container_of!(Opaque::cast_from(work), RcuBox<T>, work) };

    // SAFETY: The pointer was made by `Arc::into_raw()`, and this is called once for it. Readers
    // that found the value in a `Pointer` have ended in the grace period.
    drop(unsafe { Arc::from_raw(node) });
}

/// A place in which packets find the present [`Shared`].
///
/// # Invariants
///
/// The pointer comes from [`Shared::into_raw()`] and owns that reference.
pub(crate) struct Pointer<T: Send + Sync + 'static>(Atomic<*mut RcuBox<T>>);

// SAFETY: It owns a `Shared<T>`, which may be sent.
unsafe impl<T: Send + Sync + 'static> Send for Pointer<T> {}
// SAFETY: It gives out `&T`, and takes and gives `Shared<T>`, by an atomic exchange.
unsafe impl<T: Send + Sync + 'static> Sync for Pointer<T> {}

impl<T: Send + Sync + 'static> Pointer<T> {
    /// Makes a place that holds `value`.
    pub(crate) fn new(value: Shared<T>) -> Self {
        // INVARIANT: By construction.
        Self(Atomic::new(value.into_raw()))
    }

    /// Reads the present value: one load. C: `rcu_dereference()`.
    ///
    /// Any context. The value may be replaced meanwhile; the reference stays good for as long as
    /// the read-side section.
    #[inline(always)]
    pub(crate) fn load<'r>(&'r self, rcu: &'r ReadSide) -> &'r T {
        rcu.check();

        // SAFETY: The pointer to the atomic's storage is valid. A volatile read is what READ_ONCE()
        // is in C; the address dependency orders it before the reads of the value.
        let node = unsafe { self.0.as_ptr().read_volatile() };

        // SAFETY: By the type invariants a reference was held when it was read. `swap()` may have
        // given that away since; but the value is dropped no sooner than a grace period later, and
        // `rcu` proves that none ends within `'r`.
        unsafe { &(*node).value }
    }

    /// Publishes `value` and gives back what it replaces. C: `rcu_replace_pointer()`.
    ///
    /// Any context. Packets see the old one or the new one.
    pub(crate) fn swap(&self, value: Shared<T>) -> Shared<T> {
        let old = self.0.xchg(value.into_raw(), ordering::Full);

        // SAFETY: By the type invariants; the exchange took it out, so that nobody else will.
        unsafe { Shared::from_raw(old) }
    }
}

impl<T: Send + Sync + 'static> Drop for Pointer<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; nobody uses the place after this.
        drop(unsafe { Shared::from_raw(self.0.load(ordering::Relaxed)) });
    }
}
