// SPDX-License-Identifier: GPL-2.0

//! Packets at a Netfilter hook: their conntrack state, header bytes and mark.
//!
//! The types say how far a packet has been looked at: [`Skb`] is any packet, [`Unmarked`] one that
//! conntrack does not know yet.
//!
//! C headers: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h),
//! [`include/net/netfilter/nf_conntrack.h`](srctree/include/net/netfilter/nf_conntrack.h)

use core::{
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull, //
};

use kernel::{
    bindings::sk_buff,
    prelude::*, //
};

use crate::linux::{
    accept::Accept,
    bindings as raw,
    percpu::{
        CounterRef,
        Slot, //
    },
};

// The kernel crate's bindings and this module's agree on where these fields lie.
static_assert!(offset_of!(sk_buff, _nfct) == raw::CTSKIP_SKB_NFCT);
static_assert!(offset_of!(sk_buff, len) == raw::CTSKIP_SKB_LEN);
static_assert!(offset_of!(sk_buff, data_len) == raw::CTSKIP_SKB_DATA_LEN);
static_assert!(offset_of!(sk_buff, data) == raw::CTSKIP_SKB_DATA);

/// Value of `_nfct` for a packet that is not to be tracked. C: `IP_CT_UNTRACKED` of
/// `include/uapi/linux/netfilter/nf_conntrack_common.h`.
const IP_CT_UNTRACKED: usize = 7;

/// Bits of `_nfct` that hold the pointer to the entry. C: `NFCT_PTRMASK`.
const NFCT_PTRMASK: usize = !7;

/// The reason why a packet is not matched against rules: something has set its conntrack state.
pub(crate) enum Marked {
    /// The packet has a conntrack entry.
    Entry,
    /// The packet has a template: a `CT` target or statement sets one for a zone or a helper.
    Template,
    /// The packet is not to be tracked.
    Untracked,
}

/// A packet at a hook of [`crate::linux::netfilter`].
///
/// # Invariants
///
/// Points at a `struct sk_buff` that the current thread owns for `'a`. Its data begin at the
/// network header, as they do at PRE_ROUTING and LOCAL_OUT.
pub(crate) struct Skb<'a>(NonNull<sk_buff>, PhantomData<&'a mut sk_buff>);

impl<'a> Skb<'a> {
    /// Creates the packet from the pointer that a hook function gets.
    ///
    /// # Safety
    ///
    /// `skb` must be valid, and its data must begin at the network header. Nothing else may use it
    /// within `'a`.
    #[inline(always)]
    pub(super) unsafe fn from_raw(skb: *mut sk_buff) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: A valid pointer is not null.
        Self(unsafe { NonNull::new_unchecked(skb) }, PhantomData)
    }

    /// Returns `skb->_nfct`: a pointer to the entry, with a `ctinfo` in the low bits.
    #[inline(always)]
    fn nfct(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { (*self.0.as_ptr())._nfct }
    }

    /// Returns the packet as [`Unmarked`] where `_nfct` is 0, as of nearly all new packets.
    ///
    /// Returns the packet itself where it is not. That may still be unmarked: [`Self::unmarked()`]
    /// tells.
    #[inline(always)]
    pub(crate) fn untouched(self) -> Result<Unmarked<'a>, Self> {
        match self.nfct() {
            // INVARIANT: The pointer in `_nfct` is null.
            0 => Ok(Unmarked(self)),
            _ => Err(self),
        }
    }

    /// Returns the packet as [`Unmarked`], or the reason why it is not. C: `nft_notrack_eval()`.
    ///
    /// A null pointer does not mark a packet, unless `ctinfo` is `IP_CT_UNTRACKED`.
    /// `nf_ct_attach()` leaves other values on this host's ICMP errors and resets that answer an
    /// untracked packet.
    #[inline]
    pub(crate) fn unmarked(self) -> Result<Unmarked<'a>, Marked> {
        let nfct = self.nfct();

        if nfct & NFCT_PTRMASK != 0 {
            // SAFETY: A packet holds a reference to the entry that it points at.
            Err(match unsafe { raw::ctskip_nfct_is_template(nfct) } {
                true => Marked::Template,
                false => Marked::Entry,
            })
        } else if nfct == IP_CT_UNTRACKED {
            Err(Marked::Untracked)
        } else {
            // INVARIANT: The pointer in `_nfct` is null.
            Ok(Unmarked(self))
        }
    }
}

