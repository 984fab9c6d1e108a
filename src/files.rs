// SPDX-License-Identifier: GPL-2.0

//! The files of `/sys/kernel/ctskip`: who may open them, when their text changes, and where its lines lie.
//!
//! The text itself is written by [`listing`](crate::pure::table::listing) and
//! [`show`](crate::pure::table::show).

use core::fmt::Write;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    linux::{
        compat::estale,
        conntrack,
        net::Net,
        params,
        sysfs::{
            Attribute,
            Directory,
            File,
            Lines,
            OpenFile,
            Output, //
        },
    },
    nets::Nets,
    publish::Published,
    pure::{
        matcher::shadow::Shadows,
        packet::{
            conn::{
                Kept,
                Purged, //
            },
            counter::Counter,
            verdict::Mode, //
        },
        rule::Family,
        table::{
            listing::{
                CounterLine,
                Counts,
                Listing,
                Offsets,
                RuleLine,
                Tags, //
            },
            show::{
                AverageChain,
                KeptLine,
                LastError,
                NetnsLine,
                NetnsRow,
                RulesHead,
                StatsLine, //
            },
        },
    },
    writer::{
        Refused,
        WhileWanted,
        Writer, //
    },
};

/// The directory with all its files, removed when dropped.
#[pin_data]
pub(crate) struct Files {
    #[pin]
    rules: Attribute<RulesFile>,
    #[pin]
    counters: Attribute<CountersFile>,
    #[pin]
    tags: Attribute<TagsFile>,
    #[pin]
    netns: Attribute<NetnsFile>,
    #[pin]
    stats: Attribute<StatsFile>,
    #[pin]
    mode: Attribute<ModeFile>,
    #[pin]
    last_error: Attribute<LastErrorFile>,
    #[pin]
    generation: Attribute<GenerationFile>,
    #[pin]
    version: Attribute<VersionFile>,
}

impl Files {
    /// Makes the directory and the files. Process context; fails with `ENOMEM`, or `EEXIST`.
    pub(crate) fn new(writer: Arc<Writer>) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let nets = writer.nets().clone();
            let directory = Directory::new(c"ctskip")?;
            Ok(try_pin_init!(Self {
                rules <- Attribute::new(directory.clone(), RulesFile(writer.clone())),
                counters <- Attribute::new(directory.clone(), CountersFile(nets.clone())),
                tags <- Attribute::new(directory.clone(), TagsFile(nets.clone())),
                netns <- Attribute::new(directory.clone(), NetnsFile(nets.clone())),
                stats <- Attribute::new(directory.clone(), StatsFile(nets.clone())),
                mode <- Attribute::new(directory.clone(), ModeFile(writer.clone())),
                last_error <- Attribute::new(directory.clone(), LastErrorFile(writer)),
                generation <- Attribute::new(directory.clone(), GenerationFile(nets)),
                version <- Attribute::new(directory, VersionFile),
            }? Error))
        })
    }
}

/// `rules`: the table as text; commands are written to it.
struct RulesFile(Arc<Writer>);

/// The text of `rules`.
struct RulesText {
    published: Arc<Published>,
    listing: Arc<Listing>,
    mode: Mode,
}

impl File for RulesFile {
    const NAME: &'static CStr = c"rules";
    const MODE: u16 = 0o600;

    fn lines(&self) -> Result<impl Lines + '_> {
        let (published, mode) = self.0.nets().published();
        Ok(RulesText {
            listing: published.listing()?,
            published,
            mode,
        })
    }

    fn write(&self, file: &OpenFile<'_>, text: &[u8]) -> Result {
        self.0.write(file, text)
    }
}

impl RulesText {
    /// Returns the first line.
    fn head(&self) -> RulesHead<'_> {
        RulesHead {
            version: params::version(),
            mode: self.mode.name(),
            generation: self.published.generation,
            rules: self.published.table().entries().len(),
            sum: self.listing.sum(),
        }
    }

    /// Returns the length of the first line, in bytes.
    fn head_len(&self) -> u64 {
        let mut len = Length(0);
        // `Length` never fails.
        let _ = write!(len, "{}", self.head());
        len.0
    }
}

