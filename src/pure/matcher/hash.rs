// SPDX-License-Identifier: GPL-2.0

//! Hash tables of rules that say certain bits of addresses, ports and protocol.
//!
//! A packet is looked up in each twice, once as it is and once with its directions exchanged, so that
//! a rule is in one place whatever direction it matches. What shares a place is compared one by one:
//! bits are chosen so that these are few, and what is too much for a place stays out and goes to the
//! decision trees ([`tree`](super::tree)), as all rules do that say none of the bits.
//!
//! These are the tuples of Srinivasan, Suri and Varghese (tuple space search, SIGCOMM 1999), made
//! fewer as in TupleMerge (Daly et al., IEEE/ACM Transactions on Networking 27, 2019): rules that say
//! more bits than a table takes are in it too.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        row::{
            Part,
            RowId, //
        },
        tree::{
            fixed,
            values,
            Cell,
            Trees, //
        },
        words::{
            high,
            pair,
            Bits,
            Probe,
            PROTOCOL_SHIFT, //
        },
    },
    rule::Prefix, //
};

/// What a part of a rule says, as written.
#[derive(Clone, Copy)]
pub(super) struct Said {
    value: Bits,
    mask: Bits,
    /// Whether that is all it says: its ports end where bits do.
    is_all: bool,
    row: RowId,
}

impl Said {
    /// Of a part whose row compares all of it.
    pub(super) fn new(part: &Part, row: RowId) -> Self {
        let address = |prefix: Option<Prefix>| {
            prefix.map_or((0, 0), |prefix| (high(prefix.value()), high(prefix.mask())))
        };
        let (source, destination) = (address(part.source), address(part.destination));
        let ports = [part.source_ports, part.destination_ports];
        let [source_bits, destination_bits] = ports.map(fixed);
        let [source_port, destination_port] = ports.map(|(first, _)| first);
        let protocol = |number: u8| u64::from(number) << PROTOCOL_SHIFT;
        let mask = Bits {
            addresses: source.1 | destination.1 >> 32,
            rest: pair(source_bits, destination_bits)
                | protocol(part.protocol.map_or(0, |_| u8::MAX)),
        };
        let value = Bits {
            addresses: source.0 | destination.0 >> 32,
            rest: pair(source_port, destination_port) | protocol(part.protocol.unwrap_or(0)),
        };
        Self {
            value: value.and(mask),
            mask,
            is_all: ports.iter().all(ends_with_bits),
            row,
        }
    }

    fn says(&self, bits: Bits) -> bool {
        self.mask.and(bits) == bits
    }
}

/// Whether the ports that have the first bits of a range in common are that range.
fn ends_with_bits(range: &(u16, u16)) -> bool {
    let free = !fixed(*range);
    range.0 & free == 0 && range.1 & free == free
}

/// A hash table.
#[derive(Clone, Copy)]
pub(super) struct Tuple {
    bits: Bits,
    /// The order of the first of its rules.
    first: u32,
    /// Where its cells start in the trees.
    base: u32,
    /// How many bits of a hash are dropped behind the number of the cell.
    shift: u32,
    /// How many rows share a cell at worst.
    most: u8,
}

/// What looking up a packet takes at worst, of both directions, beside comparisons, and what one of
/// these takes; in instructions, roughly.
const COST: u32 = 40;
const ROW_COST: u32 = 30;

impl Tuple {
    /// The bits that its rules say.
    #[inline(always)]
    pub(super) fn bits(&self) -> &Bits {
        &self.bits
    }

    /// The order of the first of its rules.
    #[inline(always)]
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Where the rows are that a packet is to be compared with in the direction of `probe`.
    #[inline(always)]
    pub(super) fn cell(&self, trees: &Trees, probe: &Probe) -> Cell {
        let number = probe.bits().and(self.bits).hash().wrapping_shr(self.shift);
        trees.cell((self.base as usize).wrapping_add(number as usize))
    }

    /// What searching it takes at worst, in instructions, roughly.
    pub(super) fn worst(&self) -> u32 {
        u32::from(self.most)
            .saturating_mul(2 * ROW_COST)
            .saturating_add(COST)
    }
}

/// The most tables of a section.
pub(super) const MAX_TUPLES: usize = 8;
/// How many cells there are for a row at least: three of four lookups of what is not there end in an
/// empty one, and three of four rows are by themselves.
const CELLS: usize = 3;
/// The most rows of a cell.
const MAX_ROWS: u32 = 8;
/// Of how few rules no table is made, and of what part of a section's.
const FEW: usize = 4;
const PART: usize = 16;
/// How many rules are looked at to choose.
const SAMPLE: usize = 512;

