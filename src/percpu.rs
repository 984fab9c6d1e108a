// SPDX-License-Identifier: GPL-2.0

//! Counters that packets add to without sharing a cache line between CPUs.
//!
//! [`Counters`] is a fixed set, as a namespace has it. A [`Slot`] is what one rule counts; [`Slots`]
//! hands them out of larger allocations, as there may be very many.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)

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
    bindings,
    prelude::*,
    sync::{
        atomic::{
            ordering,
            Atomic, //
        },
        global_lock, //
    }, //
};

use crate::{
    bindings as raw,
    netfilter::Accept, //
};

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
    fn new(n: usize) -> Result<Self> {
        let size = n.checked_mul(size_of::<u64>()).ok_or(ENOMEM)?;

        // SAFETY: Takes any size, and any power of two up to a page to align to.
        let counters = unsafe { raw::ctskip_alloc_percpu(size, align_of::<u64>()) };

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
        PerCpu::new(N).map(Self)
    }

    /// Gives the counter of that number; the last one for any beyond.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> CounterRef<'_> {
        const { assert!(N > 0) };
        let index = index.min(N - 1);

        // INVARIANT: There are `N` of them.
        CounterRef(
            self.0
                 .0
                .as_ptr()
                .wrapping_byte_add(index * size_of::<u64>()),
            PhantomData,
        )
    }
}

/// A counter.
///
/// # Invariants
///
/// Is a per-CPU pointer to a `u64` that is there for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct CounterRef<'a>(*mut c_void, PhantomData<&'a PerCpu>);

impl CounterRef<'_> {
    /// Gives the per-CPU pointer.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0
    }

    /// Adds one. Any context, may be preempted.
    #[inline(always)]
    pub(crate) fn count(self) -> Accept {
        // SAFETY: By the type invariants. NF_ACCEPT is what it returns.
        unsafe { Accept::from_raw(raw::ctskip_count(self.as_ptr())) }
    }

    /// Adds it up over the CPUs. Any context. Packets may be counted meanwhile.
    pub(crate) fn sum(self) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { raw::ctskip_percpu_sum(self.as_ptr()) }
    }
}

/// The size of a slot for each CPU. Slots lie side by side, so that some lie across cache lines:
/// that costs less than the memory that would keep them from it.
const SLOT_SIZE: usize = size_of::<raw::ctskip_slot>();

/// How many slots are allocated at once: what goes into a page, which is what the first rule takes
/// on each CPU.
const CHUNK: usize = 4096 / SLOT_SIZE;

/// The slots of all rules. There is one of these at most while the module is loaded.
///
/// # Invariants
///
/// [`CHUNKS`] is initialised.
pub(crate) struct Slots(());

global_lock! {
    // SAFETY: `Slots::new()` initialises it, and nobody uses it but by a `Slots` or a `Slot`, which
    // comes from one.
    unsafe(uninit) static CHUNKS: Mutex<Chunks> = Chunks {
        chunks: KVVec::new(),
        full: 0,
    };
}

/// Whether there is, or was, a [`Slots`].
static MADE: Atomic<bool> = Atomic::new(false);

impl Slots {
    /// Makes the only one there may be; `EBUSY` where it was made before.
    pub(crate) fn new() -> Result<Self> {
        if MADE.xchg(true, ordering::Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: `MADE` never turns back, so that this is called once.
        unsafe { CHUNKS.init() };

        // INVARIANT: It was initialised just now.
        Ok(Self(()))
    }

    /// Takes a slot, all zero. Process context; fails with `ENOMEM`.
    pub(crate) fn take(&self) -> Result<Slot> {
        let slot = CHUNKS.lock().take()?;

        // SAFETY: By its type invariants.
        unsafe { raw::ctskip_slot_zero(slot.as_ptr()) };
        Ok(slot)
    }
}

/// The memory of all slots.
struct Chunks {
    /// Ascending by address. Each has a slot that is taken.
    chunks: KVVec<Chunk>,
    /// So many of the first ones are full, or more.
    full: usize,
}

impl Chunks {
    /// Takes a slot.
    fn take(&mut self) -> Result<Slot> {
        for chunk in self.chunks.iter_mut().skip(self.full) {
            if let Some(slot) = chunk.take() {
                return Ok(slot);
            }
            self.full = self.full.saturating_add(1);
        }
        self.chunks.reserve(1, GFP_KERNEL)?;

        let mut chunk = Chunk::new()?;
        let at = self.behind(chunk.start());
        let slot = chunk.take().ok_or(ENOMEM)?;

        // There is room, and `at` is within: this cannot fail.
        let _ = self.chunks.insert_within_capacity(at, chunk);
        self.full = self.full.min(at);
        Ok(slot)
    }

