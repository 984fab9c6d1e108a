// SPDX-License-Identifier: GPL-2.0

//! Where choices come from. The makers of rules and packets choose by a [`Source`] alone.
//!
//! [`Random`] makes choices of a seed. [`Bytes`] takes them from a text of bytes, which a fuzzer
//! changes; proptest does too, and makes it simpler ([`proptest`]).

/// A source of choices.
///
/// The first of several values should be the simplest: it is chosen where a source has come to its end.
pub trait Source {
    /// Returns any number. Nothing is meant by the single bits: it only tells values apart.
    fn number(&mut self) -> u64;

    /// Returns a number below `bound`, which is above zero.
    fn below(&mut self, bound: u64) -> u64;

    /// Returns true in `percent` of 100 cases.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns whether the source has come to its end.
    fn is_spent(&self) -> bool {
        false
    }
}

impl dyn Source + '_ {
    /// Returns an index of a list of `len` elements, of which there is one at least.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Returns a number of `first..=last`.
    pub fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Returns any number of 128 bits.
    pub fn wide(&mut self) -> u128 {
        u128::from(self.number()) << 64 | u128::from(self.number())
    }

    /// Returns one of the values.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Returns one of the values, as often as the weight beside it says.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let mut at = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in choices {
            match at.checked_sub(*weight) {
                None => return *value,
                Some(rest) => at = rest,
            }
        }
        unreachable!("a number below the sum of the weights")
    }

    /// Returns one of the elements; `None` where there are none, and then nothing is chosen.
    pub fn one_of<T>(&mut self, mut all: impl Iterator<Item = T> + Clone) -> Option<T> {
        match all.clone().count() {
            0 => None,
            count => all.nth(self.index(count)),
        }
    }
}

/// SplitMix64: the choices of a seed. It never comes to an end.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// Returns the source of that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Source for Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

/// Returns a number mixed as SplitMix64 does it; zero stays zero.
pub fn mixed(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Choices by the bytes of a text, from its start. Behind its end all bytes are zero.
///
/// A choice takes as few bytes as its bound needs, and any number is made of two: so a few bytes say
/// much, and a change of one of them changes one choice.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Returns the source of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the number that the next `len` bytes are, the lowest first.
    fn take(&mut self, len: usize) -> u64 {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        let with = |number, byte: &u8| number << 8 | u64::from(*byte);
        taken.iter().rev().fold(0, with)
    }
}

impl Source for Bytes<'_> {
    fn number(&mut self) -> u64 {
        mixed(self.take(2))
    }

    fn below(&mut self, bound: u64) -> u64 {
        let bits = u64::BITS - (bound - 1).leading_zeros();
        self.take(bits.div_ceil(8) as usize) % bound
    }

    /// A zero byte says no.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) >= 100 - percent
    }

    fn is_spent(&self) -> bool {
        self.0.is_empty()
    }
}

/// proptest as a source: it draws bytes, and where a test fails, looks for zeros that it fails with.
#[cfg(feature = "proptest")]
pub mod proptest {
    use std::fmt::Debug;

    use ::proptest::{
        collection::vec,
        prelude::*, //
    };

    use super::{
        Bytes,
        Source, //
    };

    /// Choices that are still to be made, as those of a packet near to rules that another strategy
    /// makes.
    #[derive(Clone, Debug)]
    pub struct Choices(Vec<u8>);

    impl Choices {
        /// Returns the source, at its start.
        pub fn source(&self) -> Bytes<'_> {
            Bytes::new(&self.0)
        }
    }

    /// Returns the strategy of choices that `len` bytes make.
    pub fn choices(len: usize) -> impl Strategy<Value = Choices> {
        vec(any::<u8>(), len).prop_map(Choices)
    }

    /// Returns the strategy of what `make` makes of the choices that `len` bytes make.
    pub fn made<T: Debug>(
        len: usize,
        make: impl Fn(&mut dyn Source) -> T,
    ) -> impl Strategy<Value = T> {
        choices(len).prop_map(move |choices| make(&mut choices.source()))
    }
}
