// SPDX-License-Identifier: GPL-2.0

//! The way of a packet: from the hook to the verdict and the mark.
//!
//! Runs in softirq or process context under RCU. It takes no lock, allocates nothing, and writes to
//! the packet's `_nfct` and to per-CPU counters only.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    control::Control,
    netfilter::{
        Handler,
        HookState, //
    },
    percpu::{
        Count,
        Counters,
        Slot,
        Slots, //
    },
    pernet::{
        self,
        NetHandle,
        PerNet, //
    },
    pure::{
        alloc,
        header::{
            dissect,
            quoted,
            Bytes,
            Context, //
        },
        rule::{
            Family,
            HookPoint, //
        },
        ruleset::{
            Ruleset,
            Scope, //
        },
        verdict::{
            decide,
            Mode,
            Verdict, //
        },
    },
    rcu::{
        Pointer,
        ReadSide,
        Shared, //
    },
    skb::{
        Conntrack,
        Skb, //
    },
};

/// What a namespace counts.
#[derive(Clone, Copy)]
pub(crate) enum Counter {
    /// Packets looked at while rules hold here.
    Seen,
    /// Packets kept out of conntrack.
    Skipped,
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
    /// ICMP errors that followed a skipped flow.
    Followed,
}

impl Counter {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Followed as usize + 1;
}

/// What a namespace's packets are decided by.
pub(crate) struct View {
    /// The rules of all namespaces.
    pub(crate) ruleset: alloc::Arc<Ruleset<Slot>>,
    /// Those of them that hold here.
    pub(crate) scope: Scope,
    /// What is made of them.
    pub(crate) mode: Mode,
    /// Whether ICMP errors follow the packet that they quote.
    pub(crate) icmp_errors: bool,
    /// Whether nothing is to be done: no rule holds here, or the mode is off.
    pub(crate) idle: bool,
    /// What the rules' packets are counted in.
    pub(crate) slots: Arc<Slots>,
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
        self.count_at(counter as usize)
    }

    /// What was counted by the counter of that number.
    pub(crate) fn count_at(&self, index: usize) -> u64 {
        self.counters.sum(index)
    }
}

impl Handler for NetState {
    #[inline(always)]
    fn handle(
        &self,
        family: Family,
        point: HookPoint,
        skb: &mut Skb<'_>,
        state: &HookState<'_>,
        rcu: &ReadSide,
    ) {
        let view = self.view.load(rcu);
        if view.idle {
            return;
        }
        let left_alone = match skb.conntrack() {
            Conntrack::Absent => None,
            Conntrack::Entry => Some(Counter::Entry),
            Conntrack::Template => Some(Counter::Template),
            Conntrack::Untracked => Some(Counter::Untracked),
        };
        if let Some(counter) = left_alone {
            return self.seen(Some(counter));
        }
        let context = Context {
            family,
            point,
            device: match view.ruleset.names_devices() {
                true => state.device(),
                false => Default::default(),
            },
            mark: skb.mark(),
            icmp_errors: view.icmp_errors,
        };
        let Some(key) = dissect(&*skb, &context) else {
            return self.seen(None);
        };
        let nat_in_use = || state.nat_in_use(family, rcu);
        let quoted = || quoted(&*skb, &key);
        let verdict = decide(&view.ruleset, view.scope, &key, quoted, nat_in_use);
        let (entry, counter, count) = match verdict {
            Verdict::NoRule => return self.seen(None),
            Verdict::Track(entry) => (entry, Counter::Tracked, Count::Packet(skb.len())),
            Verdict::Held(entry) => (entry, Counter::Held, Count::Held),
            Verdict::Skip { entry, followed } => {
                if followed {
                    self.counters.count(Counter::Followed as usize, None);
                }
                let counter = match view.mode {
                    Mode::Skip if skb.set_untracked() => Counter::Skipped,
                    _ => Counter::Observed,
                };
                (entry, counter, Count::Packet(skb.len()))
            }
        };
        view.slots.count(
            &self.counters,
            Counter::Seen as usize,
            Some(counter as usize),
            entry.slot().at(),
            count,
        );
    }
}

impl NetState {
    /// Counts a packet that no rule has decided.
    #[inline(always)]
    fn seen(&self, counter: Option<Counter>) {
        self.counters.count(
            Counter::Seen as usize,
            counter.map(|counter| counter as usize),
        );
    }
}

impl Bytes for Skb<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut buf = [0; N];
        self.header(u32::try_from(offset).ok()?, &mut buf).copied()
    }
}

/// Where the registration is kept.
static SLOT: pernet::Slot<NetState> = pernet::Slot::new();

impl PerNet for NetState {
    type Shared = Control;

    fn slot() -> &'static pernet::Slot<Self> {
        &SLOT
    }

    fn init(net: NetHandle, control: &Arc<Control>) -> Result<Arc<Self>> {
        control.join(net)
    }

    fn exit(this: &Arc<Self>, control: &Arc<Control>) {
        control.leave(this);
    }
}