impl Lines for RulesText {
    fn version(&self) -> u64 {
        self.published.generation << 2 | self.mode as u64
    }

    fn seek(&self, offset: u64) -> (usize, u64) {
        let head = self.head_len();
        match offset.checked_sub(head) {
            None => (0, 0),
            Some(offset) => {
                let (line, start) = self.listing.rule_lines().line_before(offset, 0);
                (line.saturating_add(1), start.saturating_add(head))
            }
        }
    }

    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
        let Some(index) = index.checked_sub(1) else {
            write!(out, "{}", self.head())?;
            return Ok(true);
        };
        let Some(entry) = self.published.table().entries().get(index) else {
            return Ok(false);
        };
        write!(out, "{}", RuleLine(entry))?;
        Ok(true)
    }
}

/// A sink of text that keeps its length only.
struct Length(u64);

impl Write for Length {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.0 = self.0.saturating_add(s.len() as u64);
        Ok(())
    }
}

/// `counters`: the counts of each rule.
struct CountersFile(Arc<Nets>);

/// The text of `counters`.
struct CountersText<'a> {
    nets: &'a Nets,
    published: Arc<Published>,
    places: Arc<Offsets>,
    shadows: Arc<Shadows>,
    /// The number of digits that each line has room for. It never shrinks.
    room: usize,
}

impl File for CountersFile {
    const NAME: &'static CStr = c"counters";
    const MODE: u16 = 0o400;

    fn lines(&self) -> Result<impl Lines + '_> {
        let (published, _) = self.0.published();
        let shadows = published.shadows(&WhileWanted(Some(&self.0)))?;
        Ok(CountersText {
            places: published.counter_lines(&shadows)?,
            shadows,
            published,
            nets: &self.0,
            room: self.0.counter_room(Counts::default().room()),
        })
    }
}

impl Lines for CountersText<'_> {
    /// Neither ever shrinks: where one grows, so does the sum.
    fn version(&self) -> u64 {
        self.published.generation.wrapping_add(self.room as u64)
    }

    fn seek(&self, offset: u64) -> (usize, u64) {
        self.places.line_before(offset, self.room)
    }

    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
        let Some(entry) = self.published.table().entries().get(index) else {
            return Ok(false);
        };
        let totals = entry.slot().totals();
        let counts = Counts {
            packets: totals.packets,
            bytes: totals.bytes,
            held: totals.held,
            observed: totals.observed,
        };
        // A longer one makes all lines longer: from then on, they are read anew.
        if counts.digits() > self.room {
            self.nets.counter_room(counts.room());
            return Err(estale());
        }
        let line = CounterLine {
            entry,
            counts,
            shadow: self.shadows.at(index),
            room: self.room,
        };
        write!(out, "{line}")?;
        Ok(true)
    }
}

/// `tags`: a line for each tag.
struct TagsFile(Arc<Nets>);

/// The text of `tags`.
struct TagsText {
    published: Arc<Published>,
    tags: Arc<Tags>,
}

impl File for TagsFile {
    const NAME: &'static CStr = c"tags";
    const MODE: u16 = 0o400;

    fn lines(&self) -> Result<impl Lines + '_> {
        let (published, _) = self.0.published();
        Ok(TagsText {
            tags: published.tags()?,
            published,
        })
    }
}

impl Lines for TagsText {
    fn version(&self) -> u64 {
        self.published.generation
    }

    fn seek(&self, offset: u64) -> (usize, u64) {
        self.tags.lines().line_before(offset, 0)
    }

    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
        match self.tags.line(index, self.published.table()) {
            Some(line) => write!(out, "{line}")?,
            None => return Ok(false),
        }
        Ok(true)
    }
}

/// `netns`: a line for each namespace.
struct NetnsFile(Arc<Nets>);

/// The text of `netns`.
struct NetnsText<'a> {
    nets: &'a Nets,
    published: Arc<Published>,
    /// The number of namespaces that had left when the read began.
    left: u64,
    /// The length of each line.
    len: usize,
}

impl File for NetnsFile {
    const NAME: &'static CStr = c"netns";
    const MODE: u16 = 0o400;

