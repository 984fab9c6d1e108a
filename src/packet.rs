// SPDX-License-Identifier: GPL-2.0

//! The way of a packet: from the hook to the verdict and the mark.
//!
//! Runs in softirq or process context under RCU. It takes no lock, allocates nothing, and writes to
//! the packet's mark of conntrack (`nf_ct_set()`) and to per-CPU counters only; but for a line of the log,
//! which few packets cause ([`crate::notice`]).

use core::marker::PhantomData;

use kernel::{
    prelude::*,
    sync::atomic::{
        ordering,
        Atomic, //
    },
};

use crate::{
    linux::{
        accept::Accept,
        conntrack,
        net::NetHandle,
        netfilter::{
            Handler,
            HookState,
            Place, //
        },
        percpu::{
            CounterRef,
            Counters,
            Slot, //
        },
        rcu::{
            Pointer,
            Shared, //
        },
        skb::{
            Marked,
            Skb,
            Unmarked, //
        },
    },
    notice::{
        Notice,
        Notices, //
    },
    pure::{
        matcher::plan::{
            Lookup,
            Path,
            View, //
        },
        packet::{
            counter::Counter,
            header::{
                dissect,
                dissect_plain,
                quoted,
                Bytes,
                Context,
                Needs, //
            },
            verdict::{
                judge,
                Mode,
                Verdict, //
            },
        },
        table::Entry, //
    },
};

/// The state of a network namespace.
pub(crate) struct NetState {
    handle: NetHandle,
    view: Pointer<View<Slot>>,
    counters: Counters<{ Counter::COUNT }>,
    notices: Notices,
    /// Whether there was no room for the hooks.
    without_hooks: Atomic<bool>,
    /// The number of packets that conntrack had dropped when ctskip came.
    dropped_before: u64,
}

impl NetState {
    /// The state of the namespace of `handle`, decided by `view` at first.
    pub(crate) fn new(handle: NetHandle, view: Shared<View<Slot>>) -> Result<Self> {
        let usage = handle.with(conntrack::usage).flatten();
        Ok(Self {
            handle,
            view: Pointer::new(view),
            counters: Counters::new()?,
            notices: Notices::new(),
            without_hooks: Atomic::new(false),
            dropped_before: usage.map_or(0, |usage| usage.drop),
        })
    }

    /// Takes note that there is no room for the hooks: no packet comes.
    pub(crate) fn set_without_hooks(&self) {
        self.without_hooks.store(true, ordering::Relaxed);
    }

    /// Returns whether the hooks are there.
    pub(crate) fn has_hooks(&self) -> bool {
        !self.without_hooks.load(ordering::Relaxed)
    }

    /// Returns how many of the `all` packets that conntrack has dropped, it dropped since ctskip came.
    ///
    /// It counts from zero where nf_conntrack was loaded anew.
    pub(crate) fn dropped_since(&self, all: u64) -> u64 {
        all.checked_sub(self.dropped_before).unwrap_or(all)
    }

    /// The namespace.
    pub(crate) fn handle(&self) -> &NetHandle {
        &self.handle
    }

    /// Has the packets from now on decided by `view`.
    pub(crate) fn publish(&self, view: Shared<View<Slot>>) {
        drop(self.view.swap(view));
        self.notices.reset();
    }

    /// Notes that a notice is logged, and returns whether it was since the view was published. Any
    /// context.
    pub(crate) fn is_told(&self, notice: Notice) -> bool {
        self.notices.is_told(notice)
    }

    /// Returns the count of a counter, over all CPUs.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.counter(counter).sum()
    }

    /// All that was counted, by the number of the counter.
    pub(crate) fn counts(&self) -> [u64; Counter::COUNT] {
        core::array::from_fn(|index| self.counters.at(index).sum())
    }

    #[inline(always)]
    fn counter(&self, counter: Counter) -> CounterRef<'_> {
        self.counters.at(counter as usize)
    }
}

impl Handler for NetState {
    #[inline(always)]
    fn handle<P: Place>(&self, skb: Skb<'_>, state: HookState<'_>) -> Accept {
        let view = self.view.load(state.rcu());

        view.dispatch(Packet {
            net: self,
            skb,
            state,
            _place: PhantomData::<P>,
        })
    }
}

/// A packet at the hook of `P`.
struct Packet<'a, P> {
    net: &'a NetState,
    skb: Skb<'a>,
    state: HookState<'a>,
    _place: PhantomData<P>,
}

impl<P: Place> Path<Slot> for Packet<'_, P> {
    type Output = Accept;

    #[inline(always)]
    fn idle(self) -> Accept {
        Accept::packet()
    }

    #[inline(always)]
    fn fast<L: Lookup>(self, view: &View<Slot>) -> Accept {
        self.net.fast_path::<P, L>(self.skb, self.state, view)
    }

    #[inline(always)]
    fn slow(self, view: &View<Slot>) -> Accept {
        self.net.slow_path(self.skb, self.state, view)
    }
}

