// SPDX-License-Identifier: GPL-2.0

//! Counters that packets add to without sharing a cache line between CPUs.
//!
//! [`Counters`] is a fixed set, as a namespace has it. A [`Slot`] is what one rule counts; [`SlotPool`]
//! hands them out of larger allocations, as there may be very many.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)

use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of, //
    },
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering, //
    },
};

use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            ordering,
            Atomic, //
        },
        global_lock, //
    },
};

use crate::linux::{
    accept::Accept,
    bindings as raw, //
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

/// The size of a slot for each CPU. SlotPool lie side by side, so that some lie across cache lines:
/// that costs less than the memory that would keep them from it.
const SLOT_SIZE: usize = size_of::<raw::ctskip_slot>();

/// How many pages a chunk has for each CPU.
const PAGES: usize = raw::CTSKIP_SLOT_STRIDE / PAGE_SIZE;

/// How many slots go into a page, behind its [`PageHead`].
const PER_PAGE: usize = (PAGE_SIZE - size_of::<PageHead>()) / SLOT_SIZE;

/// How many slots are allocated at once.
const CHUNK: usize = PAGES * PER_PAGE;

/// The slots of all rules. There is one of these at most while the module is loaded.
///
/// # Invariants
///
/// [`CHUNKS`] is initialised.
pub(crate) struct SlotPool(());

global_lock! {
    // SAFETY: `SlotPool::new()` initialises it, and nobody uses it but by a `SlotPool` or a `Slot`, which
    // comes from one.
    unsafe(uninit) static CHUNKS: Mutex<Chunks> = Chunks {
        chunks: KVVec::new(),
        full: 0,
    };
}

/// Whether there is, or was, a [`SlotPool`].
static MADE: Atomic<bool> = Atomic::new(false);

impl SlotPool {
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
        let chunk = Chunk::new()?;

        // Last, as room for no chunk at all would never be given back.
        self.chunks.reserve(1, GFP_KERNEL)?;

        // A slot is taken of a chunk that is kept only.
        let at = self.behind(chunk.start());
        self.chunks
            .insert_within_capacity(at, chunk)
            .map_err(|_| ENOMEM)?;
        self.full = self.full.min(at);
        self.chunks.get_mut(at).and_then(Chunk::take).ok_or(ENOMEM)
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

/// The references on the slots of a chunk.
///
/// The kernel crate's atomics are calls, of which an update of a large table makes very many.
type References = [AtomicU32; CHUNK];

/// What lies ahead of the slots in each page of the first CPU's part: the way from a slot to its
/// number of references.
struct PageHead {
    /// The number of the page's first slot, followed by those of the others.
    references: NonNull<AtomicU32>,
}

/// SlotPool that are allocated together.
///
/// The memory is not the per-CPU allocator's: that keeps 8 bytes beside every 4 of one CPU's part,
/// for the memory cgroups, which is as much as what is counted for two CPUs. But the parts of all
/// CPUs are on the node of the one who writes, or wherever there is room.
///
/// # Invariants
///
/// `memory` is from `ctskip_alloc_slots()` and has [`CHUNK`] slots and a [`PageHead`] in each page of
/// the first CPU's part. There are as many [`Slot`]s of each as `references` says; where none, its
/// bit in `taken` is not set, or it is just about to be put back.
struct Chunk {
    memory: NonNull<c_void>,
    references: NonNull<References>,
    taken: [u64; WORDS],
}

// SAFETY: It owns its memory, which any thread may use as the type invariants say.
unsafe impl Send for Chunk {}
// SAFETY: As above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Makes one of which no slot is taken. Process context; fails with `ENOMEM`.
    fn new() -> Result<Self> {
        let references: KBox<References> =
            KBox::new([const { AtomicU32::new(0) }; CHUNK], GFP_KERNEL)?;
        // SAFETY: It may be called in process context.
        let memory = unsafe { raw::ctskip_alloc_slots() };
        let memory = NonNull::new(memory).ok_or(ENOMEM)?;
        let references = NonNull::from(KBox::leak(references));

        for page in 0..PAGES {
            // SAFETY: There are so many references, and so many pages, all ours. A page is aligned
            // for anything.
            unsafe {
                let references = references.cast().add(page * PER_PAGE);
                let head = memory.byte_add(page * PAGE_SIZE).cast();

                head.write(PageHead { references });
            }
        }
        // INVARIANT: The heads were written; no bit is set, and there is no reference.
        Ok(Self {
            memory,
            references,
            taken: [0; WORDS],
        })
    }

    /// Gives the address that a [`Slot`] here has at least.
    fn start(&self) -> usize {
        self.memory.addr().get()
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
            let (page, place) = (index / PER_PAGE, index % PER_PAGE);
            let offset = page * PAGE_SIZE + size_of::<PageHead>() + place * SLOT_SIZE;

            *word |= 1 << bit;
            // SAFETY: It lies within the first CPU's part.
            let slot = Slot(unsafe { self.memory.byte_add(offset) });
            // INVARIANT: It was not taken, and is now; this is the one reference.
            slot.references().store(1, Ordering::Relaxed);
            return Some(slot);
        }
        None
    }

    fn put(&mut self, slot: &Slot) {
        let page = slot.address().wrapping_sub(self.start()) / PAGE_SIZE;
        let index = page * PER_PAGE + slot.place();
        let bit = index % u64::BITS as usize;

        if let Some(word) = self.taken.get_mut(index / u64::BITS as usize) {
            *word &= !(1 << bit);
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: By the type invariants they are ours, and there is no slot of this any more.
        unsafe {
            bindings::kvfree(self.memory.as_ptr());
            drop(KBox::from_raw(self.references.as_ptr()));
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

/// A reference on a slot, which is given back when the last one is dropped (process context).
///
/// Compared by place: equal references are on the same slot.
///
/// # Invariants
///
/// Points at the first CPU's part of a slot of one of [`CHUNKS`], and counts as one of its references:
/// it is there until this is dropped.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(NonNull<c_void>);

// SAFETY: The memory is used as each CPU may use its part, and by reads that may be old.
unsafe impl Send for Slot {}
// SAFETY: As above.
unsafe impl Sync for Slot {}

impl Slot {
    /// Gives the pointer to the first CPU's `struct ctskip_slot`.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    fn address(&self) -> usize {
        self.0.addr().get()
    }

    /// Gives what is at the start of the page.
    #[inline]
    fn head(&self) -> &PageHead {
        let offset = self.address() % PAGE_SIZE;

        // SAFETY: By the type invariants, and those of `Chunk`, which never changes it.
        unsafe { self.0.byte_sub(offset).cast().as_ref() }
    }

    /// Gives its number in its page.
    #[inline]
    fn place(&self) -> usize {
        (self.address() % PAGE_SIZE).wrapping_sub(size_of::<PageHead>()) / SLOT_SIZE
    }

    /// Gives the number of references on it.
    #[inline]
    fn references(&self) -> &AtomicU32 {
        // SAFETY: By the type invariants the chunk is there, and it has a number for each slot.
        unsafe { self.head().references.add(self.place()).as_ref() }
    }

    /// Counts a packet that was held, here and at `counter`. Any context, may be preempted.
    #[inline(always)]
    pub(crate) fn hold(&self, counter: CounterRef<'_>) -> Accept {
        // SAFETY: By the type invariants. NF_ACCEPT is what it returns.
        unsafe { Accept::from_raw(raw::ctskip_hold(counter.as_ptr(), self.as_ptr())) }
    }

    /// Adds up what was counted. Any context. Packets may be counted meanwhile.
    pub(crate) fn totals(&self) -> Totals {
        // SAFETY: By the type invariants.
        let sum = unsafe { raw::ctskip_slot_sum(self.as_ptr()) };

        Totals {
            packets: sum.packets,
            bytes: sum.bytes,
            held: sum.held,
        }
    }
}

impl Clone for Slot {
    #[inline]
    fn clone(&self) -> Self {
        self.references().fetch_add(1, Ordering::Relaxed);
        // INVARIANT: Counted just now.
        Self(self.0)
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        // What was done with the others comes before the slot is put back.
        if self.references().fetch_sub(1, Ordering::AcqRel) == 1 {
            CHUNKS.lock().put(self);
        }
    }
}
