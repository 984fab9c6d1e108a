// SPDX-License-Identifier: GPL-2.0

//! RCU: packets read values that a writer replaces.
//!
//! A writer builds a new [`Shared`] and swaps it into a [`Pointer`]. A packet loads the pointer
//! with one read and takes no reference. The last reference to a [`Shared`] may be dropped in any
//! context: the module's workqueue drops the value after a grace period.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)
//!
//! # Examples
//!
//! ```ignore
//! /// A limit that a writer may replace while packets read it.
//! struct Gate(Pointer<usize>);
//!
//! impl Gate {
//!     /// Creates the gate. Process context; may sleep.
//!     fn new(limit: usize, queue: Handle) -> Result<Self> {
//!         Ok(Self(Pointer::new(Shared::new(limit, queue, GFP_KERNEL)?)))
//!     }
//!
//!     /// Returns whether a packet of `len` bytes passes. Any context.
//!     fn passes(&self, len: usize, state: &HookState<'_>) -> bool {
//!         len <= *self.0.load(state.rcu())
//!     }
//!
//!     /// Replaces the limit. Packets see the old one or the new one.
//!     fn set(&self, limit: usize, queue: Handle) -> Result {
//!         let limit = Shared::new(limit, queue, GFP_KERNEL)?;
//!
//!         // The workqueue drops the old limit when no packet can read it any more.
//!         drop(self.0.swap(limit));
//!         Ok(())
//!     }
//! }
//! ```

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

/// Evidence of an RCU read-side critical section that lasts as long as the reference to this type.
///
/// # Invariants
///
/// While a reference exists, the current thread is in a read-side critical section.
pub(crate) struct ReadSide(NotThreadSafe);

impl ReadSide {
    /// Returns the evidence where C code has entered the section.
    ///
    /// # Safety
    ///
    /// The caller must be in a read-side critical section that does not end within `'a`.
    #[inline(always)]
    pub(super) unsafe fn assert<'a>() -> &'a Self {
        // INVARIANT: By the safety requirements.
        &ReadSide(NotThreadSafe)
    }

    /// Returns the evidence that the kernel crate's guard stands for.
    #[inline]
    pub(super) fn of(_guard: &Guard) -> &Self {
        // SAFETY: The section lasts as long as the guard, and so as long as the reference returned.
        unsafe { Self::assert() }
    }

    /// Warns where the section is not there, on a kernel that tracks its locks
    /// (`CONFIG_PROVE_RCU`).
    ///
    /// Each function that reads under the evidence calls it. Any context. C: `RCU_LOCKDEP_WARN()`.
    #[inline(always)]
    pub(super) fn check(&self) {
        #[cfg(CONFIG_PROVE_RCU)]
        // SAFETY: The call has no requirements.
        unsafe {
            raw::ctskip_check_rcu()
        };
    }
}

/// Memory of a [`Shared`]: the value, and the means to drop it later.
#[pin_data]
struct RcuBox<T> {
    value: T,
    /// Used once, when the last reference is gone.
    #[pin]
    work: Opaque<bindings::rcu_work>,
    /// The last field to be dropped, as the workqueue may end when this handle is gone.
    queue: Handle,
}

// SAFETY: The memory is shared as `&T` and `&Handle`. One thread drops it. Only the thread that
// held the last reference uses `work`.
unsafe impl<T: Send + Sync> Send for RcuBox<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for RcuBox<T> {}

/// A counted reference to a value, which is dropped a grace period after its last reference.
///
/// A reference may be dropped in any context. The value is dropped in process context. See the
/// [module](self) for an example.
///
/// # Invariants
///
/// The [`Arc`] is there until [`Drop`] takes it.
pub(crate) struct Shared<T: Send + Sync + 'static>(ManuallyDrop<Arc<RcuBox<T>>>);

