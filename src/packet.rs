// SPDX-License-Identifier: GPL-2.0

//! The way of a packet: from the hook to the verdict and the mark.
//!
//! Runs in softirq or process context under RCU. It takes no lock, allocates nothing, and writes to
//! the packet's mark of conntrack (`nf_ct_set()`) and to per-CPU counters only.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    control::Control,
    linux::{
        accept::Accept,
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
        pernet::{
            impl_has_slot,
            PerNet, //
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
    pure::{
        alloc,
        matcher::{
            linear::{
                Few,
                Other, //
            },
            ruleset::{
                Ruleset,
                Scope,
                Sections, //
            },
        },
        packet::{
            header::{
                dissect,
                dissect_plain,
                quoted,
                Bytes,
                Context,
                Key, //
            },
            verdict::{
                decide,
                judge,
                Mode,
                Verdict, //
            },
        },
        rule::Family,
        table::Entry, //
    },
};

/// What a namespace counts. Each packet counts in one of them, but for [`Self::Followed`].
#[derive(Clone, Copy)]
pub(crate) enum Counter {
    /// Packets kept out of conntrack.
    Skipped,
    /// Packets that no rule matches.
    NoRule,
    /// Packets that would have been, but for `mode=observe`.
    Observed,
    /// Packets that would have been, but for NAT.
    Held,
    /// Packets that a `track` rule left to conntrack.
    Tracked,
    /// Packets that had an entry already.
    Entry,
    /// Packets that had a template.
    Template,
    /// Packets that were untracked already.
    Untracked,
    /// ICMP errors that followed a skipped flow. They count as what was made of them, too.
    Followed,
}

impl Counter {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Followed as usize + 1;

    /// This one among all.
    pub(crate) fn of(self, counts: &[u64; Self::COUNT]) -> u64 {
        counts.get(self as usize).copied().unwrap_or(0)
    }

    /// How many packets were looked at while rules held.
    pub(crate) fn seen(counts: &[u64; Self::COUNT]) -> u64 {
        let all = counts
            .iter()
            .fold(0u64, |sum, count| sum.wrapping_add(*count));
        all.wrapping_sub(Self::Followed.of(counts))
    }
}

/// What a namespace's packets are decided by.
pub(crate) struct View {
    /// Whether a packet may go the straight way: skipping, by rules that are all compiled as one and
    /// name no device.
    straight: bool,
    /// The same, by rules of which those for IPv4 are all in hash tables.
    straight_by_hash: bool,
    /// The same, by rules that are few.
    straight_by_few: bool,
    /// The same, by rules that name devices.
    straight_by_device: bool,
    /// The same, by rules of which some have changed since all were compiled, whatever they name.
    straight_by_change: bool,
    /// Whether nothing is to be done: no rule holds here, or the mode is off.
    idle: bool,
    /// What is made of the packets that rules match.
    mode: Mode,
    /// Whether ICMP errors follow the packet that they quote.
    icmp_errors: bool,
    /// The rules of all namespaces.
    ruleset: alloc::Arc<Ruleset<Slot>>,
    /// Those of them that hold here.
    sections: Sections,
    /// The same, where they are few.
    few: Few<Slot>,
}

impl View {
    /// The view that the packets of `scope` have of `ruleset`.
    pub(crate) fn new(
        ruleset: alloc::Arc<Ruleset<Slot>>,
        scope: Scope,
        mode: Mode,
        icmp_errors: bool,
    ) -> Self {
        let idle = mode == Mode::Off || ruleset.len_in(scope) == 0;
        let straight = mode == Mode::Skip && !idle;
        let few = Few::of(&ruleset, scope);
        let straight_by_all = straight && few.is_none() && ruleset.is_whole();
        let sections = ruleset.sections(scope);
        let by_device = sections.names_devices();
        let is_hashed = !by_device && ruleset.is_hashed(&sections);

        Self {
            straight: straight_by_all && !by_device && !is_hashed,
            straight_by_hash: straight_by_all && is_hashed,
            straight_by_few: straight && few.is_some(),
            straight_by_device: straight_by_all && by_device,
            straight_by_change: straight && few.is_none() && !ruleset.is_whole(),
            idle,
            mode,
            icmp_errors,
            sections,
            few: few.unwrap_or_else(Few::none),
            ruleset,
        }
    }
}

/// How packets on the straight way are looked up, as a type: the way is made for each.
trait Look {
    /// Whether it takes the device.
    const DEVICES: bool = false;

    /// Decides on the packet of `key`.
    fn decide<'v>(
        view: &'v View,
        key: &Key,
        nat_in_use: impl FnOnce() -> bool,
    ) -> Verdict<'v, Slot>;
}

