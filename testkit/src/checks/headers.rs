// SPDX-License-Identifier: GPL-2.0

//! Headers: nothing is read beyond a packet's end, and neither where its linear part ends nor what
//! lies behind the bytes that were read makes a difference.

use std::cell::Cell;

use ctskip_pure::{
    packet::header::{
        device_name,
        dissect,
        dissect_plain,
        quoted,
        Bytes,
        Context,
        Key,
        Needs,
        Transport, //
    },
    rule::{
        Family,
        FixedField, //
    },
};

/// Takes a byte that says how the packet is looked at, one that says how long its linear part is, and the
/// packet.
pub fn headers(data: &[u8]) {
    let [flags, linear, packet @ ..] = data else {
        return;
    };
    let context = Context {
        family: [Family::Ipv4, Family::Ipv6][usize::from(flags & 1)],
        device: *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0",
        mark: 7,
        icmp_errors: flags & 4 == 0,
        needs: [Needs::NONE, Needs::ALL][usize::from(flags >> 3 & 1)],
    };
    let whole = Paged::new(packet, packet.len());
    let read = read(&whole, &context);
    let parts = Paged::new(packet, usize::from(*linear).min(packet.len()));
    assert_eq!(read, self::read(&parts, &context), "in two parts");

    let end = whole.end.get();
    let mut changed = packet.to_vec();
    for byte in &mut changed[end..] {
        *byte = !*byte;
    }
    let changed = Paged::new(&changed, packet.len());
    assert_eq!(read, self::read(&changed, &context), "{end} bytes are read");

    if let Some((key, quoted)) = read {
        plausible(&key, &context);
        assert!(quoted.is_none() || key.error);
        if let Some(quoted) = quoted {
            assert_eq!(quoted.source, key.destination);
            assert!(!quoted.error);
            plausible(&quoted, &context);
        }
    }
    for len in 0..packet.len() {
        shorter(&packet[..len], &context, read.map(|(key, _)| key));
    }
    name(packet);
}

/// The key, and that of the packet that it quotes.
fn read(bytes: &Paged<'_>, context: &Context) -> Option<(Key, Option<Key>)> {
    let plain = dissect_plain(bytes, context);
    let key = dissect(bytes, context);
    assert!(plain.is_none() || plain == key, "{plain:?} {key:?}");
    let key = key?;
    let quoted = key.error.then(|| quoted(bytes, &key)).flatten();
    Some((key, quoted))
}

/// Nothing is in a key that such a packet does not have.
fn plausible(key: &Key, context: &Context) {
    assert_eq!(
        (key.family, key.device, key.fixed.get(FixedField::MARK)),
        (context.family, context.device, Some(context.mark))
    );
    match key.transport {
        Transport::Unknown => {}
        Transport::Ports(..) => assert!(matches!(key.protocol, 6 | 17 | 132)),
        Transport::IcmpType(_) => assert_eq!(
            key.protocol,
            match key.family {
                Family::Ipv4 => 1,
                Family::Ipv6 => 58,
            }
        ),
    }
    assert!(!key.error || matches!(key.transport, Transport::IcmpType(_)) && context.icmp_errors);
    let has_flags = key.fixed.get(FixedField::FLAGS).is_some();
    assert!(!has_flags || key.protocol == 6 && context.needs.has(Needs::field(FixedField::FLAGS)));
    if key.family == Family::Ipv4 {
        assert_eq!((key.source | key.destination) << 32, 0);
    }
}

/// What is read of a packet that was cut short, is what is read of all of it, or less.
fn shorter(packet: &[u8], context: &Context, whole: Option<Key>) {
    let Some(short) = dissect(packet, context) else {
        return;
    };
    let whole = whole.expect("more bytes, and no header");
    assert_eq!(
        (short.source, short.destination),
        (whole.source, whole.destination)
    );
    if short.transport != Transport::Unknown {
        let fixed = short.fixed;
        assert!([whole.fixed, whole.fixed.without(FixedField::FLAGS)].contains(&fixed));
        assert_eq!(short, Key { fixed, ..whole });
    }
}

/// A device's name is what stands before the first NUL.
fn name(bytes: &[u8]) {
    let Some((name, _)) = bytes.split_first_chunk::<16>() else {
        return;
    };
    let word = |at| u64::from_ne_bytes(std::array::from_fn(|byte| name[at + byte]));
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(16);
    let mut expected = [0; 16];
    expected[..len].copy_from_slice(&name[..len]);
    assert_eq!(device_name([word(0), word(8)]), expected);
}

/// A packet of which the first bytes lie in the linear part; it notes how far it was read.
struct Paged<'a> {
    bytes: &'a [u8],
    linear: usize,
    end: Cell<usize>,
}

impl<'a> Paged<'a> {
    fn new(bytes: &'a [u8], linear: usize) -> Self {
        Self {
            bytes,
            linear,
            end: Cell::new(0),
        }
    }
}

impl Bytes for Paged<'_> {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let read = self.bytes.read(offset)?;
        self.end.set(self.end.get().max(offset + N));
        Some(read)
    }

    fn read_in_place<const N: usize>(&self) -> Option<[u8; N]> {
        if N > self.linear {
            return None;
        }
        self.read(0)
    }
}
