// SPDX-License-Identifier: GPL-2.0

//! The registry of the network namespaces, and what is in force in them.
//!
//! One lock, `state`, guards what must change together: a namespace joins, leaves, or is given another
//! view. The making and the end of every namespace wait for it, so it is held for moments: nothing is
//! allocated, freed or compiled under it, and no namespace is looked at ([`NetHandle::with()`]). It is
//! taken in process context. It nests inside the writer's lock ([`crate::writer`]); no lock is taken
//! inside of it.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

use crate::{
    linux::{
        net::{
            self,
            NetHandle, //
        },
        percpu::Slot,
        rcu::Shared, //
    },
    notice,
    packet::NetState,
    publish::{
        InForce,
        Published, //
    },
    pure::{
        alloc::NoMemory,
        matcher::{
            plan::View,
            ruleset::Ruleset,
            scope::Scope, //
        },
        packet::{
            conn::Purged,
            counter::Counter,
            verdict::Mode, //
        },
        rule::{
            Namespaces,
            Netns,
            NetnsId,
            NoNetns, //
        },
        table::show::NetnsLine,
    },
};

/// All namespaces that packets are handled in.
#[pin_data]
pub(crate) struct Nets {
    #[pin]
    state: Mutex<Registry>,
}

/// The namespaces, and what is in force in them: guarded by the lock.
struct Registry {
    in_force: InForce,
    /// In the order in which they came.
    nets: KVVec<Arc<NetState>>,
    /// The number of namespaces that have left `nets`: those behind them have moved up then.
    left: u64,
    /// The number of namespaces without room for the hooks.
    without_hooks: usize,
    /// The length of the lines of `netns`. It grows where a line needs more.
    line_len: usize,
    /// The number of digits that the lines of `counters` have room for. It grows likewise.
    counter_room: usize,
    /// Whether namespaces leave because the module does.
    unloading: bool,
    past: Past,
    /// What all purges have done.
    purged: Purged,
}

/// What the namespaces that are gone have counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Past {
    /// By the number of the counter.
    pub(crate) counts: [u64; Counter::COUNT],
    /// The skipped packets of those where conntrack was off at the end.
    pub(crate) skipped_without_ct: u64,
}

impl Registry {
    /// Returns the view for the packets of a namespace.
    fn view(&self, net: &NetHandle) -> Shared<View<Slot>> {
        self.in_force.view(self.in_force.scope(net)).clone()
    }
}

