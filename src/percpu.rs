// SPDX-License-Identifier: GPL-2.0

//! Counters that packets add to without sharing a cache line between CPUs.
//!
//! [`Counters`] is a fixed set, as a namespace has it. A [`Slot`] is what one rule counts; [`Slots`]
//! hands them out of larger allocations, as there may be very many.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)

use core::{
    mem::{
        align_of,
        size_of, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};

use kernel::{
    bindings,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            ordering,
            Atomic, //
        },
        Arc,
        Mutex, //
    }, //
};

use crate::bindings as raw;

/// A zeroed allocation of `u64`s for every possible CPU.
///
/// # Invariants
///
/// Is a per-CPU pointer from `ctskip_alloc_percpu()` that this owns. It is an offset in disguise:
/// never dereferenced here.
struct PerCpu(NonNull<c_void>);

// SAFETY: The memory is used by `this_cpu_*()` and by reads that may be old.
unsafe impl Send for PerCpu {}
// SAFETY: As above.
unsafe impl Sync for PerCpu {}

impl PerCpu {
    /// Allocates `n` counters for each CPU. Process context; fails with `ENOMEM`.
    ///
    /// C: `__alloc_percpu_gfp()`, which gives 32 KiB at most.
    fn new(n: usize, align: usize) -> Result<Self> {
        let size = n.checked_mul(size_of::<u64>()).ok_or(ENOMEM)?;

        // SAFETY: Takes any size, and any power of two up to a page to align to.
        let counters = unsafe { raw::ctskip_alloc_percpu(size, align) };

        // INVARIANT: It is ours now.
        NonNull::new(counters).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for PerCpu {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::free_percpu(self.0.as_ptr()) };
    }
}

/// `N` counters.
pub(crate) struct Counters<const N: usize>(PerCpu);

impl<const N: usize> Counters<N> {
    /// Makes them, all zero. Process context; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        PerCpu::new(N, align_of::<u64>()).map(Self)
    }

    /// Gives the per-CPU pointer to a counter; null where there is no such one.
    #[inline(always)]
    fn counter(&self, index: usize) -> *mut c_void {
        if index < N {
            self.0
                 .0
                .as_ptr()
                .wrapping_byte_add(index * size_of::<u64>())
        } else {
            ptr::null_mut()
        }
    }

    /// Adds one to counter `first`, and to `second` where given. Any context.
    ///
    /// An index of no counter is passed over, here and in the other functions.
    #[inline(always)]
    pub(crate) fn count(&self, first: usize, second: Option<usize>) {
        let second = second.map_or(ptr::null_mut(), |index| self.counter(index));

        // SAFETY: The pointers are null or point at a counter of this.
        unsafe { raw::ctskip_account(self.counter(first), second, ptr::null_mut(), 0) };
    }

    /// Adds a counter up over the CPUs. Any context. Packets may be counted meanwhile.
    pub(crate) fn sum(&self, index: usize) -> u64 {
        let counter = self.counter(index);

        if counter.is_null() {
            return 0;
        }
        // SAFETY: It points at a counter of this.
        unsafe { raw::ctskip_percpu_sum(counter) }
    }
}

/// What lies in a slot, in `u64`s: packets, bytes, held, and one to fill a power of two, so that no
/// slot lies across cache lines.
const SLOT_WORDS: usize = 4;
/// Where the packets are.
const PACKETS: usize = 0;
/// Where the bytes are, behind the packets.
const BYTES: usize = 1;
/// Where the held packets are.
const HELD: usize = 2;

/// The size of a slot in bytes.
const SLOT_SIZE: usize = SLOT_WORDS * size_of::<u64>();

/// How many slots are allocated at once: 16 KiB, half of what one per-CPU allocation may be.
const CHUNK: usize = 512;

/// The slots of all rules.
///
/// Memory is kept for later slots until this is dropped.
///
/// # Invariants
///
/// There is one of these at most while the module is loaded, so that every [`SlotRef`] points into
/// its chunks. The chunks live as long as this.
#[pin_data]
pub(crate) struct Slots {
    #[pin]
    inner: Mutex<Inner>,
}

/// The part of [`Slots`] that changes.
///
/// # Invariants
///
/// `free` points at slots of `chunks` that have no [`Slot`], and has room for all there are.
struct Inner {
    chunks: KVVec<PerCpu>,
    free: KVVec<SlotRef>,
}

/// Whether there is, or was, a [`Slots`].
static MADE: Atomic<bool> = Atomic::new(false);