    /// Takes `slot` back, and frees its chunk where it was the last one in it.
    fn put(&mut self, slot: &Slot) {
        let at = self.behind(slot.address()).wrapping_sub(1);
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };

        chunk.put(slot);
        self.full = self.full.min(at);
        if chunk.is_empty() {
            // Cannot fail: it was just found.
            let _ = self.chunks.remove(at);
        }
        if self.chunks.is_empty() {
            // Gives its memory back: nothing drops a static, when the module goes.
            self.chunks = KVVec::new();
        }
    }

    /// Gives how many chunks start at `address` or before.
    fn behind(&self, address: usize) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.start() <= address)
    }
}

/// The words of a bitmap of slots.
const WORDS: usize = CHUNK.div_ceil(u64::BITS as usize);

/// Slots that are allocated together.
///
/// # Invariants
///
/// `memory` has [`CHUNK`] slots, and there is a [`Slot`] for each whose bit is set in `taken`.
struct Chunk {
    memory: PerCpu,
    taken: [u64; WORDS],
}

impl Chunk {
    fn new() -> Result<Self> {
        // INVARIANT: No bit is set.
        Ok(Self {
            memory: PerCpu::new(CHUNK * (SLOT_SIZE / size_of::<u64>()))?,
            taken: [0; WORDS],
        })
    }

    /// Gives the address that a [`Slot`] here has at least.
    fn start(&self) -> usize {
        self.memory.0.addr().get()
    }

    fn is_empty(&self) -> bool {
        self.taken.iter().all(|word| *word == 0)
    }

    fn take(&mut self) -> Option<Slot> {
        for (i, word) in self.taken.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            let index = i * u64::BITS as usize + bit as usize;

            if bit == u64::BITS {
                continue;
            }
            if index >= CHUNK {
                break;
            }
            let at = NonNull::new(self.memory.0.as_ptr().wrapping_byte_add(index * SLOT_SIZE))?;

            *word |= 1 << bit;
            // INVARIANT: It was not taken, and is now.
            return Some(Slot(at));
        }
        None
    }

    fn put(&mut self, slot: &Slot) {
        let index = slot.address().wrapping_sub(self.start()) / SLOT_SIZE;
        let bit = index % u64::BITS as usize;

        if let Some(word) = self.taken.get_mut(index / u64::BITS as usize) {
            *word &= !(1 << bit);
        }
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
/// Is a per-CPU pointer to a slot of one of [`CHUNKS`], which is there for as long as its bit is
/// set: until this is dropped. There is no other [`Slot`] of it.
pub(crate) struct Slot(NonNull<c_void>);

// SAFETY: The memory is used by `this_cpu_*()` and by reads that may be old.
unsafe impl Send for Slot {}
// SAFETY: As above.
unsafe impl Sync for Slot {}

impl Slot {
    /// Gives the per-CPU pointer, to a `struct ctskip_slot`.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    fn address(&self) -> usize {
        self.0.addr().get()
    }

    /// Counts a packet that was held, here and at `counter`. Any context, may be preempted.
    #[inline(always)]
    pub(crate) fn hold(&self, counter: CounterRef<'_>) -> Accept {
        // SAFETY: By the type invariants. NF_ACCEPT is what it returns.
        unsafe { Accept::from_raw(raw::ctskip_hold(counter.as_ptr(), self.as_ptr())) }
    }

    /// Adds up what was counted. Any context. Packets may be counted meanwhile.
    pub(crate) fn totals(&self) -> Totals {
        let sum = |offset| {
            let counter = self.as_ptr().wrapping_byte_add(offset);

            // SAFETY: By the type invariants, a counter of a slot that is there lies at each offset.
            unsafe { raw::ctskip_percpu_sum(counter) }
        };

        Totals {
            packets: sum(offset_of!(raw::ctskip_slot, packets)),
            bytes: sum(offset_of!(raw::ctskip_slot, bytes)),
            held: sum(offset_of!(raw::ctskip_slot, held)),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        CHUNKS.lock().put(self);
    }
}