/// Among any rules.
struct AmongAll<const DEVICES: bool>;

impl<const DEVICES: bool> Look for AmongAll<DEVICES> {
    const DEVICES: bool = DEVICES;

    #[inline(always)]
    fn decide<'v>(
        view: &'v View,
        key: &Key,
        nat_in_use: impl FnOnce() -> bool,
    ) -> Verdict<'v, Slot> {
        let found = view.ruleset.lookup_whole(&view.sections, key);

        decide(&view.ruleset, found, None, nat_in_use)
    }
}

/// Among rules that are in hash tables, for IPv4.
struct AmongHashed;

impl Look for AmongHashed {
    #[inline(always)]
    fn decide<'v>(
        view: &'v View,
        key: &Key,
        nat_in_use: impl FnOnce() -> bool,
    ) -> Verdict<'v, Slot> {
        let found = match key.family {
            Family::Ipv4 => view.ruleset.lookup_hashed(&view.sections, key),
            Family::Ipv6 => view.ruleset.lookup_whole(&view.sections, key),
        };

        decide(&view.ruleset, found, None, nat_in_use)
    }
}

/// Among any rules of which some have changed since all were compiled.
struct AmongChanged;

impl Look for AmongChanged {
    const DEVICES: bool = true;

    #[inline(always)]
    fn decide<'v>(
        view: &'v View,
        key: &Key,
        nat_in_use: impl FnOnce() -> bool,
    ) -> Verdict<'v, Slot> {
        let found = view.ruleset.lookup(&view.sections, key);

        decide(&view.ruleset, found, None, nat_in_use)
    }
}

/// Among few rules.
struct AmongFew;

impl Look for AmongFew {
    #[inline(always)]
    fn decide<'v>(
        view: &'v View,
        key: &Key,
        nat_in_use: impl FnOnce() -> bool,
    ) -> Verdict<'v, Slot> {
        match view.few.first_match(key) {
            Ok(Some(entry)) => judge(entry, false, nat_in_use),
            Ok(None) => Verdict::NoRule,
            Err(Other) => AmongChanged::decide(view, key, nat_in_use),
        }
    }
}

/// The state of a network namespace.
pub(crate) struct NetState {
    handle: NetHandle,
    view: Pointer<View>,
    counters: Counters<{ Counter::COUNT }>,
}

impl NetState {
    /// The state of the namespace of `handle`, decided by `view` at first.
    pub(crate) fn new(handle: NetHandle, view: Shared<View>) -> Result<Self> {
        Ok(Self {
            handle,
            view: Pointer::new(view),
            counters: Counters::new()?,
        })
    }

    /// The namespace.
    pub(crate) fn handle(&self) -> &NetHandle {
        &self.handle
    }

    /// Has the packets from now on decided by `view`.
    pub(crate) fn publish(&self, view: Shared<View>) {
        drop(self.view.swap(view));
    }

    /// What was counted.
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