/// The lengths of prefixes that are tried.
const LENS: [u32; 8] = [32, 30, 27, 24, 20, 16, 8, 0];

/// Takes those out of `said` that make the best table, and makes it; `None` where none is worth it.
/// `of` is how many rows the section has for IPv4, `order` tells the order of a row. What has no room in
/// its cell is in no table, and not in `said` any more; calls `placed` for what has.
#[inline(never)]
pub(super) fn split(
    said: &mut Vec<Said>,
    of: usize,
    trees: &mut Trees,
    order: impl Fn(RowId) -> u32,
    mut placed: impl FnMut(RowId),
) -> Result<Option<Tuple>, NoMemory> {
    let Some(bits) = choose(said, of)? else {
        return Ok(None);
    };
    let mut own = Vec::with_capacity(said.len())?;
    for said in said.iter().filter(|said| said.says(bits)) {
        own.push(*said)?;
    }
    said.retain(|said| !said.says(bits));
    let width = own.len().saturating_mul(CELLS).next_power_of_two().ilog2();
    let shift = 64u32.wrapping_sub(width);
    let base = trees.add_cells(1usize.wrapping_shl(width))?;
    let place = |said: &Said| {
        let number = said.value.and(bits).hash().wrapping_shr(shift);
        base.wrapping_add(number as usize)
    };
    let mut most = 0u32;
    own.retain(|said| {
        let Some(cell) = trees.cell_mut(place(said)) else {
            return false;
        };
        // Until they are filled, cells count.
        let is_room = cell.0 < MAX_ROWS;
        cell.0 = cell.0.wrapping_add(u32::from(is_room));
        most = most.max(cell.0);
        is_room
    });
    let first = own.first().map_or(u32::MAX, |said| order(said.row));
    for said in own.iter() {
        let is_bare = said.is_all && said.mask == bits;
        trees.put(
            place(said),
            match is_bare {
                true => said.row.bare(),
                false => said.row,
            },
        )?;
        placed(said.row);
    }
    Ok(Some(Tuple {
        bits,
        first,
        base: u32::try_from(base).map_err(|_| NoMemory)?,
        shift,
        most: u8::try_from(most).map_err(|_| NoMemory)?,
    }))
}

/// The bits that most rules say and that tell these apart best; `None` where none are worth a table.
#[inline(never)]
fn choose(said: &[Said], of: usize) -> Result<Option<Bits>, NoMemory> {
    let stride = said.len().div_ceil(SAMPLE).max(1);
    let mut sample = Vec::with_capacity(SAMPLE)?;
    for at in (0..said.len()).step_by(stride) {
        sample.push(u32::try_from(at).map_err(|_| NoMemory)?)?;
    }
    let at = |number: u32| said.get(number as usize);
    let mut own = Vec::with_capacity(sample.len())?;
    let mut best: Option<(usize, Bits)> = None;
    each_candidate(|bits| {
        own.clear();
        for number in sample.iter() {
            if at(*number).is_some_and(|said| said.says(bits)) {
                own.push(*number)?;
            }
        }
        let count = own.len().saturating_mul(stride);
        if count < FEW || count.saturating_mul(PART) < of {
            return Ok(());
        }
        let hash = |number: u32| at(number).map_or(0, |said| said.value.and(bits).hash());
        let apart = values(&own, hash, usize::MAX);
        let shared = count.checked_div(apart).unwrap_or(count);
        let worth = count
            .saturating_mul(4)
            .checked_div(shared.saturating_add(4));
        if best.is_none_or(|(most, _)| worth > Some(most)) {
            best = worth.map(|worth| (worth, bits));
        }
        Ok(())
    })?;
    Ok(best.map(|(_, bits)| bits))
}

/// Calls `with` for all bits that are tried, those that say more first.
fn each_candidate(mut with: impl FnMut(Bits) -> Result<(), NoMemory>) -> Result<(), NoMemory> {
    let mask = |len: u32| u64::from(!u32::MAX.checked_shr(len).unwrap_or(0));
    let all = u16::MAX;
    for source in LENS.map(mask) {
        for destination in LENS.map(mask) {
            for ports in [pair(all, all), pair(0, all), pair(all, 0), 0] {
                for protocol in [u64::from(u8::MAX) << PROTOCOL_SHIFT, 0] {
                    with(Bits {
                        addresses: source << 32 | destination,
                        rest: ports | protocol,
                    })?;
                }
            }
        }
    }
    Ok(())
}