impl Slots {
    /// Makes the only one there may be; `EBUSY` where it was made before.
    pub(crate) fn new() -> Result<Arc<Self>> {
        if MADE.xchg(true, ordering::Relaxed) {
            return Err(EBUSY);
        }
        // INVARIANT: `MADE` never turns back.
        let slots = pin_init!(Self {
            inner <- new_mutex!(Inner {
                chunks: KVVec::new(),
                free: KVVec::new(),
            }),
        });

        Arc::pin_init(slots, GFP_KERNEL)
    }

    /// Takes a slot, all zero. Process context; fails with `ENOMEM`.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Slot> {
        let at = {
            let mut inner = self.inner.lock();

            if inner.free.is_empty() {
                inner.grow()?;
            }
            inner.free.pop().ok_or(ENOMEM)?
        };

        // SAFETY: By the invariants of `Inner`, it points at a slot, which is nobody's.
        unsafe { raw::ctskip_percpu_zero(at.0.as_ptr(), SLOT_WORDS as c_uint) };

        // INVARIANT: It was taken out of the free ones.
        Ok(Slot {
            at,
            slots: self.clone(),
        })
    }

    /// Counts a packet: one in counter `first`, in `second` where given, and in a rule's slot.
    ///
    /// Any context, may be preempted.
    #[inline(always)]
    pub(crate) fn count<const N: usize>(
        &self,
        counters: &Counters<N>,
        first: usize,
        second: Option<usize>,
        slot: SlotRef,
        count: Count,
    ) {
        let second = second.map_or(ptr::null_mut(), |index| counters.counter(index));
        let (word, bytes) = match count {
            Count::Packet(bytes) => (PACKETS, bytes),
            Count::Held => (HELD, 0),
        };

        // SAFETY: The first two are null or point at a counter. By the invariants of `Slots`, the
        // slot lies in a chunk of this. With bytes given, it is packets and bytes that are pointed
        // at, else one counter.
        unsafe {
            raw::ctskip_account(
                counters.counter(first),
                second,
                slot.word(word),
                u64::from(bytes),
            )
        };
    }
}

impl Inner {
    /// Adds a chunk.
    fn grow(&mut self) -> Result {
        let slots = self.chunks.len().saturating_add(1).saturating_mul(CHUNK);

        self.chunks.reserve(1, GFP_KERNEL)?;
        self.free
            .reserve(slots.saturating_sub(self.free.len()), GFP_KERNEL)?;

        let chunk = PerCpu::new(CHUNK * SLOT_WORDS, SLOT_SIZE)?;

        for slot in 0..CHUNK {
            // Lies within the chunk, so that it is not null either.
            if let Some(at) = NonNull::new(chunk.0.as_ptr().wrapping_byte_add(slot * SLOT_SIZE)) {
                self.free.push(SlotRef(at), GFP_KERNEL)?;
            }
        }
        self.chunks.push(chunk, GFP_KERNEL)?;
        Ok(())
    }
}

/// What to count in a slot.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// A packet of that many bytes.
    Packet(u32),
    /// A packet that was held.
    Held,
}

/// Where a slot is, in eight bytes, for the table that packets are matched against.
///
/// To be kept no longer than the [`Slot`] it is from: used after that, it counts for whom the slot
/// was given to.
///
/// # Invariants
///
/// Points at a slot in a chunk of the only [`Slots`] there is. To use it takes a reference to that,
/// which proves that the chunk is there.
#[derive(Clone, Copy)]
pub(crate) struct SlotRef(NonNull<c_void>);

// SAFETY: It is an offset in disguise.
unsafe impl Send for SlotRef {}
// SAFETY: As above.
unsafe impl Sync for SlotRef {}

impl SlotRef {
    /// Gives the per-CPU pointer to one of the slot's counters.
    #[inline(always)]
    fn word(self, word: usize) -> *mut c_void {
        self.0.as_ptr().wrapping_byte_add(word * size_of::<u64>())
    }
}

/// What a rule has counted.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Packets that the rule decided.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Packets that it would have skipped in a namespace without NAT.
    pub(crate) held: u64,
}

/// A slot, given back when dropped (process context).
///
/// # Invariants
///
/// `at` is a slot of `slots` that is nobody else's.
pub(crate) struct Slot {
    at: SlotRef,
    slots: Arc<Slots>,
}

impl Slot {
    /// Gives where it is.
    pub(crate) fn at(&self) -> SlotRef {
        self.at
    }

    /// Adds up what was counted. Any context. Packets may be counted meanwhile.
    pub(crate) fn totals(&self) -> Totals {
        // SAFETY: By the type invariants, it points at a counter of a slot that is there.
        let sum = |word| unsafe { raw::ctskip_percpu_sum(self.at.word(word)) };

        Totals {
            packets: sum(PACKETS),
            bytes: sum(BYTES),
            held: sum(HELD),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // There is room, by the invariants of `Inner`.
        let _ = self.slots.inner.lock().free.push_within_capacity(self.at);
    }
}
