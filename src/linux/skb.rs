// SPDX-License-Identifier: GPL-2.0

//! Packets, as a netfilter hook sees them.
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

// What is read below lies where C has it, as bindgen sees it.
static_assert!(offset_of!(sk_buff, _nfct) == raw::CTSKIP_SKB_NFCT);
static_assert!(offset_of!(sk_buff, len) == raw::CTSKIP_SKB_LEN);
static_assert!(offset_of!(sk_buff, data_len) == raw::CTSKIP_SKB_DATA_LEN);
static_assert!(offset_of!(sk_buff, data) == raw::CTSKIP_SKB_DATA);

/// `IP_CT_UNTRACKED`, of `include/uapi/linux/netfilter/nf_conntrack_common.h`.
const IP_CT_UNTRACKED: usize = 7;

/// `NFCT_PTRMASK`: the part of `_nfct` that is a pointer to the entry.
const NFCT_PTRMASK: usize = !7;

/// What keeps a packet from being looked at.
pub(crate) enum Marked {
    /// The packet belongs to an entry.
    Entry,
    /// A template, as a `CT` target or statement sets it for a zone or a helper.
    Template,
    /// The packet is not to be tracked.
    Untracked,
}

/// A packet at one of the hooks that [`crate::linux::netfilter`] registers.
///
/// # Invariants
///
/// Points at a `struct sk_buff` that the current thread owns for `'a`, whose data begin at its
/// network header, as they do at PRE_ROUTING and LOCAL_OUT.
pub(crate) struct Skb<'a>(NonNull<sk_buff>, PhantomData<&'a mut sk_buff>);

impl<'a> Skb<'a> {
    /// Wraps what a hook function was given.
    ///
    /// # Safety
    ///
    /// `skb` must be valid, its data begin at the network header, and nothing else may use it
    /// within `'a`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(skb: *mut sk_buff) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: What is valid is not null.
        Self(unsafe { NonNull::new_unchecked(skb) }, PhantomData)
    }

    /// Gives `skb->_nfct`.
    #[inline(always)]
    fn nfct(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { (*self.0.as_ptr())._nfct }
    }

    /// Gives the packet as an unmarked one where nothing at all has been said about it, else back.
    ///
    /// What is given back may be unmarked all the same: see [`Self::unmarked()`].
    #[inline(always)]
    pub(crate) fn untouched(self) -> Result<Unmarked<'a>, Self> {
        match self.nfct() {
            // INVARIANT: It points at nothing.
            0 => Ok(Unmarked(self)),
            _ => Err(self),
        }
    }

    /// Gives the packet as an unmarked one, or what marks it. Follows `nft_notrack_eval()`.
    ///
    /// A null pointer with any `ctinfo` but untracked is no mark: `nf_ct_attach()` leaves that on a
    /// host's own ICMP errors and resets about an untracked packet.
    #[inline]
    pub(crate) fn unmarked(self) -> Result<Unmarked<'a>, Marked> {
        let nfct = self.nfct();

        if nfct & NFCT_PTRMASK != 0 {
            // SAFETY: A packet holds a reference on the entry that it points at.
            Err(match unsafe { raw::ctskip_nfct_is_template(nfct) } {
                true => Marked::Template,
                false => Marked::Entry,
            })
        } else if nfct == IP_CT_UNTRACKED {
            Err(Marked::Untracked)
        } else {
            // INVARIANT: The part that is a pointer is null.
            Ok(Unmarked(self))
        }
    }
}

/// A packet about which conntrack has said nothing.
///
/// # Invariants
///
/// Points at no entry and no template.
pub(crate) struct Unmarked<'a>(Skb<'a>);

impl<'a> Unmarked<'a> {
    /// Gives the packet as any.
    #[inline(always)]
    pub(crate) fn into_skb(self) -> Skb<'a> {
        self.0
    }

    /// Gives the pointer, for C and for reads of fields.
    #[inline(always)]
    fn as_ptr(&self) -> *mut sk_buff {
        self.0 .0.as_ptr()
    }

    /// Gives `skb->mark`, in the host's byte order.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: By the invariants of `Skb`; C says that a `u32` called mark lies there.
        unsafe {
            self.as_ptr()
                .byte_add(raw::CTSKIP_SKB_MARK)
                .cast::<u32>()
                .read()
        }
    }

    /// Reads the first `N` bytes from the network header on, where they lie in the linear part.
    #[inline(always)]
    pub(crate) fn linear_header<const N: usize>(&self) -> Option<[u8; N]> {
        self.linear(0)
    }

    /// Reads `N` bytes at `offset` from the network header; [`None`] where the packet ends before.
    /// C: `skb_header_pointer()`.
    #[inline]
    pub(crate) fn header<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.linear(offset).or_else(|| self.copy_bits(offset))
    }

    /// Reads `N` bytes at `offset` where they lie in the linear part. C: `skb_headlen()`.
    #[inline(always)]
    fn linear<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // SAFETY: By the invariants of `Skb`.
        let (len, data_len, data) = unsafe {
            let skb = self.as_ptr();
            ((*skb).len, (*skb).data_len, (*skb).data)
        };
        let end = u64::from(offset) + N as u64;

        (end <= u64::from(len.wrapping_sub(data_len))).then(|| {
            // SAFETY: `len - data_len` bytes from `data` on are there, and are not written to while
            // a hook function runs on the packet.
            unsafe { data.add(offset as usize).cast::<[u8; N]>().read() }
        })
    }

    /// Reads `N` bytes at `offset` from wherever they lie. C: `skb_copy_bits()`.
    #[cold]
    fn copy_bits<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut buf = [0; N];
        let offset = c_int::try_from(offset).ok()?;
        let len = c_int::try_from(N).ok()?;
        let to = (&raw mut buf).cast::<c_void>();

        // SAFETY: By the invariants of `Skb`; `to` has room for `len` bytes. The call checks the
        // range.
        match unsafe { kernel::bindings::skb_copy_bits(self.as_ptr(), offset, to, len) } {
            0 => Some(buf),
            _ => None,
        }
    }

    /// Keeps the packet out of conntrack, and counts it at `counter` and for the rule of `slot`.
    ///
    /// C: `nf_ct_set(skb, NULL, IP_CT_UNTRACKED)`.
    #[inline(always)]
    pub(crate) fn skip(self, counter: CounterRef<'_>, slot: &Slot) -> Accept {
        // SAFETY: By the type invariants, no reference is overwritten. The counters are there for
        // as long as they are borrowed. NF_ACCEPT is what it returns.
        unsafe {
            Accept::from_raw(raw::ctskip_skip(
                counter.as_ptr(),
                self.as_ptr(),
                slot.as_ptr(),
            ))
        }
    }

    /// Leaves the packet as it is, and counts it at `counter` and for the rule of `slot`.
    #[inline(always)]
    pub(crate) fn count_for(self, counter: CounterRef<'_>, slot: &Slot) -> Accept {
        // SAFETY: The counters are there for as long as they are borrowed. NF_ACCEPT is what it
        // returns.
        unsafe {
            Accept::from_raw(raw::ctskip_count_rule(
                counter.as_ptr(),
                self.as_ptr(),
                slot.as_ptr(),
            ))
        }
    }
}
