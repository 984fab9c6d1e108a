// SPDX-License-Identifier: GPL-2.0

//! The fields of a packet that no direction exchanges, as bits of one word: the packet mark, and the flags
//! of TCP.
//!
//! Packed rules, rows, trees, linear tables and shadows know the word and no field of it.

/// A field of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedField {
    /// Its place in [`Self::ALL`].
    number: u8,
    /// The lowest bit.
    shift: u32,
    /// The size in bytes; 1 to 4.
    size: u8,
    /// The bit that is set where the packet has the field; 0 where every packet has it.
    known: u64,
    /// Whether a rule that names the field is narrow ([`Rule::is_narrow`](super::Rule::is_narrow)).
    is_narrow: bool,
}

impl FixedField {
    /// `mark=`: `skb->mark`.
    pub const MARK: Self = Self {
        number: 0,
        shift: 32,
        size: 4,
        known: 0,
        is_narrow: true,
    };
    /// `flags=`: byte 13 of the header of TCP (RFC 9293). `tcp flags=ack` is nearly all of TCP, and the rest
    /// of a longer rule that was cut at a space: so it is not narrow.
    pub const FLAGS: Self = Self {
        number: 1,
        shift: 0,
        size: 1,
        known: 1 << 8,
        is_narrow: false,
    };

    /// All fields: at most 16, as half a byte of a packed rule says which.
    pub const ALL: [Self; 2] = [Self::MARK, Self::FLAGS];

    /// Returns the fields that not every packet has.
    pub fn optional() -> impl Iterator<Item = Self> + Clone {
        let is_optional = |field: &Self| field.known != 0;
        Self::ALL.into_iter().filter(is_optional)
    }

    /// Returns the bit that stands for the field in a set; 0 where every packet has it.
    pub(in crate::pure) const fn bit(self) -> u8 {
        match self.known {
            0 => 0,
            _ => 1u8.wrapping_shl(self.number as u32),
        }
    }

    /// Returns the place in [`Self::ALL`].
    pub(super) const fn number(self) -> u8 {
        self.number
    }

    /// Returns the size in bytes; 1 to 4.
    pub(super) const fn size(self) -> u8 {
        self.size
    }

    /// Returns the size in bits.
    pub const fn bits(self) -> u32 {
        8u32.wrapping_mul(self.size as u32)
    }

    /// Returns whether a rule that names the field is narrow.
    pub(super) const fn is_narrow(self) -> bool {
        self.is_narrow
    }

    /// Returns the bits of the field, with the one that says that it is there.
    #[inline(always)]
    const fn mask(self) -> u64 {
        u64::MAX
            .wrapping_shr(64u32.wrapping_sub(self.bits()))
            .wrapping_shl(self.shift)
            | self.known
    }
}

// Each field stands at the place of its number, and no two share a bit.
const _: () = {
    let (mut fields, mut number): (&[FixedField], u8) = (&FixedField::ALL, 0);
    let mut taken = 0;
    while let [field, rest @ ..] = fields {
        assert!(field.number == number && field.mask() & taken == 0);
        (fields, number) = (rest, number.wrapping_add(1));
        taken |= field.mask();
    }
};

/// The fields of a packet, in one word. A field that the packet does not have, or that was not asked for, is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed(u64);

impl Fixed {
    /// Returns the fields of a packet of which only the mark is known.
    #[inline(always)]
    pub const fn new(mark: u32) -> Self {
        Self(0).with(FixedField::MARK, mark)
    }

    /// Returns the fields with another value of `field`, which is as many bytes of `value` as that has.
    #[inline(always)]
    pub const fn with(self, field: FixedField, value: u32) -> Self {
        let value = (value as u64).wrapping_shl(field.shift) | field.known;
        Self(self.0 & !field.mask() | value & field.mask())
    }

    /// Returns the fields without `field`.
    pub const fn without(self, field: FixedField) -> Self {
        Self(self.0 & !field.mask())
    }

    /// Returns the value of `field`; [`None`] where the packet does not have it.
    pub const fn get(self, field: FixedField) -> Option<u32> {
        if self.0 & field.known != field.known {
            return None;
        }
        let bits = self.0 & field.mask() & !field.known;
        Some(bits.wrapping_shr(field.shift) as u32)
    }

    /// Returns the word.
    #[inline(always)]
    pub(in crate::pure) const fn word(self) -> u64 {
        self.0
    }
}

/// The bits of [`Fixed`] that a rule compares, and their values.
///
/// # Invariants
///
/// `value` has no bit outside `mask`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedBits {
    value: Fixed,
    mask: Fixed,
}

impl FixedBits {
    /// Compares the bits `mask` of `field` too, and no other bits of it.
    pub(in crate::pure) fn set(&mut self, field: FixedField, value: u32, mask: u32) {
        // INVARIANT: `value & mask` has no bit outside `mask`; both have the bit that says that the field is there.
        self.value = self.value.with(field, value & mask);
        self.mask = self.mask.with(field, mask);
    }

    /// Returns the value and the mask of `field`; [`None`] where no bit of it is compared.
    pub fn get(&self, field: FixedField) -> Option<(u32, u32)> {
        let mask = self.mask.get(field).filter(|mask| *mask != 0)?;
        Some((self.value.get(field)?, mask))
    }

    /// Returns the values of the bits.
    pub(in crate::pure) fn value(&self) -> u64 {
        self.value.word()
    }

    /// Returns the bits that are compared; 0: none.
    pub(in crate::pure) fn mask(&self) -> u64 {
        self.mask.word()
    }

    /// Returns the bits ([`FixedField::bit`]) of the fields that are compared, and that not every packet has.
    pub(in crate::pure) fn optional(&self) -> u8 {
        FixedField::ALL
            .into_iter()
            .fold(0, |bits, field| match self.mask() & field.known {
                0 => bits,
                _ => bits | field.bit(),
            })
    }

    /// Returns whether a packet with these fields matches.
    pub(in crate::pure) fn matches(&self, fixed: Fixed) -> bool {
        fixed.word() & self.mask() == self.value()
    }

    /// Returns whether each packet that matches `other` matches.
    pub(in crate::pure) fn covers(&self, other: &Self) -> bool {
        self.mask() & !other.mask() == 0 && self.matches(other.value)
    }

    /// Returns the fields of a packet that matches: as `others` where no bit is compared.
    pub(in crate::pure) fn packet(&self, others: Fixed) -> Fixed {
        Fixed(self.value() | others.word() & !self.mask())
    }
}
