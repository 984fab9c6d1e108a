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

use crate::bindings as raw;

// What is read below lies where C has it, as bindgen sees it.
static_assert!(offset_of!(sk_buff, _nfct) == raw::CTSKIP_SKB_NFCT);
static_assert!(offset_of!(sk_buff, len) == raw::CTSKIP_SKB_LEN);
static_assert!(offset_of!(sk_buff, data_len) == raw::CTSKIP_SKB_DATA_LEN);
static_assert!(offset_of!(sk_buff, data) == raw::CTSKIP_SKB_DATA);

/// `IP_CT_UNTRACKED`, of `include/uapi/linux/netfilter/nf_conntrack_common.h`.
const IP_CT_UNTRACKED: usize = 7;

/// `NFCT_PTRMASK`: the part of `_nfct` that is a pointer to the entry.
const NFCT_PTRMASK: usize = !7;

/// What conntrack has already said about a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conntrack {
    /// Nothing. Includes a null pointer with any `ctinfo` but untracked: `nf_ct_attach()` leaves
    /// that on a host's own ICMP errors and resets about an untracked packet.
    Absent,
    /// The packet belongs to an entry.
    Entry,
    /// A template, as a `CT` target or statement sets it for a zone or a helper.
    Template,
    /// The packet is not to be tracked.
    Untracked,
}

/// A packet at one of the hooks that [`crate::netfilter`] registers.
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

    /// Gives the length in bytes from the network header on.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.0.as_ptr()).len }
    }

    /// Gives `skb->mark`, in the host's byte order.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: By the type invariants; C says that a `u32` called mark lies there.
        unsafe { self.0.byte_add(raw::CTSKIP_SKB_MARK).cast::<u32>().read() }
    }

    /// Reads `N` bytes at `offset` from the network header.
    ///
    /// Gives them in place where they lie in the linear part, else copied to `buf`; [`None`] where
    /// the packet ends before. C: `skb_header_pointer()`.
    #[inline(always)]
    pub(crate) fn header<'b, const N: usize>(
        &'b self,
        offset: u32,
        buf: &'b mut [u8; N],
    ) -> Option<&'b [u8; N]> {
        // SAFETY: By the type invariants.
        let (len, data_len, data) = unsafe {
            let skb = self.0.as_ptr();
            ((*skb).len, (*skb).data_len, (*skb).data)
        };
        let end = u64::from(offset) + N as u64;

        if end <= u64::from(len.wrapping_sub(data_len)) {
            // SAFETY: `len - data_len` bytes from `data` on are there, and are not written to while
            // a hook function runs on the packet.
            return Some(unsafe { &*data.add(offset as usize).cast::<[u8; N]>() });
        }
        if end <= u64::from(len) {
            return self.copy_bits(offset, buf);
        }
        None
    }

    /// Copies `N` bytes at `offset` to `buf`, from wherever they lie. C: `skb_copy_bits()`.
    #[cold]
    fn copy_bits<'b, const N: usize>(
        &self,
        offset: u32,
        buf: &'b mut [u8; N],
    ) -> Option<&'b [u8; N]> {
        let offset = c_int::try_from(offset).ok()?;
        let len = c_int::try_from(N).ok()?;
        let to = core::ptr::from_mut(buf).cast::<c_void>();

        // SAFETY: By the type invariants; `to` has room for `len` bytes. The call checks the range.
        match unsafe { kernel::bindings::skb_copy_bits(self.0.as_ptr(), offset, to, len) } {
            0 => Some(buf),
            _ => None,
        }
    }

    /// Gives `skb->_nfct`.
    #[inline(always)]
    fn nfct(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { (*self.0.as_ptr())._nfct }
    }

    /// Tells what conntrack has said about the packet. Follows `nft_notrack_eval()`.
    #[inline(always)]
    pub(crate) fn conntrack(&self) -> Conntrack {
        let nfct = self.nfct();

        if nfct & NFCT_PTRMASK != 0 {
            // SAFETY: A packet holds a reference on the entry that it points at.
            if unsafe { raw::ctskip_nfct_is_template(nfct) } {
                Conntrack::Template
            } else {
                Conntrack::Entry
            }
        } else if nfct == IP_CT_UNTRACKED {
            Conntrack::Untracked
        } else {
            Conntrack::Absent
        }
    }

    /// Marks the packet as not to be tracked. C: `nf_ct_set(skb, NULL, IP_CT_UNTRACKED)`.
    ///
    /// Does nothing, and gives `false`, where the packet points at an entry or a template, the
    /// reference on which would be lost.
    #[inline(always)]
    pub(crate) fn set_untracked(&mut self) -> bool {
        if self.nfct() & NFCT_PTRMASK != 0 {
            return false;
        }
        // SAFETY: By the type invariants; no reference is overwritten.
        unsafe { raw::ctskip_set_untracked(self.0.as_ptr()) };
        true
    }
}