    fn lines(&self) -> Result<impl Lines + '_> {
        let (published, _) = self.0.published();
        Ok(NetnsText {
            nets: &self.0,
            published,
            left: self.0.net(0).1,
            len: self.0.line_len(0),
        })
    }
}

impl Lines for NetnsText<'_> {
    /// None of them ever shrinks: where one grows, so does the sum.
    fn version(&self) -> u64 {
        self.left
            .wrapping_add(self.published.generation)
            .wrapping_add(self.len as u64)
    }

    fn seek(&self, offset: u64) -> (usize, u64) {
        let len = self.len as u64;
        let line = offset.checked_div(len).unwrap_or(0);
        (line as usize, line.wrapping_mul(len))
    }

    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
        let (net, left) = self.nets.net(index);
        if left != self.left {
            return Err(estale());
        }
        let Some(net) = net else {
            return Ok(false);
        };
        let handle = net.handle();
        let seen = handle.with(|net| {
            (
                net.conntrack_in_use(),
                [Family::Ipv4, Family::Ipv6].map(|family| net.nat_in_use(family)),
                conntrack::usage(net),
            )
        });
        // It goes, and leaves the list in a moment.
        let Some((conntrack, [nat_ipv4, nat_ipv6], usage)) = seen else {
            return Err(estale());
        };
        let ruleset = &self.published.ruleset;
        let scope = ruleset.scope(handle.is_init(), handle.id().cookie);
        let drop = usage.map_or(0, |usage| usage.drop);
        let line = NetnsLine {
            inum: (!handle.is_init()).then_some(handle.id().inum),
            conntrack,
            entries: usage.map_or(0, |usage| usage.entries),
            max: usage.map_or(0, |usage| usage.max),
            drop,
            drop_new: net.dropped_since(drop),
            early_drop: usage.map_or(0, |usage| usage.early_drop),
            nat_ipv4,
            nat_ipv6,
            no_hooks: !net.has_hooks(),
            rules: match net.has_hooks() {
                true => ruleset.len_in(scope),
                false => 0,
            },
            skipped: net.count(Counter::Skipped),
            held: net.count(Counter::Held),
            left_entry: net.count(Counter::Entry),
            left_template: net.count(Counter::Template),
            left_untracked: net.count(Counter::Untracked),
        };
        // A longer one makes all lines longer: from then on, they are read anew.
        if self.nets.line_len(line.room()) != self.len {
            return Err(estale());
        }
        write!(out, "{}", NetnsRow(&line, self.len))?;
        Ok(true)
    }
}

/// `stats`: totals over all namespaces, and the hash table that conntrack shares among them.
struct StatsFile(Arc<Nets>);

