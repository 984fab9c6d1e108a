// SPDX-License-Identifier: GPL-2.0

//! The values that rules are made of.

use ctskip_pure::rule::Prefix;
use ctskip_testkit::world::read;
use proptest::prelude::*;

/// Two numbers that differ in their lowest bits, or in any.
fn ends() -> impl Strategy<Value = (u128, u128)> {
    let near = (any::<u128>(), 0..12u32, any::<u128>(), any::<u128>());
    prop_oneof![
        near.prop_map(|(base, bits, a, b)| {
            let low = (1u128 << bits) - 1;
            (base & !low | a & low, base & !low | b & low)
        }),
        any::<(u128, u128)>(),
        any::<u128>().prop_map(|a| (a, u128::MAX)),
        any::<u128>().prop_map(|a| (0, a)),
    ]
    .prop_map(|(a, b)| (a.min(b), a.max(b)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A range is the prefixes that it is made of, one behind the other, and they are the fewest: none has
    /// a neighbour that it makes a larger prefix with.
    #[test]
    fn a_range_is_the_fewest_prefixes(ends in ends(), is_ipv4 in any::<bool>()) {
        let bits = if is_ipv4 { 32 } else { 128 };
        let unit = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
        let (first, last) = (ends.0 << (128 - u32::from(bits)), ends.1 << (128 - u32::from(bits)));
        prop_assume!(first <= last);
        let prefixes: Vec<Prefix> = Prefix::of_range(first, last, bits).collect();
        prop_assert!(prefixes.iter().all(|prefix| prefix.bits() <= bits));
        let mut next = Some(first);
        for prefix in &prefixes {
            prop_assert_eq!(Some(prefix.value()), next);
            next = (prefix.value() | !prefix.mask()).checked_add(1);
        }
        prop_assert_eq!(next, (last | unit).checked_add(1));
        for pair in prefixes.windows(2) {
            let len = pair[0].bits();
            let is_pair = len == pair[1].bits() && Prefix::new(pair[0].address(), len - 1).is_some();
            prop_assert!(!is_pair, "{:?}", prefixes);
        }
    }

    /// In a rule, a range is read as these prefixes, up to 16 of them.
    #[test]
    fn a_range_in_a_rule(a in 0..2000u32, b in 0..2000u32) {
        let [first, last] = [a.min(b), a.max(b)].map(|n| n + 0x0a00_0000);
        let [from, to] = [first, last].map(std::net::Ipv4Addr::from);
        let prefixes = Prefix::of_range(u128::from(first) << 96, u128::from(last) << 96, 32);
        let prefixes: Vec<Prefix> = prefixes.collect();
        let parsed = read(&format!("udp src={from}-{to}"));
        if prefixes.len() > 16 {
            prop_assert_eq!(parsed.unwrap_err().what, "a range of more prefixes than a list may have");
        } else {
            prop_assert_eq!(parsed.unwrap().rule.sources().collect::<Vec<_>>(), prefixes);
        }
    }
}