impl NetState {
    /// Decides on a packet as nearly all are: unmarked, with its ports at the usual offset.
    ///
    /// It leaves any other packet to [`Self::slow_path()`], which comes to one result with this path on
    /// all packets. A function of its own, so that the packets of an idle view do not pay for its frame.
    #[inline(never)]
    fn fast_path<P: Place, L: Lookup>(
        &self,
        skb: Skb<'_>,
        state: HookState<'_>,
        view: &View<Slot>,
    ) -> Accept {
        let skb = match skb.untouched() {
            Ok(skb) => skb,
            Err(skb) => return self.slow_path(skb, state, view),
        };
        let context = Context {
            family: P::FAMILY,
            device: match L::NEEDS.has(Needs::DEVICE) {
                true => state.device(P::POINT),
                false => Default::default(),
            },
            mark: skb.mark(),
            icmp_errors: view.icmp_errors(),
            needs: L::NEEDS,
        };
        let Some(key) = dissect_plain(&skb, &context) else {
            return self.slow_path(skb.into_skb(), state, view);
        };
        let is_local = |address| state.is_local(P::FAMILY, P::POINT, address);
        let Some(entry) = L::first_match(view, &key, is_local) else {
            return self.counter(Counter::NoRule).count();
        };
        let nat_may_be_in_use = || state.nat_may_be_in_use(P::FAMILY);

        match judge(entry, false, nat_may_be_in_use) {
            Verdict::NoRule => self.counter(Counter::NoRule).count(),
            Verdict::Track(entry) => skb.count_for(self.counter(Counter::Tracked), entry.slot()),
            Verdict::Held(entry) => self.guard(skb, state, entry),
            Verdict::Skip { entry, .. } => skb.skip(self.counter(Counter::Skipped), entry.slot()),
        }
    }

    /// Skips a packet unless NAT is in use.
    #[cold]
    #[inline(never)]
    fn guard(&self, skb: Unmarked<'_>, state: HookState<'_>, entry: &Entry<Slot>) -> Accept {
        match state.nat_in_use(state.family()) {
            true => self.hold(entry),
            false => skb.skip(self.counter(Counter::Skipped), entry.slot()),
        }
    }

    /// Leaves a packet of a rule tracked, as NAT is in use.
    fn hold(&self, entry: &Entry<Slot>) -> Accept {
        self.notices.tell(Notice::Held, &self.handle);
        entry.slot().hold(self.counter(Counter::Held))
    }

    /// Decides on any packet, by any view that is not idle.
    #[cold]
    #[inline(never)]
    fn slow_path(&self, skb: Skb<'_>, state: HookState<'_>, view: &View<Slot>) -> Accept {
        let skb = match skb.unmarked() {
            Ok(skb) => skb,
            Err(Marked::Entry) => return self.counter(Counter::Entry).count(),
            Err(Marked::Template) => {
                self.notices.tell(Notice::Template, &self.handle);
                return self.counter(Counter::Template).count();
            }
            Err(Marked::Untracked) => return self.counter(Counter::Untracked).count(),
        };
        let context = Context {
            family: state.family(),
            device: match view.needs().has(Needs::DEVICE) {
                true => state.device(state.point()),
                false => Default::default(),
            },
            mark: skb.mark(),
            icmp_errors: view.icmp_errors(),
            needs: view.needs(),
        };
        let Some(key) = dissect(&skb, &context) else {
            return self.counter(Counter::Unread).count();
        };
        let quoted = match key.error {
            true => quoted(&skb, &key),
            false => None,
        };
        let is_local = |address| state.is_local(context.family, state.point(), address);
        let nat_in_use = || state.nat_in_use(context.family);

        match view.decide(&key, quoted.as_ref(), is_local, nat_in_use) {
            Verdict::NoRule => self.counter(Counter::NoRule).count(),
            Verdict::Track(entry) => skb.count_for(self.counter(Counter::Tracked), entry.slot()),
            Verdict::Held(entry) => self.hold(entry),
            Verdict::Skip { entry, followed } => {
                if followed {
                    let _ = self.counter(Counter::Followed).count();
                }
                match view.mode() {
                    Mode::Skip => skb.skip(self.counter(Counter::Skipped), entry.slot()),
                    _ => entry.slot().observe(self.counter(Counter::Observed)),
                }
            }
        }
    }
}

impl Bytes for Unmarked<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.header(u32::try_from(offset).ok()?)
    }

    #[inline(always)]
    fn read_in_place<const N: usize>(&self) -> Option<[u8; N]> {
        self.linear_header()
    }
}
