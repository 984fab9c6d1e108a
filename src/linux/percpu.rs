// SPDX-License-Identifier: GPL-2.0

//! Per-CPU counters: packets count without sharing a cache line between CPUs.
//!
//! [`Counters`] is a fixed number of counters: a namespace has one set. A [`Slot`] holds the
//! counters of one rule. There may be very many rules, so [`SlotPool`] allocates slots in chunks.
//! `struct ctskip_slot` of `rust-bindings/bindings_helper.h` says how a slot lies in memory.
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
        AtomicPtr,
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

/// A zeroed array of `u64` for each possible CPU.
///
/// # Invariants
///
/// Is a per-CPU pointer from `ctskip_alloc_percpu()` that this type owns. Such a pointer is an
/// offset: Rust code never dereferences it.
struct PerCpu(NonNull<c_void>);

// SAFETY: A CPU writes to its own part only, by `this_cpu_*()`. Reads of other parts may be out of
// date.
unsafe impl Send for PerCpu {}
// SAFETY: As above.
unsafe impl Sync for PerCpu {}

impl PerCpu {
    /// Allocates `n` counters for each CPU.
    ///
    /// Process context; may sleep. Fails with `ENOMEM`, also above 32 KiB. C:
    /// `__alloc_percpu_gfp()`.
    fn new(n: usize) -> Result<Self> {
        let size = n.checked_mul(size_of::<u64>()).ok_or(ENOMEM)?;

        // SAFETY: Any size may be passed, and any power of two up to a page as the alignment.
        let counters = unsafe { raw::ctskip_alloc_percpu(size, align_of::<u64>()) };

        // INVARIANT: The allocation is ours.
        NonNull::new(counters).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for PerCpu {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::free_percpu(self.0.as_ptr()) };
    }
}

/// A set of `N` counters.
pub(crate) struct Counters<const N: usize>(PerCpu);

impl<const N: usize> Counters<N> {
    /// Creates the counters, all zero. Process context; may sleep. Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        PerCpu::new(N).map(Self)
    }

    /// Returns the counter of number `index`; the last counter where `index` is `N` or more.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> CounterRef<'_> {
        const { assert!(N > 0) };
        let index = index.min(N - 1);

        // INVARIANT: The array has `N` counters.
        CounterRef(
            self.0
                 .0
                .as_ptr()
                .wrapping_byte_add(index * size_of::<u64>()),
            PhantomData,
        )
    }
}

/// A reference to a counter.
///
/// # Invariants
///
/// Is a per-CPU pointer to a `u64` that is valid for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct CounterRef<'a>(*mut c_void, PhantomData<&'a PerCpu>);

impl CounterRef<'_> {
    /// Returns the per-CPU pointer, for calls of C functions.
    #[inline(always)]
    pub(super) fn as_ptr(self) -> *mut c_void {
        self.0
    }

    /// Adds one to this CPU's part. Any context, preemptible too.
    #[inline(always)]
    pub(crate) fn count(self) -> Accept {
        // SAFETY: By the type invariants. The helper returns `NF_ACCEPT`.
        unsafe { Accept::from_raw(raw::ctskip_count(self.as_ptr())) }
    }

    /// Returns the sum over all CPUs. Any context. Packets may count at the same time.
    pub(crate) fn sum(self) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { raw::ctskip_percpu_sum(self.as_ptr()) }
    }
}

/// Size in bytes of a slot's part of one CPU.
///
/// Slots lie side by side, so that some lie across two cache lines. That costs less than the memory
/// of padding would.
const SLOT_SIZE: usize = size_of::<raw::ctskip_slot>();

/// Pages that a chunk has for each CPU.
const PAGES_PER_CHUNK: usize = raw::CTSKIP_SLOT_STRIDE / PAGE_SIZE;

/// Slots in a page, which begins with a [`PageHead`].
const SLOTS_PER_PAGE: usize = (PAGE_SIZE - size_of::<PageHead>()) / SLOT_SIZE;

/// Slots in a chunk.
const SLOTS_PER_CHUNK: usize = PAGES_PER_CHUNK * SLOTS_PER_PAGE;

/// The allocator of slots. The module creates one, and only one, while it is loaded.
///
/// # Invariants
///
/// [`CHUNKS`] is initialised.
pub(crate) struct SlotPool(());

global_lock! {
    // SAFETY: `SlotPool::new()` initialises it. Only a `SlotPool` uses it, or a `Slot`, which comes
    // from one.
    unsafe(uninit) static CHUNKS: Mutex<Chunks> = Chunks {
        chunks: KVVec::new(),
        full: 0,
        observing: false,
    };
}

/// Whether a [`SlotPool`] was created.
static CREATED: Atomic<bool> = Atomic::new(false);