/// The text of `stats`. Each line but the last keeps its length.
struct StatsText {
    generation: u64,
    counts: [(&'static str, u64); 12],
    purged: Purged,
    buckets: u64,
    entries: u64,
}

impl File for StatsFile {
    const NAME: &'static CStr = c"stats";
    const MODE: u16 = 0o400;

    fn lines(&self) -> Result<impl Lines + '_> {
        let (nets, past) = self.0.nets()?;
        let (mut counters, mut without_ct) = (past.counts, past.skipped_without_ct);
        let mut entries = 0u64;
        for net in &nets {
            let counts = net.counts();
            for (sum, count) in counters.iter_mut().zip(counts) {
                *sum = sum.wrapping_add(count);
            }
            let look = |net: Net<'_>| (net.conntrack_in_use(), conntrack::usage(net));
            // One that has gone since is among the past ones at the next read.
            let (conntrack, usage) = net.handle().with(look).unwrap_or((true, None));
            entries = entries.saturating_add(usage.map_or(0, |usage| usage.entries.into()));
            if !conntrack {
                without_ct = without_ct.wrapping_add(Counter::Skipped.of(&counts));
            }
        }
        let count = |counter: Counter| counter.of(&counters);
        let (published, _) = self.0.published();
        let worst = published.ruleset.worst_cost();
        Ok(StatsText {
            generation: published.generation,
            counts: [
                ("seen", Counter::seen(&counters)),
                ("skipped", count(Counter::Skipped)),
                ("observed", count(Counter::Observed)),
                ("held", count(Counter::Held)),
                ("tracked", count(Counter::Tracked)),
                ("left_entry", count(Counter::Entry)),
                ("left_template", count(Counter::Template)),
                ("left_untracked", count(Counter::Untracked)),
                ("left_unread", count(Counter::Unread)),
                ("icmp_errors_followed", count(Counter::Followed)),
                ("skipped_without_ct", without_ct),
                ("worst_lookup", u64::try_from(worst).unwrap_or(u64::MAX)),
            ],
            purged: self.0.purged(),
            buckets: conntrack::buckets().map_or(0, u64::from),
            entries,
        })
    }
}

impl Lines for StatsText {
    fn version(&self) -> u64 {
        self.generation
    }

    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
        if let Some((name, count)) = self.counts.get(index) {
            write!(out, "{}", StatsLine(name, *count))?;
            return Ok(true);
        }
        let &Self {
            entries, buckets, ..
        } = self;
        let index = index.saturating_sub(self.counts.len());
        let kept = index.checked_sub(1).and_then(|at| Kept::ALL.get(at));
        if let Some(kept) = kept {
            write!(out, "{}", KeptLine(kept.name(), self.purged.kept(*kept)))?;
            return Ok(true);
        }
        match index.saturating_sub(Kept::COUNT) {
            0 => write!(out, "{}", StatsLine("purged", self.purged.deleted))?,
            1 => write!(out, "{}", StatsLine("buckets", buckets))?,
            2 => write!(out, "{}", StatsLine("entries", entries))?,
            3 => write!(out, "{}", AverageChain { entries, buckets })?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The text of a file of one line.
struct OneLine<T> {
    version: u64,
    text: T,
}

impl<T: core::fmt::Display> Lines for OneLine<T> {
    fn version(&self) -> u64 {
        self.version
    }

    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
        if index != 0 {
            return Ok(false);
        }
        writeln!(out, "{}", self.text)?;
        Ok(true)
    }
}

/// `mode`: the mode; another may be written to it.
struct ModeFile(Arc<Writer>);

impl File for ModeFile {
    const NAME: &'static CStr = c"mode";
    const MODE: u16 = 0o600;

    fn lines(&self) -> Result<impl Lines + '_> {
        let (_, mode) = self.0.nets().published();
        Ok(OneLine {
            version: mode as u64,
            text: mode.name(),
        })
    }

    fn write(&self, _file: &OpenFile<'_>, text: &[u8]) -> Result {
        self.0.set_mode(text)
    }
}

/// `last_error`: the last refused write; empty before the first.
struct LastErrorFile(Arc<Writer>);

/// The text of `last_error`.
struct LastErrorText(Option<Refused>);

impl File for LastErrorFile {
    const NAME: &'static CStr = c"last_error";
    const MODE: u16 = 0o400;

    fn lines(&self) -> Result<impl Lines + '_> {
        Ok(LastErrorText(self.0.refused()))
    }
}

impl Lines for LastErrorText {
    fn version(&self) -> u64 {
        self.0.as_ref().map_or(0, |refused| refused.number)
    }

    /// Writes all of the text as one line: it is shorter than a page.
    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
        let (0, Some(refused)) = (index, &self.0) else {
            return Ok(false);
        };
        let text = LastError {
            report: &refused.report,
            generation: refused.generation,
            writer: refused.writer,
        };
        write!(out, "{text}")?;
        Ok(true)
    }
}

/// `generation`: the number of commits.
struct GenerationFile(Arc<Nets>);

impl File for GenerationFile {
    const NAME: &'static CStr = c"generation";
    const MODE: u16 = 0o444;
    const PUBLIC: bool = true;

    fn lines(&self) -> Result<impl Lines + '_> {
        let generation = self.0.published().0.generation;
        Ok(OneLine {
            version: generation,
            text: generation,
        })
    }
}

/// `version`: the version of ctskip.
struct VersionFile;

impl File for VersionFile {
    const NAME: &'static CStr = c"version";
    const MODE: u16 = 0o444;
    const PUBLIC: bool = true;

    fn lines(&self) -> Result<impl Lines + '_> {
        Ok(OneLine {
            version: 0,
            text: params::version(),
        })
    }
}