impl Nets {
    /// Makes a registry of no namespaces.
    pub(crate) fn new(in_force: InForce) -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(Registry {
                in_force,
                nets: KVVec::new(),
                left: 0,
                without_hooks: 0,
                line_len: NetnsLine::LEN,
                counter_room: 0,
                unloading: false,
                past: Past::default(),
                purged: Purged::default(),
            }),
        })
    }

    /// Makes the state of a new namespace and registers it. Fails with `ENOMEM`.
    ///
    /// Builds no table: no rule names it yet.
    pub(crate) fn join(&self, net: NetHandle) -> Result<Arc<NetState>> {
        let first = self.state.lock().view(&net);
        // Allocated without the lock, which all namespaces' making and end wait for.
        let net = Arc::new(NetState::new(net, first)?, GFP_KERNEL_ACCOUNT)?;
        let mut larger = KVVec::new();
        loop {
            let mut state = self.state.lock();
            let count = state.nets.len();
            if count < larger.capacity() {
                for net in state.nets.drain_all() {
                    // Cannot fail: there is room for more.
                    let _ = larger.push_within_capacity(net);
                }
                core::mem::swap(&mut state.nets, &mut larger);
            }
            if state.nets.push_within_capacity(net.clone()).is_ok() {
                net.publish(state.view(net.handle()));
                return Ok(net);
            }
            drop(state);
            larger = KVVec::with_capacity(count.saturating_mul(2).max(8), GFP_KERNEL)?;
        }
    }

    /// Decides whether the module may do without its hooks in `net`, which has no room for them, and
    /// logs it. It notes that there are none.
    ///
    /// It may, except in the initial namespace: otherwise whoever has a namespace could keep the module
    /// from all others. Fails with `E2BIG`.
    pub(crate) fn no_room(&self, net: &NetState) -> Result {
        /// The number of namespaces that the log names: anyone may make many.
        const MOST: usize = 16;

        if net.handle().is_init() {
            pr_err!("netns init: no room for a hook, see nft list hooks\n");
            return Err(E2BIG);
        }
        let mut state = self.state.lock();
        let count = state.without_hooks;
        state.without_hooks = count.saturating_add(1);
        drop(state);
        net.set_without_hooks();
        match count {
            0..MOST => pr_warn!(
                "netns {}: no room for a hook, so no rule acts there\n",
                format_args!("{}", net.handle()),
            ),
            MOST => pr_warn!("further namespaces have no room for a hook\n"),
            _ => {}
        }
        Ok(())
    }

    /// Forgets a namespace that ends, and keeps its counts.
    ///
    /// Returns whether rules name it, which are to be taken out then.
    pub(crate) fn leave(&self, net: &Arc<NetState>) -> bool {
        // Without the lock: see the head of this file.
        let without_ct = net.handle().with(|net| !net.conntrack_in_use()) == Some(true);
        let mut state = self.state.lock();
        if let Some(at) = state.nets.iter().position(|other| Arc::ptr_eq(other, net)) {
            // Cannot fail: the index was just found.
            let _ = state.nets.remove(at);
            let counts = net.counts();
            for (past, count) in state.past.counts.iter_mut().zip(counts) {
                *past = past.wrapping_add(count);
            }
            if without_ct {
                let past = &mut state.past.skipped_without_ct;
                *past = past.wrapping_add(Counter::Skipped.of(&counts));
            }
            state.left = state.left.wrapping_add(1);
        }
        !state.unloading && matches!(state.in_force.scope(net.handle()), Scope::Named(_))
    }

    /// Has the rules for namespaces kept from now on, as all namespaces are about to leave.
    pub(crate) fn unload(&self) {
        self.state.lock().unloading = true;
    }

    /// Returns whether namespaces leave because the module does.
    pub(crate) fn is_unloading(&self) -> bool {
        self.state.lock().unloading
    }

    /// Has all namespaces' packets decided by `next` from now on, if the table `last` is in force, and
    /// `mode`; [`None`] where another one has come into force since.
    ///
    /// Returns whether rules name a namespace that is gone: one may go between the parsing of its name
    /// and now.
    pub(crate) fn publish(&self, next: InForce, last: &Arc<Published>, mode: Mode) -> Option<bool> {
        // Dropped behind the lock: the last reference on a table takes its time.
        let _last;
        let mut state = self.state.lock();
        if !Arc::ptr_eq(state.in_force.published(), last) || state.in_force.mode() != mode {
            _last = next;
            return None;
        }
        _last = core::mem::replace(&mut state.in_force, next);
        let mut named = 0usize;
        for net in &state.nets {
            let scope = state.in_force.scope(net.handle());
            named = named.saturating_add(usize::from(matches!(scope, Scope::Named(_))));
            net.publish(state.in_force.view(scope).clone());
        }
        let one_is_gone = named < state.in_force.named();
        notice::reset();
        drop(state);
        Some(one_is_gone)
    }

    /// Returns the table in force, and the mode.
    pub(crate) fn published(&self) -> (Arc<Published>, Mode) {
        let state = self.state.lock();
        (state.in_force.published().clone(), state.in_force.mode())
    }

    /// Returns the namespace at `index`, and how many namespaces have left so far.
    pub(crate) fn net(&self, index: usize) -> (Option<Arc<NetState>>, u64) {
        let state = self.state.lock();
        (state.nets.get(index).cloned(), state.left)
    }

    /// Returns the number of namespaces, and how many of them have no room for the hooks.
    pub(crate) fn count(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.nets.len(), state.without_hooks)
    }

    /// Returns the length of the lines of `netns`, and makes it `room` where that is more.
    pub(crate) fn line_len(&self, room: usize) -> usize {
        let mut state = self.state.lock();
        state.line_len = state.line_len.max(room);
        state.line_len
    }

    /// Returns the number of digits that the lines of `counters` have room for, and makes it `room` where that
    /// is more.
    pub(crate) fn counter_room(&self, room: usize) -> usize {
        let mut state = self.state.lock();
        state.counter_room = state.counter_room.max(room);
        state.counter_room
    }

    /// Returns all namespaces, in the order in which they came, and what those that are gone have counted.
    ///
    /// Both are of one time, so that the counts of each namespace are in one of them. Fails with `ENOMEM`.
    pub(crate) fn nets(&self) -> Result<(KVVec<Arc<NetState>>, Past)> {
        let mut nets = KVVec::new();
        loop {
            let state = self.state.lock();
            let count = state.nets.len();
            if count <= nets.capacity() {
                for net in &state.nets {
                    // Cannot fail: there is room.
                    let _ = nets.push_within_capacity(net.clone());
                }
                return Ok((nets, state.past));
            }
            // As in `join()`. Some more, as namespaces may come meanwhile.
            drop(state);
            nets = KVVec::with_capacity(count.saturating_add(8), GFP_KERNEL)?;
        }
    }

    /// Returns whether rules act, by the mode, and will for now: the module does not go.
    pub(crate) fn rules_act(&self) -> bool {
        let state = self.state.lock();
        state.in_force.mode() == Mode::Skip && !state.unloading
    }

    /// Counts what a purge has done.
    pub(crate) fn count_purged(&self, purged: &Purged) {
        self.state.lock().purged.add(purged);
    }

    /// Returns what all purges have done since the module was loaded.
    pub(crate) fn purged(&self) -> Purged {
        self.state.lock().purged
    }

    /// Returns for each namespace that rules of `ruleset` name, in the order of [`Scope::Named`],
    /// whether it is still there; [`None`] where all are, and on unload, when all leave.
    ///
    /// Goes through the namespaces once, however many rules there are.
    pub(crate) fn still_there(
        &self,
        ruleset: &Ruleset<Slot>,
    ) -> Result<Option<KVVec<bool>>, NoMemory> {
        let count = ruleset.named().count();
        let mut is_there = KVVec::from_elem(false, count, GFP_KERNEL).map_err(|_| NoMemory)?;
        let state = self.state.lock();
        if state.unloading {
            return Ok(None);
        }
        for net in &state.nets {
            let (is_init, id) = (net.handle().is_init(), net.handle().id());
            let Scope::Named(number) = ruleset.scope(is_init, id.cookie) else {
                continue;
            };
            if let Some(is_there) = is_there.get_mut(number) {
                *is_there = true;
            }
        }
        drop(state);
        let all = is_there.iter().all(|is_there| *is_there);
        Ok((!all).then_some(is_there))
    }

    /// Returns how rules name the first namespace whose names are `wanted`.
    fn find(&self, wanted: impl Fn(NetnsId) -> bool) -> Option<Netns> {
        let state = self.state.lock();
        let net = state.nets.iter().find(|net| wanted(net.handle().id()))?;
        let NetnsId { cookie, inum } = net.handle().id();
        Some(match net.handle().is_init() {
            true => Netns::Init,
            false => Netns::Only(NetnsId { cookie, inum }),
        })
    }
}