impl SlotPool {
    /// Creates the pool. Fails with `EBUSY` where it was created before.
    pub(crate) fn new() -> Result<Self> {
        if CREATED.xchg(true, ordering::Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: `CREATED` never turns back to `false`, so that this is called once.
        unsafe { CHUNKS.init() };

        // INVARIANT: It was initialised just now.
        Ok(Self(()))
    }

    /// Takes a slot and returns it, its counters all zero. Process context; may sleep. Fails with
    /// `ENOMEM`.
    pub(crate) fn take(&self) -> Result<Slot> {
        let slot = CHUNKS.lock().take()?;

        // SAFETY: By the type invariants of `Slot`.
        unsafe { raw::ctskip_slot_zero(slot.as_ptr()) };
        if let Some(observed) = slot.observed() {
            // SAFETY: `observed()` returns a counter of that stride.
            unsafe { raw::ctskip_observed_zero(observed.as_ptr(), SLOTS_PER_CHUNK) };
        }
        Ok(slot)
    }

    /// Allocates the counters of [`Slot::observe()`], for all slots from now on: most tables never
    /// need them. Process context; may sleep. Fails with `ENOMEM`.
    pub(crate) fn observe(&self) -> Result {
        let mut chunks = CHUNKS.lock();

        for chunk in &mut chunks.chunks {
            chunk.observe()?;
        }
        chunks.observing = true;
        Ok(())
    }
}

/// The chunks of all slots.
struct Chunks {
    /// In ascending order of address. At least one slot of each is taken.
    chunks: KVVec<Chunk>,
    /// Number of chunks at the front that are all full. There may be more.
    full: usize,
    /// Whether each chunk has counters of observed packets.
    observing: bool,
}

impl Chunks {
    /// Takes a slot. Allocates a chunk where all are full. Fails with `ENOMEM`.
    fn take(&mut self) -> Result<Slot> {
        for chunk in self.chunks.iter_mut().skip(self.full) {
            if let Some(slot) = chunk.take() {
                return Ok(slot);
            }
            self.full = self.full.saturating_add(1);
        }
        let mut chunk = Chunk::new()?;
        if self.observing {
            chunk.observe()?;
        }

        // After `Chunk::new()`: where that fails with no chunk left, this room would never be
        // freed.
        self.chunks.reserve(1, GFP_KERNEL)?;

        // The slot is taken only after the chunk has been stored.
        let at = self.count_up_to(chunk.start());
        self.chunks
            .insert_within_capacity(at, chunk)
            .map_err(|_| ENOMEM)?;
        self.full = self.full.min(at);
        self.chunks.get_mut(at).and_then(Chunk::take).ok_or(ENOMEM)
    }

    /// Puts `slot` back. Frees its chunk where no other slot of that is taken.
    fn put(&mut self, slot: &Slot) {
        let at = self.count_up_to(slot.address()).wrapping_sub(1);
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };

        chunk.put(slot);
        self.full = self.full.min(at);
        if chunk.is_empty() {
            // Does not fail: the index is of a chunk.
            let _ = self.chunks.remove(at);
        }
        if self.chunks.is_empty() {
            // Frees the memory of the list: a static is not dropped when the module goes.
            self.chunks = KVVec::new();
        }
    }

    /// Returns the number of chunks that start at `address` or before.
    fn count_up_to(&self, address: usize) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.start() <= address)
    }
}

/// Words of a chunk's bitmap.
const BITMAP_WORDS: usize = SLOTS_PER_CHUNK.div_ceil(u64::BITS as usize);

/// Reference counts of the slots of a chunk.
///
/// The kernel crate's atomics are calls of C functions. An update of a large table makes very many.
type References = [AtomicU32; SLOTS_PER_CHUNK];

/// The head of each page of the first CPU's part: it leads from a slot to what lies elsewhere.
struct PageHead {
    /// The reference count of the page's first slot. Those of its other slots follow.
    references: NonNull<AtomicU32>,
    /// The first CPU's counter of observed packets of the page's first slot. Those of its other
    /// slots follow; those of the next CPU are [`SLOTS_PER_CHUNK`] counters behind. Null until it
    /// is written once.
    observed: AtomicPtr<u64>,
}

/// Slots that were allocated together.
///
/// The memory is not of the per-CPU allocator. For the memory cgroups, that keeps 8 bytes beside
/// every 4 bytes of one CPU's part: as much as two CPUs' counters take. The price is that all parts
/// are on the node of the writer, or wherever there is room.
///
/// # Invariants
///
/// `memory` is from `ctskip_alloc_slots()`. It has [`SLOTS_PER_CHUNK`] slots, and a [`PageHead`] in
/// each page of the first CPU's part. `references` says how many [`Slot`]s refer to each slot.
/// Where none does, its bit in `taken` is clear, or the slot is about to be put back.
/// `observed`, if it is there, is from `ctskip_alloc_observed()`, with [`SLOTS_PER_CHUNK`] counters
/// for each CPU; the heads refer to it.
struct Chunk {
    memory: NonNull<c_void>,
    references: NonNull<References>,
    observed: Option<NonNull<u64>>,
    taken: [u64; BITMAP_WORDS],
}