/// A packet without a conntrack state.
///
/// # Invariants
///
/// The pointer in `_nfct` is null: the packet has no entry and no template.
pub(crate) struct Unmarked<'a>(Skb<'a>);

impl<'a> Unmarked<'a> {
    /// Returns the packet as an [`Skb`].
    #[inline(always)]
    pub(crate) fn into_skb(self) -> Skb<'a> {
        self.0
    }

    /// Returns the pointer, for calls of C functions and reads of fields.
    #[inline(always)]
    fn as_ptr(&self) -> *mut sk_buff {
        self.0 .0.as_ptr()
    }

    /// Returns `skb->mark`, in the host's byte order.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: By the invariants of `Skb`. C has the `u32` of that name at this offset.
        unsafe {
            self.as_ptr()
                .byte_add(raw::CTSKIP_SKB_MARK)
                .cast::<u32>()
                .read()
        }
    }

    /// Returns the first `N` bytes from the network header on; [`None`] where they are not all in
    /// the linear part.
    #[inline(always)]
    pub(crate) fn linear_header<const N: usize>(&self) -> Option<[u8; N]> {
        self.linear(0)
    }

    /// Returns the `N` bytes at `offset` from the network header; [`None`] where the packet ends
    /// before. C: `skb_header_pointer()`.
    #[inline]
    pub(crate) fn header<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.linear(offset).or_else(|| self.copy_bits(offset))
    }

    /// Returns the `N` bytes at `offset`; [`None`] where they are not all in the linear part. C:
    /// `skb_headlen()`.
    #[inline(always)]
    fn linear<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // SAFETY: By the invariants of `Skb`.
        let (len, data_len, data) = unsafe {
            let skb = self.as_ptr();
            ((*skb).len, (*skb).data_len, (*skb).data)
        };
        let end = u64::from(offset) + N as u64;

        (end <= u64::from(len.wrapping_sub(data_len))).then(|| {
            // SAFETY: The linear part has `len - data_len` bytes from `data` on. Nothing writes to
            // them while a hook function runs on the packet.
            unsafe { data.add(offset as usize).cast::<[u8; N]>().read() }
        })
    }

    /// Returns the `N` bytes at `offset`, in the linear part or not; [`None`] where the packet ends
    /// before. C: `skb_copy_bits()`.
    #[cold]
    fn copy_bits<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut buf = [0; N];
        let offset = c_int::try_from(offset).ok()?;
        let len = c_int::try_from(N).ok()?;
        let to = (&raw mut buf).cast::<c_void>();

        // SAFETY: By the invariants of `Skb`. `to` has room for `len` bytes. The function checks
        // the range.
        match unsafe { kernel::bindings::skb_copy_bits(self.as_ptr(), offset, to, len) } {
            0 => Some(buf),
            _ => None,
        }
    }

    /// Keeps the packet out of conntrack. Counts it at `counter` and for the rule of `slot`.
    ///
    /// C: `nf_ct_set(skb, NULL, IP_CT_UNTRACKED)`.
    #[inline(always)]
    pub(crate) fn skip(self, counter: CounterRef<'_>, slot: &Slot) -> Accept {
        // SAFETY: By the type invariants no reference to an entry is overwritten. The counters are
        // valid while they are borrowed. The helper returns `NF_ACCEPT`.
        unsafe {
            Accept::from_raw(raw::ctskip_skip(
                counter.as_ptr(),
                self.as_ptr(),
                slot.as_ptr(),
            ))
        }
    }

    /// Leaves the packet as it is. Counts it at `counter` and for the rule of `slot`.
    #[inline(always)]
    pub(crate) fn count_for(self, counter: CounterRef<'_>, slot: &Slot) -> Accept {
        // SAFETY: The counters are valid while they are borrowed. The helper returns `NF_ACCEPT`.
        unsafe {
            Accept::from_raw(raw::ctskip_count_rule(
                counter.as_ptr(),
                self.as_ptr(),
                slot.as_ptr(),
            ))
        }
    }
}
