// SPDX-License-Identifier: GPL-2.0

//! What is in force: a table with its matcher, and the views of it that decide the packets.
//!
//! Rules hold in scopes: the initial namespace, all others, or single ones. A namespace's packets are
//! decided by the view of its scope, which all namespaces of a scope share.
//!
//! All of it is made in process context, aside, and never changes then: it is replaced as a whole
//! ([`Nets::publish()`](crate::nets::Nets::publish)). What readers are told of a table beside its rules has
//! locks of its own: each is held while that is made, inside of no other lock, and none is taken inside of
//! it.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

use pin_init::init_array_from_fn;

use crate::{
    linux::{
        net::NetHandle,
        percpu::Slot,
        rcu::Shared,
        task,
        workqueue::Handle, //
    },
    pure::{
        alloc,
        matcher::{
            limits::{
                Limits,
                Stop, //
            },
            linear::{
                LinearRow,
                LinearTable, //
            },
            plan::{
                Plan,
                View, //
            },
            ruleset::Ruleset,
            scope::Scope,
            shadow::Shadows, //
        },
        packet::verdict::Mode,
        table::{
            listing::{
                counter_lines,
                Listing,
                Offsets,
                Tags, //
            },
            Change,
            Table, //
        },
    },
};

/// A compiled table, and what readers are told of it.
#[pin_data]
pub(crate) struct Published {
    /// The rules, and their matcher.
    pub(crate) ruleset: alloc::Arc<Ruleset<Slot>>,
    /// The number of commits up to this one.
    pub(crate) generation: u64,
    /// Each is made for the first reader.
    #[pin]
    listing: Mutex<Option<Arc<Listing>>>,
    #[pin]
    counter_lines: Mutex<Option<Arc<Offsets>>>,
    #[pin]
    tags: Mutex<Option<Arc<Tags>>>,
    #[pin]
    shadows: Mutex<Option<Arc<Shadows>>>,
}

/// Returns what `place` holds. Where that is nothing yet, `make` makes it. Who waits for another one that makes
/// it may be killed.
///
/// Fails with `ENOMEM`; with `EINTR` where a signal ends the task, and with `ENODEV` where the module goes.
fn made<T>(
    place: &Mutex<Option<Arc<T>>>,
    make: impl FnOnce() -> Result<T, Stop>,
) -> Result<Arc<T>> {
    let mut place = task::lock_killable(place)?;
    if let Some(made) = &*place {
        return Ok(made.clone());
    }
    let made = make().map_err(|stop| match stop {
        Stop::Interrupted if task::current_is_killed() => EINTR,
        Stop::Interrupted => ENODEV,
        Stop::NoMemory | Stop::TooLarge | Stop::PurgeTooLarge => ENOMEM,
    })?;
    Ok(place.insert(Arc::new(made, GFP_KERNEL)?).clone())
}

impl Published {
    /// Compiles the table of `change`, a change of `last`'s. Only what differs is compiled, if that is little.
    ///
    /// Process context; takes up to seconds.
    #[inline(never)]
    pub(crate) fn new(
        change: Change<Slot>,
        generation: u64,
        last: Option<&Ruleset<Slot>>,
        limits: &dyn Limits,
    ) -> Result<Arc<Self>, Stop> {
        let ruleset = match last {
            None => Ruleset::compile(alloc::Arc::new(change.table)?, limits)?,
            Some(last) => last.changed(change, limits)?,
        };
        let ruleset = alloc::Arc::new(ruleset)?;
        let published = pin_init!(Self {
            ruleset,
            generation,
            listing <- new_mutex!(None),
            counter_lines <- new_mutex!(None),
            tags <- new_mutex!(None),
            shadows <- new_mutex!(None),
        });
        Arc::pin_init(published, GFP_KERNEL).map_err(|_| Stop::NoMemory)
    }

    /// Returns the rules in order.
    pub(crate) fn table(&self) -> &Table<Slot> {
        self.ruleset.table()
    }