// SAFETY: It owns its memory. Any thread may use that as the type invariants say.
unsafe impl Send for Chunk {}
// SAFETY: As above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Creates a chunk of which no slot is taken. Process context; may sleep. Fails with `ENOMEM`.
    fn new() -> Result<Self> {
        let references: KBox<References> =
            KBox::new([const { AtomicU32::new(0) }; SLOTS_PER_CHUNK], GFP_KERNEL)?;
        // SAFETY: All callers are in process context.
        let memory = unsafe { raw::ctskip_alloc_slots() };
        let memory = NonNull::new(memory).ok_or(ENOMEM)?;
        let references = NonNull::from(KBox::leak(references));

        for page in 0..PAGES_PER_CHUNK {
            // SAFETY: The index of each reference count and the offset of each page are within what
            // was allocated just now. A page is aligned for any type.
            unsafe {
                let references = references.cast().add(page * SLOTS_PER_PAGE);
                let head = memory.byte_add(page * PAGE_SIZE).cast();

                head.write(PageHead {
                    references,
                    observed: AtomicPtr::new(core::ptr::null_mut()),
                });
            }
        }
        // INVARIANT: The heads were written. No bit is set, and every reference count is 0.
        Ok(Self {
            memory,
            references,
            observed: None,
            taken: [0; BITMAP_WORDS],
        })
    }

    /// Allocates the counters of observed packets, where they are not there. Process context; may
    /// sleep. Fails with `ENOMEM`.
    fn observe(&mut self) -> Result {
        if self.observed.is_some() {
            return Ok(());
        }
        // SAFETY: All callers are in process context.
        let observed = unsafe { raw::ctskip_alloc_observed(SLOTS_PER_CHUNK) };
        let observed = NonNull::new(observed).ok_or(ENOMEM)?;

        for page in 0..PAGES_PER_CHUNK {
            // SAFETY: By the type invariants there is a head in each page. Only its atomic field is
            // written to. The offset is within what was allocated just now.
            unsafe {
                let head = self.memory.byte_add(page * PAGE_SIZE).cast::<PageHead>();
                let first = observed.add(page * SLOTS_PER_PAGE);

                // Zeroed memory comes before the pointer to it.
                (*head.as_ptr())
                    .observed
                    .store(first.as_ptr(), Ordering::Release);
            }
        }
        // INVARIANT: It was allocated for all CPUs, and the heads refer to it.
        self.observed = Some(observed);
        Ok(())
    }

    /// Returns the lowest address that a [`Slot`] of this chunk can have.
    fn start(&self) -> usize {
        self.memory.addr().get()
    }

    /// Returns whether no slot is taken.
    fn is_empty(&self) -> bool {
        self.taken.iter().all(|word| *word == 0)
    }

    /// Takes a slot, whose counters may hold anything; [`None`] where the chunk is full.
    fn take(&mut self) -> Option<Slot> {
        for (i, word) in self.taken.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            let index = i * u64::BITS as usize + bit as usize;

            if bit == u64::BITS {
                continue;
            }
            if index >= SLOTS_PER_CHUNK {
                break;
            }
            let (page, index_in_page) = (index / SLOTS_PER_PAGE, index % SLOTS_PER_PAGE);
            let offset = page * PAGE_SIZE + size_of::<PageHead>() + index_in_page * SLOT_SIZE;

            *word |= 1 << bit;
            // SAFETY: The offset is within the first CPU's part.
            let slot = Slot(unsafe { self.memory.byte_add(offset) });
            // INVARIANT: The slot was not taken, and is now. This is its one reference.
            slot.references().store(1, Ordering::Relaxed);
            return Some(slot);
        }
        None
    }

    /// Marks `slot`, which must be of this chunk, as not taken.
    fn put(&mut self, slot: &Slot) {
        let page = slot.address().wrapping_sub(self.start()) / PAGE_SIZE;
        let index = page * SLOTS_PER_PAGE + slot.index_in_page();
        let bit = index % u64::BITS as usize;

        if let Some(word) = self.taken.get_mut(index / u64::BITS as usize) {
            *word &= !(1 << bit);
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the memory is ours. No slot of it is left.
        unsafe {
            bindings::kvfree(self.memory.as_ptr());
            if let Some(observed) = self.observed {
                bindings::kvfree(observed.as_ptr().cast());
            }
            drop(KBox::from_raw(self.references.as_ptr()));
        }
    }
}

