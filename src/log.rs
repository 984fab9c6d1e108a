// SPDX-License-Identifier: GPL-2.0

//! The lines of the kernel's log that a change of the table leaves.

use core::fmt::Display;

use kernel::prelude::*;

use crate::{
    linux::{
        net::Net,
        task::TaskName, //
    },
    nets::Nets,
    notice::{
        self,
        Notice,
        MOST, //
    },
    pure::{
        language::report::Report,
        matcher::warning::{
            Families,
            Warned,
            WarnedRules,
            Warning, //
        },
        packet::verdict::Mode,
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

/// Logs which rules of the table in force may not do what is expected, and in which namespaces.
///
/// Process context; no lock may be held under which a namespace is looked at. Goes through the rules
/// where a warning may be due, once for all namespaces, and again for those few that are logged.
/// Without the memory for it, the log does without.
pub(crate) fn warn(nets: &Nets) {
    notice::reset();
    let nat_in_use = |net: Net<'_>, family| net.nat_in_use(family);
    let forwards = |net: Net<'_>, family| net.forwards(family);
    let _ = log_warning(nets, Warning::Held, nat_in_use);
    let _ = log_warning(nets, Warning::NatOk, nat_in_use);
    let _ = log_warning(nets, Warning::OneDevice, forwards);
}

/// Logs `warning` for each namespace of which `is_due` is true for a family. Fails with `ENOMEM`.
fn log_warning(
    nets: &Nets,
    warning: Warning,
    is_due: impl Fn(Net<'_>, Family) -> bool,
) -> Result {
    let (all, _) = nets.nets()?;
    let (published, _) = nets.published();
    let ruleset = &*published.ruleset;
    let mut warned = None;
    let mut logged = 0usize;
    for net in &all {
        let handle = net.handle();
        let due = |family| handle.with(|net| is_due(net, family)) == Some(true);
        let families = Families {
            ipv4: due(Family::Ipv4),
            ipv6: due(Family::Ipv6),
        };
        let scope = ruleset.scope(handle.is_init(), handle.id().cookie);
        if families.is_empty() || !warning.may_be_about(ruleset.sections(scope).needs()) {
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
        let inum = handle.id().inum;
        match warning {
            Warning::Held => pr_info!(
                "rules {} are held in netns {}: NAT is in use there, and they do not say nat=ok\n",
                format_args!("{rules}"),
                inum,
            ),
            Warning::NatOk => pr_info!(
                "rules {} say nat=ok, and NAT is in use in netns {}: no flow that is translated there may have an end that the rules name, or its answers go out untranslated\n",
                format_args!("{rules}"),
                inum,
            ),
            Warning::OneDevice => pr_warn!(
                "rules {} name one device in netns {}, which forwards: packets that come in by another one, as answers do, do not match; name both devices, or say oneway\n",
                format_args!("{rules}"),
                inum,
            ),
        }
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
