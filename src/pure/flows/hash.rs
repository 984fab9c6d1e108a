// SPDX-License-Identifier: GPL-2.0

//! The hash of a flow: SipHash-1-3 over its namespace's cookie and its key.
//!
//! Whoever does not know the seed can neither choose flows that share a bucket nor tell which flows do.
//!
//! A message is some words and a tail of seven bytes. The eighth byte of the last word is the message's
//! length, as SipHash has it: so keys of both families never are one message.

use crate::pure::flows::key::{
    Ends,
    FlowKey, //
};

/// The bytes of a tail.
const TAIL: u32 = 7;

/// The state of SipHash, between two words of a message.
#[derive(Clone, Copy)]
struct State {
    v: [u64; 4],
    /// The bytes of the words so far.
    len: u32,
}

impl State {
    /// Returns the state ahead of the first word. The seed is little-endian, as SipHash has it.
    fn new(seed: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(seed);
        let (k0, k1) = (both as u64, (both >> 64) as u64);
        Self {
            // "somepseudorandomlygeneratedbytes"
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            len: 0,
        }
    }

    /// Mixes the state once.
    #[inline(always)]
    fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        v0 = v0.wrapping_add(v1);
        v2 = v2.wrapping_add(v3);
        v1 = v1.rotate_left(13) ^ v0;
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v1);
        v0 = v0.wrapping_add(v3);
        v1 = v1.rotate_left(17) ^ v2;
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.rotate_left(32);
        self.v = [v0, v1, v2, v3];
    }

    /// Takes in a word that is all of the message's bytes there.
    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        let [_, _, _, v3] = &mut self.v;
        *v3 ^= word;
        self.round();
        let [v0, ..] = &mut self.v;
        *v0 ^= word;
        self.len = self.len.wrapping_add(u64::BITS / 8);
    }

    /// Takes in the tail, the lower 56 bits of `tail`, and returns the hash.
    #[inline(always)]
    fn end(mut self, tail: u64) -> u64 {
        let len = u64::from(self.len.wrapping_add(TAIL));
        self.absorb(tail | len << 56);
        let [_, _, v2, _] = &mut self.v;
        *v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        let [v0, v1, v2, v3] = self.v;
        v0 ^ v1 ^ v2 ^ v3
    }
}

/// Returns SipHash-1-3 of a message: `words`, little-endian, and the lower 56 bits of `tail`.
pub fn siphash13(seed: [u8; 16], words: &[u64], tail: u64) -> u64 {
    let mut state = State::new(seed);
    for word in words {
        state.absorb(*word);
    }
    state.end(tail & (u64::MAX >> 8))
}

/// The hasher of a namespace's flows: it has taken in the namespace's cookie.
#[derive(Clone, Copy)]
pub struct Hasher([u64; 4]);

impl Hasher {
    /// The bytes of a cookie.
    const LEN: u32 = u64::BITS / 8;

    /// Returns the hasher of a namespace. The seed is random, secret, and the table's; the cookie is of this
    /// namespace alone, and of no later one (C: `net->net_cookie`).
    pub fn new(seed: [u8; 16], cookie: u64) -> Self {
        let mut state = State::new(seed);
        state.absorb(cookie);
        Self(state.v)
    }

    /// Returns the hash of a flow of this namespace.
    #[inline(always)]
    pub fn hash(&self, key: &FlowKey) -> Hash {
        let mut state = State {
            v: self.0,
            len: Self::LEN,
        };
        let protocol = u64::from(key.protocol) << 48;
        Hash::new(match key.ends {
            Ends::Ipv4([low, high]) => {
                state.absorb(low);
                state.end(protocol | high)
            }
            Ends::Ipv6(addresses, [low, high]) => {
                for address in addresses {
                    state.absorb(address as u64);
                    state.absorb((address >> 64) as u64);
                }
                state.end(protocol | u64::from(low) << 16 | u64::from(high))
            }
        })
    }
}

/// The hash of a flow.
///
/// The upper 48 bits are the tag, which tells the flows of a bucket apart. It is never 0, which is that of a
/// free word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash(u64);

impl Hash {
    /// The bits of the tag.
    pub(super) const TAG: u64 = !0xffff;

    /// Returns a hash with these bits.
    #[inline(always)]
    pub const fn new(bits: u64) -> Self {
        Self(match bits & Self::TAG {
            0 => bits | 1 << 16,
            _ => bits,
        })
    }

    /// Returns all bits.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns the tag, its bits where they are in the hash.
    #[inline(always)]
    pub const fn tag(self) -> u64 {
        self.0 & Self::TAG
    }
}
