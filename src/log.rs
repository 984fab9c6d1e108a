// SPDX-License-Identifier: GPL-2.0

//! The lines of the kernel's log that changes of the table leave, and writes that were refused.
//!
//! No line has a rule's text: who may read the log need not know the table. Only `rules=` has no other
//! place for what is wrong with it.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    linux::{
        net::{
            Net,
            NetHandle, //
        },
        params,
        percpu::Slot,
        ratelimit,
        task::TaskName, //
    },
    nets::Nets,
    notice::{
        Notice,
        MOST, //
    },
    publish::Published,
    pure::{
        language::report::Report,
        matcher::{
            limits::Limits,
            shadow::{
                ShadowedRules,
                Shadows, //
            },
            warning::{
                Families,
                Warned,
                WarnedRules,
                Warning, //
            }, //
        },
        packet::{
            conn::Kept,
            verdict::Mode, //
        },
        rule::Family,
        table::{
            load::LeftOut,
            session::{
                Lost,
                LostLoad, //
            }, //
        },
    },
    purge::{
        End,
        Outcome, //
    },
};

/// A commit that was made.
pub(crate) struct Commit {
    /// The number of rules that were not in the table before.
    pub(crate) added: usize,
    /// The number of rules that are not in the table any more.
    pub(crate) removed: usize,
    /// The table, and the one that it has replaced.
    pub(crate) published: Arc<Published>,
    pub(crate) last: Arc<Published>,
}

/// Logs a commit, and who or what made it.
pub(crate) fn commit(commit: &Commit, why: impl Display) {
    pr_info!(
        "generation {}: +{} -{} rules, {}\n",
        commit.published.generation,
        commit.added,
        commit.removed,
        format_args!("{why}"),
    );
}

/// Logs a purge of the current task: the numbers of rules, of entries deleted, and of those kept.
pub(crate) fn purge(outcome: &Outcome) {
    pr_info!(
        "purge of {} rules, by {}: {}\n",
        outcome.rules,
        format_args!("{}", TaskName::current()),
        format_args!("{}", Entries(outcome)),
    );
}

/// What became of the entries that a purge has looked at.
struct Entries<'a>(&'a Outcome);

impl Display for Entries<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome { purged, end, .. } = self.0;
        if let End::Idle(mode) = end {
            return write!(f, "nothing done, as the mode is {}", mode.name());
        }
        write!(f, "deleted={}", purged.deleted)?;
        for kept in Kept::ALL {
            write!(f, " {}={}", kept.name(), purged.kept(kept))?;
        }
        f.write_str(match end {
            End::NoMemory => "; not finished: out of memory",
            End::Resized => "; not finished: the hash is resized all the time",
            End::OtherMode => "; not finished: the mode has changed",
            End::Unloading => "; not finished: the module goes",
            End::Killed => "; not finished: killed",
            End::Whole | End::Idle(_) => "",
        })
    }
}

/// Logs that the current task has set the mode.
pub(crate) fn mode(mode: Mode) {
    pr_info!(
        "mode {}, by {}\n",
        mode.name(),
        format_args!("{}", TaskName::current())
    );
}

/// Logs that the module is loaded.
pub(crate) fn loaded(nets: &Nets) {
    let (published, mode) = nets.published();
    let (all, without_hooks) = nets.count();
    pr_info!(
        "version {}: mode {}, {} rules, {} namespaces, {} of them without hooks\n",
        params::version(),
        mode.name(),
        published.table().entries().len(),
        all,
        without_hooks,
    );
}

/// Logs a refused write of `writer`, unless many others were logged of late: a script may loop.
pub(crate) fn refused(report: &Report, writer: TaskName) {
    if !ratelimit::refusals() {
        return;
    }
    let refusal = report.refusal();
    let (errno, what) = (refusal.errno.name(), refusal.what);
    match report.line() {
        0 => pr_info!(
            "refused a write by {}: {}: {}\n",
            format_args!("{writer}"),
            errno,
            what,
        ),
        line => pr_info!(
            "refused a write by {}: {}, line {} column {}: {}; see last_error\n",
            format_args!("{writer}"),
            errno,
            line,
            report.column(),
            what,
        ),
    }
}

/// Logs a `load` that was lost, as [`refused()`].
pub(crate) fn lost(load: &LostLoad<TaskName>) {
    if !ratelimit::refusals() {
        return;
    }
    let LostLoad { how, writer, rules } = load;
    match how {
        Lost::Closed => pr_info!(
            "the load by {} is dropped with its {} rules: its file was closed without commit\n",
            format_args!("{writer}"),
            rules,
        ),
        Lost::Superseded => pr_info!(
            "the load by {} is dropped with its {} rules: it was silent for 10 s, and {} took over\n",
            format_args!("{writer}"),
            rules,
            format_args!("{}", TaskName::current()),
        ),
    }
}

/// Logs which rules a `load lenient` of the current task has left out, as [`refused()`].
pub(crate) fn left_out(left_out: LeftOut) {
    if ratelimit::refusals() {
        pr_info!(
            "{} rules of the load by {} are left out, as their namespaces do not exist: the first in line {}\n",
            left_out.rules,
            format_args!("{}", TaskName::current()),
            left_out.line,
        );
    }
}