/// The counters of a rule, each summed over all CPUs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Packets that the rule decided and that were not held.
    pub(crate) packets: u64,
    /// Bytes of these packets. C: `skb->len`.
    pub(crate) bytes: u64,
    /// Packets that the rule would have skipped if NAT were not in use.
    pub(crate) held: u64,
    /// Packets that the rule would have skipped in the mode skip: see [`Slot::observe()`].
    pub(crate) observed: u64,
}

/// A counted reference to the counters of one rule. The last one puts the slot back when it is
/// dropped, in process context.
///
/// References are equal where they refer to the same slot; they are ordered by its address.
///
/// # Invariants
///
/// Points at the first CPU's part of a slot of a chunk in [`CHUNKS`]. It counts as one of the
/// slot's references, which keep that in its place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(NonNull<c_void>);

// SAFETY: Each CPU writes to its own part. Reads of other parts may be out of date.
unsafe impl Send for Slot {}
// SAFETY: As above.
unsafe impl Sync for Slot {}

impl Slot {
    /// Returns the pointer to the first CPU's `struct ctskip_slot`, for calls of C functions.
    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// Returns the address of the first CPU's part.
    fn address(&self) -> usize {
        self.0.addr().get()
    }

    /// Returns the head of the slot's page.
    #[inline]
    fn head(&self) -> &PageHead {
        let offset = self.address() % PAGE_SIZE;

        // SAFETY: By the type invariants, and by those of `Chunk`, which does not change a head.
        unsafe { self.0.byte_sub(offset).cast().as_ref() }
    }

    /// Returns the index of the slot in its page.
    #[inline]
    fn index_in_page(&self) -> usize {
        (self.address() % PAGE_SIZE).wrapping_sub(size_of::<PageHead>()) / SLOT_SIZE
    }

    /// Returns the slot's reference count.
    #[inline]
    fn references(&self) -> &AtomicU32 {
        // SAFETY: By the type invariants the chunk is there. It has a reference count for each
        // slot.
        unsafe { self.head().references.add(self.index_in_page()).as_ref() }
    }

    /// Counts a held packet, for the rule and at `counter`. Any context, preemptible too.
    #[inline(always)]
    pub(crate) fn hold(&self, counter: CounterRef<'_>) -> Accept {
        // SAFETY: By the type invariants. The helper returns `NF_ACCEPT`.
        unsafe { Accept::from_raw(raw::ctskip_hold(counter.as_ptr(), self.as_ptr())) }
    }

    /// Returns the slot's counter of observed packets, which has one for each CPU at a distance of
    /// [`SLOTS_PER_CHUNK`] counters. [`None`] before [`SlotPool::observe()`].
    fn observed(&self) -> Option<NonNull<u64>> {
        let first = NonNull::new(self.head().observed.load(Ordering::Acquire))?;

        // SAFETY: By the invariants of `PageHead`, the page's other counters follow the first one.
        Some(unsafe { first.add(self.index_in_page()) })
    }

    /// Counts a packet that the rule would have skipped, for the rule and at `counter`. The pool
    /// must [observe](SlotPool::observe()). Any context, preemptible too.
    #[inline]
    pub(crate) fn observe(&self, counter: CounterRef<'_>) -> Accept {
        let Some(observed) = self.observed() else {
            return counter.count();
        };

        // SAFETY: `observed()` returns a counter of that stride. `counter` is valid while it is
        // borrowed. The helper returns `NF_ACCEPT`.
        unsafe {
            Accept::from_raw(raw::ctskip_observe(
                counter.as_ptr(),
                observed.as_ptr(),
                SLOTS_PER_CHUNK,
            ))
        }
    }

    /// Returns the sums over all CPUs. Any context. Packets may count at the same time.
    pub(crate) fn totals(&self) -> Totals {
        // SAFETY: By the type invariants.
        let sum = unsafe { raw::ctskip_slot_sum(self.as_ptr()) };
        let observed = self.observed().map_or(0, |observed| {
            // SAFETY: `observed()` returns a counter of that stride.
            unsafe { raw::ctskip_observed_sum(observed.as_ptr(), SLOTS_PER_CHUNK) }
        });

        Totals {
            packets: sum.packets,
            bytes: sum.bytes,
            held: sum.held,
            observed,
        }
    }
}

impl Clone for Slot {
    #[inline]
    fn clone(&self) -> Self {
        self.references().fetch_add(1, Ordering::Relaxed);
        // INVARIANT: The reference was counted just now.
        Self(self.0)
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        // What other threads did with the slot comes before it is put back.
        if self.references().fetch_sub(1, Ordering::AcqRel) == 1 {
            CHUNKS.lock().put(self);
        }
    }
}