impl<T: Send + Sync + 'static> Shared<T> {
    /// Allocates memory by `flags` and makes `value` there. `queue` is the workqueue that drops it.
    ///
    /// Fails with `ENOMEM`. May sleep where `flags` allow it.
    pub(crate) fn new(value: impl Init<T>, queue: Handle, flags: Flags) -> Result<Self> {
        let rcu_box = Arc::pin_init(
            pin_init!(RcuBox {
                value <- value,
                work: Opaque::uninit(),
                queue,
            }),
            flags,
        )?;

        Ok(Self(ManuallyDrop::new(rcu_box)))
    }

    /// Turns the reference into a pointer, which then owns it.
    fn into_raw(self) -> *mut RcuBox<T> {
        let mut this = ManuallyDrop::new(self);

        // SAFETY: `this` is not used after this, and not dropped.
        Arc::into_raw(unsafe { ManuallyDrop::take(&mut this.0) }).cast_mut()
    }

    /// Turns a pointer back into the reference that it owns.
    ///
    /// # Safety
    ///
    /// `rcu_box` must come from [`Self::into_raw()`], and be passed to this function only once.
    unsafe fn from_raw(rcu_box: *mut RcuBox<T>) -> Self {
        // SAFETY: By the safety requirements.
        Self(ManuallyDrop::new(unsafe { Arc::from_raw(rcu_box) }))
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
        // SAFETY: By the type invariants the [`Arc`] is there. It is not used after this.
        let rcu_box = unsafe { ManuallyDrop::take(&mut self.0) };

        if let Some(rcu_box) = Arc::into_unique_or_drop(rcu_box) {
            let rcu_box = Arc::into_raw(Arc::from(rcu_box)).cast_mut();

            // SAFETY: This was the last reference, and `into_raw()` keeps the memory. Only
            // `reclaim()` will use that, and free it, perhaps before this call has returned.
            unsafe {
                let work = Opaque::cast_into(&raw const (*rcu_box).work);
                Handle::enqueue_rcu(&raw const (*rcu_box).queue, work, reclaim::<T>);
            }
        }
    }
}

/// Drops a value and frees its memory. A grace period has passed since its last reference was
/// dropped.
///
/// # Safety
///
/// Must be used only as the work function of an [`RcuBox`]'s `work`, by [`Shared`]'s [`Drop`].
unsafe extern "C" fn reclaim<T: Send + Sync + 'static>(work: *mut bindings::work_struct) {
    // SAFETY: By the safety requirements `work` is the field of that name of a `struct rcu_work`.
    let work = unsafe { container_of!(work, bindings::rcu_work, work) };
    // SAFETY: That is in turn the field `work` of an [`RcuBox`], as `Opaque` is transparent.
    let rcu_box = unsafe { container_of!(Opaque::cast_from(work), RcuBox<T>, work) };

    // SAFETY: `Arc::into_raw()` returned the pointer, and this is called once for it. Readers that
    // found the value in a `Pointer` have left their sections in the grace period.
    drop(unsafe { Arc::from_raw(rcu_box) });
}

/// A pointer to the current [`Shared`], which packets load. See the [module](self) for an example.
///
/// # Invariants
///
/// The pointer comes from [`Shared::into_raw()`] and owns that reference.
pub(crate) struct Pointer<T: Send + Sync + 'static>(Atomic<*mut RcuBox<T>>);

// SAFETY: It owns a `Shared<T>`, which may be sent.
unsafe impl<T: Send + Sync + 'static> Send for Pointer<T> {}
// SAFETY: Threads share `&T` through it. They replace the `Shared<T>` by an atomic exchange.
unsafe impl<T: Send + Sync + 'static> Sync for Pointer<T> {}

impl<T: Send + Sync + 'static> Pointer<T> {
    /// Creates the pointer, with `value` as its current value.
    pub(crate) fn new(value: Shared<T>) -> Self {
        // INVARIANT: By construction.
        Self(Atomic::new(value.into_raw()))
    }

    /// Returns the current value. It takes one load. C: `rcu_dereference()`.
    ///
    /// Any context. Another thread may replace the value at the same time: the reference stays
    /// valid until the read-side critical section ends.
    #[inline(always)]
    pub(crate) fn load<'r>(&'r self, rcu: &'r ReadSide) -> &'r T {
        rcu.check();

        // SAFETY: The atomic's storage is valid. A volatile read is what READ_ONCE() is in C. The
        // address dependency orders it before the reads of the value.
        let rcu_box = unsafe { self.0.as_ptr().read_volatile() };

        // SAFETY: By the type invariants the pointer owned a reference when it was read. `swap()`
        // may have given that reference away since. But the value is dropped no sooner than a grace
        // period later, and `rcu` proves that none ends within `'r`.
        unsafe { &(*rcu_box).value }
    }

    /// Publishes `value` and returns the one that it replaces. C: `rcu_replace_pointer()`.
    ///
    /// Any context. Packets see the old value or the new one.
    pub(crate) fn swap(&self, value: Shared<T>) -> Shared<T> {
        let old = self.0.xchg(value.into_raw(), ordering::Full);

        // SAFETY: By the type invariants. The exchange took the pointer out, so that no other
        // thread gets it.
        unsafe { Shared::from_raw(old) }
    }
}

impl<T: Send + Sync + 'static> Drop for Pointer<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. No other thread uses the pointer after this.
        drop(unsafe { Shared::from_raw(self.0.load(ordering::Relaxed)) });
    }
}