impl Namespaces for Nets {
    fn by_inum(&self, inum: u32) -> Option<Netns> {
        self.find(|id| id.inum == inum)
    }

    fn by_pid(&self, pid: u32) -> Option<Netns> {
        let found = net::find_by_pid(pid.try_into().ok()?).ok()?;
        self.find(|id| id == found)
    }

    fn by_path(&self, folder: &str, name: &[u8]) -> core::result::Result<Netns, NoNetns> {
        // This folder is in memory, and a file that is not there must be told from one that was not found
        // in time.
        let in_folder = match folder {
            "" => name.strip_prefix(b"/run/netns/"),
            _ => Some(name),
        };
        let is_cached = in_folder.is_none_or(|name| name.contains(&b'/'));
        let found = net::with_file(&[folder.as_bytes(), name], is_cached, |inum| {
            self.find(|id| id.inum == inum)
        });
        match found {
            Ok(Some(netns)) => Ok(netns),
            Ok(None) => Err(NoNetns::Other),
            Err(error) if error == ENOENT || error == ENOTDIR => Err(NoNetns::Missing),
            Err(error) if error == EINVAL => Err(NoNetns::Other),
            // Of memory, of permission, in time: it may well be there.
            Err(_) => Err(NoNetns::NotCached),
        }
    }
}