/// Logs why the parameter `rules` is refused.
#[inline(never)]
pub(crate) fn refused_parameter(report: &Report) {
    let refusal = report.refusal();
    if report.line() == 0 {
        pr_err!("rules: {}: {}\n", refusal.what, report.excerpt());
        pr_err!("rules: expected {}\n", refusal.expected);
        return;
    }
    pr_err!(
        "rules: line {} column {}: {}\n",
        report.line(),
        report.column(),
        refusal.what,
    );
    pr_err!("rules: expected {}\n", refusal.expected);
    if let Some(likely) = &refusal.likely {
        pr_err!("rules: likely {}\n", format_args!("{likely}"));
    }
    pr_err!("rules: {}\n", report.excerpt());
    let caret = report.caret().saturating_add(1);
    pr_err!("rules: {}\n", format_args!("{:>caret$}", "^"));
}

/// Logs that a lookup may cost more than `most` since a commit.
pub(crate) fn too_dear(commit: &Commit, most: usize) {
    let [last, now] = [&commit.last, &commit.published].map(|table| table.ruleset.worst_cost());
    if now > last.max(most) {
        pr_warn!(
            "a lookup may cost {} instructions now, more than worst_lookup={}: the rules that are gone stood ahead of others\n",
            now,
            most,
        );
    }
}

/// Logs which rules are shadowed since a commit: they are new, or a rule ahead of them is.
///
/// Process context; no lock may be held. Without the memory for it, or where `limits` end the search, the log does
/// without.
pub(crate) fn shadowed(commit: &Commit, limits: &dyn Limits) {
    let _ = log_shadowed(&commit.published, &commit.last, limits);
}

/// As [`shadowed()`]. Fails where the log does without.
fn log_shadowed(published: &Published, last: &Published, limits: &dyn Limits) -> Result {
    let since = Shadows::since(&published.ruleset, &last.ruleset, limits).map_err(|_| ENOMEM)?;
    let all = match since {
        Some(_) => None,
        None => Some(published.shadows(limits)?),
    };
    let Some(shadows) = since.as_ref().or(all.as_deref()) else {
        return Ok(());
    };
    if shadows.known().next().is_some() {
        let table = published.table();
        pr_warn!(
            "rules {} never act: a rule ahead matches all that each of them does; counters names it (shadowed_by=)\n",
            format_args!("{}", ShadowedRules { table, shadows }),
        );
    }
    match shadows.unknown() {
        0 => {}
        rules => pr_info!(
            "{} rules were not compared with all rules ahead: too many overlap (shadowed_by=? in counters)\n",
            rules,
        ),
    }
    Ok(())
}

/// Logs which rules of the table in force may not do what is expected, and in which namespaces.
///
/// Process context; no lock may be held under which a namespace is looked at. Goes through the rules
/// where a warning may be due, once for all namespaces, and again for those few that are logged.
/// Without the memory for it, the log does without.
pub(crate) fn warn(nets: &Nets) {
    let nat_in_use = |net: Net<'_>, family| net.nat_in_use(family);
    let forwards = |net: Net<'_>, family| net.forwards(family);
    let _ = log_warning(nets, Warning::Held, nat_in_use);
    let _ = log_warning(nets, Warning::NatOk, nat_in_use);
    let _ = log_warning(nets, Warning::OneDevice, forwards);
}

/// Logs what the rules of a warning may not do in a namespace.
fn log_warned(rules: &WarnedRules<'_, Slot>, net: &NetHandle) {
    match rules.warning {
        Warning::Held => pr_info!(
            "rules {} are held in netns {}: NAT is in use there, and they do not say nat=ok\n",
            format_args!("{rules}"),
            format_args!("{net}"),
        ),
        Warning::NatOk => pr_info!(
            "rules {} say nat=ok, and NAT is in use in netns {}: no flow that is translated there may have an end that the rules name, or its answers go out untranslated\n",
            format_args!("{rules}"),
            format_args!("{net}"),
        ),
        Warning::OneDevice => pr_warn!(
            "rules {} name one device in netns {}, which forwards: packets that come in by another one, as answers do, do not match; name both devices, or say oneway\n",
            format_args!("{rules}"),
            format_args!("{net}"),
        ),
    }
}

/// Logs `warning` for each namespace of which `is_due` is true for a family. Fails with `ENOMEM`.
fn log_warning(nets: &Nets, warning: Warning, is_due: impl Fn(Net<'_>, Family) -> bool) -> Result {
    let (all, _) = nets.nets()?;
    let (published, _) = nets.published();
    let ruleset = &*published.ruleset;
    let mut warned = None;
    let mut logged = 0usize;
    for net in all.iter().filter(|net| net.has_hooks()) {
        let handle = net.handle();
        let scope = ruleset.scope(handle.is_init(), handle.id().cookie);
        if !warning.may_be_about(ruleset.sections(scope).needs()) {
            continue;
        }
        let due = |family| handle.with(|net| is_due(net, family)) == Some(true);
        let families = Families {
            ipv4: due(Family::Ipv4),
            ipv6: due(Family::Ipv6),
        };
        if families.is_empty() {
            continue;
        }
        let rules = match &mut warned {
            Some(found) => found,
            None => {
                let found = Warned::new(warning, ruleset).map_err(|_| ENOMEM)?;
                warned.insert(found)
            }
        };
        if !rules.in_scope(scope).meet(families) {
            continue;
        }
        if warning == Warning::Held {
            net.is_told(Notice::Held);
        }
        logged = logged.saturating_add(1);
        if logged > MOST {
            continue;
        }
        let rules = WarnedRules {
            warning,
            ruleset,
            scope,
            families,
        };
        log_warned(&rules, handle);
    }
    if logged > MOST {
        let what = match warning {
            Warning::Held => "rules are held",
            Warning::NatOk => "rules say nat=ok, and NAT is in use,",
            Warning::OneDevice => "rules name one device",
        };
        pr_info!("{} in further namespaces: see the file netns\n", what);
    }
    Ok(())
}