    /// Returns the places of the lines of `rules`, and the sum of their text.
    ///
    /// The first call writes all of the text to find them. Fails with `ENOMEM`, or `EINTR`.
    pub(crate) fn listing(&self) -> Result<Arc<Listing>> {
        made(&self.listing, || Ok(Listing::new(self.table())?))
    }

    /// Returns the places of the lines of `counters`, the room for their numbers left out. As
    /// [`Self::listing()`]. `shadows` are those of [`Self::shadows()`].
    pub(crate) fn counter_lines(&self, shadows: &Shadows) -> Result<Arc<Offsets>> {
        let shadow = |position| shadows.at(position);
        made(&self.counter_lines, || {
            Ok(counter_lines(self.table(), shadow)?)
        })
    }

    /// Returns the tags of the rules, with the sum of each. As [`Self::listing()`].
    pub(crate) fn tags(&self) -> Result<Arc<Tags>> {
        made(&self.tags, || Ok(Tags::new(self.table())?))
    }

    /// Returns the rules that others shadow. As [`Self::listing()`]; where `limits` end the search, fails with
    /// `EINTR` or `ENODEV`.
    pub(crate) fn shadows(&self, limits: &dyn Limits) -> Result<Arc<Shadows>> {
        made(&self.shadows, || Shadows::of(&self.ruleset, limits))
    }
}

/// Returns the view that a namespace of `scope` has of `ruleset`, made where it stays.
fn view(
    ruleset: &alloc::Arc<Ruleset<Slot>>,
    scope: Scope,
    mode: Mode,
    icmp_errors: bool,
) -> impl Init<View<Slot>> {
    let (ruleset, sections) = (ruleset.clone(), ruleset.sections(scope));
    let linear = init!(LinearTable {
        rows <- init_array_from_fn(|_| LinearRow::END),
    });
    let view = init!(View {
        plan: Plan::Idle,
        mode,
        icmp_errors,
        ruleset,
        sections,
        linear <- linear,
    });
    view.chain(move |view| {
        view.fill(scope);
        Ok(())
    })
}

/// A view for each scope.
struct Views {
    init: Shared<View<Slot>>,
    other: Shared<View<Slot>>,
    /// In the order of [`Scope::Named`].
    named: KVVec<Shared<View<Slot>>>,
}

/// A table, the mode, and the views that follow from both.
pub(crate) struct InForce {
    published: Arc<Published>,
    mode: Mode,
    views: Views,
}

impl InForce {
    /// Makes the views of `published`. They are freed by `queue`, after a grace period.
    ///
    /// Fails with `ENOMEM`.
    #[inline(never)]
    pub(crate) fn new(
        queue: &Handle,
        published: Arc<Published>,
        mode: Mode,
        icmp_errors: bool,
    ) -> Result<Self> {
        let ruleset = &published.ruleset;
        let view = |scope| {
            let view = view(ruleset, scope, mode, icmp_errors);
            Shared::new(view, queue.clone(), GFP_KERNEL_ACCOUNT)
        };
        let mut named = KVVec::new();
        for number in 0..ruleset.named().count() {
            named.push(view(Scope::Named(number))?, GFP_KERNEL)?;
        }
        let views = Views {
            init: view(Scope::Init)?,
            other: view(Scope::Other)?,
            named,
        };
        Ok(Self {
            published,
            mode,
            views,
        })
    }

    /// Returns the table.
    pub(crate) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Returns the mode.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the scope of a namespace: which rules hold there.
    pub(crate) fn scope(&self, net: &NetHandle) -> Scope {
        let ruleset = &self.published.ruleset;
        ruleset.scope(net.is_init(), net.id().cookie)
    }

    /// Returns the view for the packets of a scope.
    pub(crate) fn view(&self, scope: Scope) -> &Shared<View<Slot>> {
        match scope {
            Scope::Init => &self.views.init,
            Scope::Other => &self.views.other,
            Scope::Named(number) => self.views.named.get(number).unwrap_or(&self.views.other),
        }
    }

    /// Returns the number of namespaces that rules name.
    pub(crate) fn named(&self) -> usize {
        self.views.named.len()
    }
}
