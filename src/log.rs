// SPDX-License-Identifier: GPL-2.0

//! The lines of the kernel's log that a change of the table leaves.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use kernel::prelude::*;

use crate::{
    linux::task::TaskName,
    nets::Nets,
    purge::{
        End,
        Outcome, //
    },
    pure::{
        language::report::Report,
        matcher::held::{
            Families,
            HeldRules,
            MayBeHeld, //
        },
        packet::{
            conn::Kept,
            verdict::Mode, //
        },
        rule::Family,
    },
};

/// A commit that was made.
pub(crate) struct Commit {
    /// The number of the table that it made.
    pub(crate) generation: u64,
    /// The number of rules that were not in the table before.
    pub(crate) added: usize,
    /// The number of rules that are not in the table any more.
    pub(crate) removed: usize,
}

/// Logs a commit, and who or what made it.
pub(crate) fn commit(commit: Commit, why: impl Display) {
    pr_info!(
        "generation {}: +{} -{} rules, {}\n",
        commit.generation,
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
            End::Stopped => "; not finished: the mode has changed",
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

/// Logs why the parameter `rules` is refused.
pub(crate) fn refused_parameter(report: &Report) {
    let refusal = report.refusal();
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

/// Logs which rules of the table in force the NAT guard holds, and in which namespaces.
///
/// Process context; no lock may be held under which a namespace is looked at. Goes through the rules
/// where NAT is in use anywhere, once for all namespaces, and again for those few that are logged.
/// Without the memory for it, the log does without.
pub(crate) fn held(nets: &Nets) {
    let _ = log_held(nets);
}

/// As [`held()`]. Fails with `ENOMEM`.
fn log_held(nets: &Nets) -> Result {
    /// The number of namespaces that are logged.
    const MOST: usize = 16;

    let (all, _) = nets.nets()?;
    let (published, _) = nets.published();
    let ruleset = &*published.ruleset;
    let mut may_be_held = None;
    let mut logged = 0usize;
    for net in &all {
        let handle = net.handle();
        let nat = |family| handle.with(|net| net.nat_in_use(family)) == Some(true);
        let families = Families {
            ipv4: nat(Family::Ipv4),
            ipv6: nat(Family::Ipv6),
        };
        if families.is_empty() {
            continue;
        }
        let rules = match &mut may_be_held {
            Some(found) => found,
            None => {
                let found = MayBeHeld::new(ruleset).map_err(|_| ENOMEM)?;
                may_be_held.insert(found)
            }
        };
        let scope = ruleset.scope(handle.is_init(), handle.id().cookie);
        if !rules.in_scope(scope).meet(families) {
            continue;
        }
        if logged == MOST {
            pr_info!("rules are held in further namespaces: see the file netns\n");
            break;
        }
        logged = logged.saturating_add(1);
        let held = HeldRules {
            ruleset,
            scope,
            families,
        };
        pr_info!(
            "rules {} are held in netns {}: NAT is in use there, and they do not say nat=ok\n",
            format_args!("{held}"),
            handle.id().inum,
        );
    }
    Ok(())
}