        if view.straight_by_few {
            return self.straight_way::<P, AmongFew>(skb, state, view);
        }
        if view.idle {
            return Accept::packet();
        }
        if view.straight_by_hash {
            return self.straight_way::<P, AmongHashed>(skb, state, view);
        }
        if view.straight {
            return self.straight_way::<P, AmongAll<false>>(skb, state, view);
        }
        if view.straight_by_device {
            return self.straight_way::<P, AmongAll<true>>(skb, state, view);
        }
        if view.straight_by_change {
            return self.straight_way::<P, AmongChanged>(skb, state, view);
        }
        self.any_way(skb, state, view)
    }
}

impl NetState {
    /// The way of nearly all packets: nobody has marked it, and its ports are where they mostly are.
    ///
    /// Which others there are is told on the way to [`Self::any_way()`], which comes to the same on
    /// these. A function of its own, so that the packets of an idle view don't pay for its frame.
    #[inline(never)]
    fn straight_way<P: Place, L: Look>(
        &self,
        skb: Skb<'_>,
        state: HookState<'_>,
        view: &View,
    ) -> Accept {
        let skb = match skb.untouched() {
            Ok(skb) => skb,
            Err(skb) => return self.any_way(skb, state, view),
        };
        let context = Context {
            family: P::FAMILY,
            point: P::POINT,
            device: match L::DEVICES {
                true => state.device(P::POINT),
                false => Default::default(),
            },
            mark: skb.mark(),
            icmp_errors: view.icmp_errors,
        };
        let Some(key) = dissect_plain(&skb, &context) else {
            return self.any_way(skb.into_skb(), state, view);
        };
        let nat_may_be_in_use = || state.nat_may_be_in_use(P::FAMILY);

        match L::decide(view, &key, nat_may_be_in_use) {
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
            true => entry.slot().hold(self.counter(Counter::Held)),
            false => skb.skip(self.counter(Counter::Skipped), entry.slot()),
        }
    }

    /// The way of any packet by any view that is not idle.
    #[cold]
    #[inline(never)]
    fn any_way(&self, skb: Skb<'_>, state: HookState<'_>, view: &View) -> Accept {
        let skb = match skb.unmarked() {
            Ok(skb) => skb,
            Err(Marked::Entry) => return self.counter(Counter::Entry).count(),
            Err(Marked::Template) => return self.counter(Counter::Template).count(),
            Err(Marked::Untracked) => return self.counter(Counter::Untracked).count(),
        };
        let context = Context {
            family: state.family(),
            point: state.point(),
            device: match view.sections.names_devices() {
                true => state.device(state.point()),
                false => Default::default(),
            },
            mark: skb.mark(),
            icmp_errors: view.icmp_errors,
        };
        let Some(key) = dissect(&skb, &context) else {
            return self.counter(Counter::NoRule).count();
        };
        let look_up = |key: &_| view.ruleset.lookup(&view.sections, key);
        let quoted = match key.error {
            true => quoted(&skb, &key).and_then(|key| look_up(&key)),
            false => None,
        };
        let nat_in_use = || state.nat_in_use(context.family);

        match decide(&view.ruleset, look_up(&key), quoted, nat_in_use) {
            Verdict::NoRule => self.counter(Counter::NoRule).count(),
            Verdict::Track(entry) => skb.count_for(self.counter(Counter::Tracked), entry.slot()),
            Verdict::Held(entry) => entry.slot().hold(self.counter(Counter::Held)),
            Verdict::Skip { entry, followed } => {
                if followed {
                    let _ = self.counter(Counter::Followed).count();
                }
                match view.mode {
                    Mode::Skip => skb.skip(self.counter(Counter::Skipped), entry.slot()),
                    _ => skb.count_for(self.counter(Counter::Observed), entry.slot()),
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

impl_has_slot!(NetState);

impl PerNet for NetState {
    type Shared = Control;

    fn init(net: NetHandle, control: &Arc<Control>) -> Result<Arc<Self>> {
        control.join(net)
    }

    fn no_room(this: &Arc<Self>, control: &Arc<Control>) -> Result {
        control.no_room(this.handle())
    }

    fn exit(this: &Arc<Self>, control: &Arc<Control>) {
        control.leave(this);
    }
}
