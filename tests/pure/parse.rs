// SPDX-License-Identifier: GPL-2.0

//! The rule language: what is written is what is read, printed and read again; what is refused, and
//! where.

use ctskip_pure::{
    language::{
        refusal::{
            Errno,
            Likely,
            Refusal, //
        },
        report::Report, //
    },
    rule::Action,
    table::{
        command,
        load::Load,
        Table, //
    },
};
use ctskip_testkit::{
    checks,
    rules::{
        Kind,
        Spec,
        Style, //
    },
    source::proptest::made,
    world::{
        read,
        rule,
        run,
        table,
        Slot,
        World, //
    }, //
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{
        select,
        Index, //
    }, //
};

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 10_000, ..ProptestConfig::with_cases(6000) })]

    /// A rule means what its terms say, however they are ordered and spelt, and comes back from its
    /// canonical text, which is one for all spellings.
    #[test]
    fn rules_are_read_as_written_and_printed_as_read(
        spec in made(512, |source| Spec::make(source, Kind::Any(12))),
        one in made(42, Style::make),
        other in made(42, Style::make),
        id in proptest::option::of(1..=u32::MAX),
    ) {
        let spec = Spec { id, ..spec };
        let text = spec.text(&one);
        let parsed = read(&text).unwrap_or_else(|refusal| panic!("{text:?}: {refusal:?}"));
        prop_assert_eq!(parsed.id, id);
        prop_assert_eq!(parsed.id.is_some(), text.get(parsed.id_column..).unwrap().starts_with("id="));
        spec.assert_is(&parsed.rule);
        prop_assert_eq!(&rule(&spec.text(&other)), &parsed.rule, "{}", text);

        let printed = parsed.rule.to_string();
        let again = rule(&printed);
        prop_assert_eq!(&again, &parsed.rule, "{}", printed);
        prop_assert_eq!(again.to_string(), printed);
    }

    /// Nothing that is written makes it panic, and each refusal's place lies in a line of the text.
    #[test]
    fn any_bytes_are_read_or_refused_in_place(text in vec(any::<u8>(), 0..200)) {
        check(&text);
    }

    /// Likewise what is nearly a rule.
    #[test]
    fn damaged_rules_are_read_or_refused_in_place(
        spec in made(256, |source| Spec::make(source, Kind::Any(4))),
        style in made(42, Style::make),
        damage in vec((any::<Index>(), any::<Index>(), 0..5u8, piece()), 1..4),
    ) {
        let mut text = spec.text(&style).into_bytes();
        for (at, to, how, piece) in damage {
            if text.is_empty() {
                break;
            }
            let (at, to) = (at.index(text.len()), to.index(text.len() + 1));
            match how {
                0 => text.truncate(at),
                1 => drop(text.remove(at)),
                2 => drop(text.splice(at..at, piece)),
                3 => drop(text.splice(at..to.max(at), piece)),
                _ => text.rotate_left(at),
            }
        }
        text.push(b'\n');
        check(&text);
        checks::rules(&text);
    }

    /// Of a rule with a negated term, the hint is the `track` rule that matches what the term is not to
    /// match: what the rule would match with the term as it is, and nothing else.
    #[test]
    fn a_hint_never_turns_the_meaning_round(
        spec in made(512, |source| Spec::make(source, Kind::Any(3))),
        style in made(42, Style::make),
        which in any::<Index>(),
        how in 0..4u8,
    ) {
        let spec = Spec { action: None, nat_ok: false, id: None, ..spec };
        let text = spec.text(&style).replace('+', " ");
        let words: Vec<&str> = text.split(' ').collect();
        let can_be_negated = |word: &&&str| {
            let is_own = ["tag=", "netns!=", "netns=init", "any", "all", "oneway"];
            let is_own = is_own.iter().any(|own| word.starts_with(own));
            !(is_own || how == 2 && word.contains(','))
        };
        let words_of_terms: Vec<&&str> = words.iter().filter(can_be_negated).collect();
        // In a device's name `+` is not a space, and flags are joined by it.
        prop_assume!(!words_of_terms.is_empty() && spec.flags.is_none());
        prop_assume!(spec.devices.iter().all(|(name, _)| !name.contains('+')));
        let term = **which.get(&words_of_terms);
        let negated = match (term.split_once('='), how) {
            (Some((key, value)), 0 | 1) => format!("{key}!={value}"),
            (Some((key, value)), 2) => format!("{key}=!{value}"),
            (_, 3) => format!("! {term}"),
            _ => format!("!{term}"),
        };
        let replaced = words.iter().map(|word| if *word == term { &*negated } else { word });
        let text = replaced.collect::<Vec<_>>().join(" ");
        let refusal = read(&text).unwrap_err();
        let rule = rule(&Spec { action: Some(Action::Track), ..spec }.text(&Style::plain()));
        let expected = format!("insert {rule}");
        let expected = if expected.len() > 160 { String::new() } else { expected };
        prop_assert_eq!(likely(&refusal), expected, "{}", text);
    }

    /// A rule is shown without the quotes that are written, without terms for everything, and with the port
    /// behind an address as a term.
    #[test]
    fn a_hint_says_what_is_written(
        spec in made(512, |source| Spec::make(source, Kind::Any(3))),
        which in any::<Index>(),
        how in 0..4u8,
    ) {
        let spec = Spec { id: None, ..spec };
        let text = rule(&spec.text(&Style::plain())).to_string();
        let own = text.strip_prefix("skip ").unwrap_or(&text);
        // In quotes, it looks like a negation.
        prop_assume!(!own.contains("netns!="));
        let mut words: Vec<String> = own.split(' ').map(str::to_owned).collect();
        let place = which.index(words.len());
        let word = &mut words[place];
        *word = match word.split_once('=') {
            Some((key, value)) if how == 0 => format!("{key}=\"{value}\""),
            _ => format!("'{word}'"),
        };
        let terms = ["src", "dst", "sport", "dport", "type", "dev", "mark", "local", "netns"];
        let is_free = |term: &&str| !own.contains(&format!("{term}="));
        let free: Vec<&str> = terms.into_iter().filter(is_free).collect();
        if how == 1 && !free.is_empty() {
            words[place] = format!("{}=any {}", which.get(&free), own.split(' ').nth(place).unwrap());
        }
        let value = |key: &str| own.split(' ').find_map(|word| word.strip_prefix(key));
        if let (2, Some(address), Some(port)) = (how, value("dst="), value("dport=")) {
            if !address.contains(['/', ',']) && port.parse::<u16>().is_ok() {
                let [open, close] = if address.contains(':') { ["[", "]"] } else { ["", ""] };
                words = own.split(' ').filter(|word| !word.starts_with("dport=")).map(str::to_owned).collect();
                let place = words.iter().position(|word| word.starts_with("dst=")).unwrap();
                words[place] = format!("dst={open}{address}{close}:{port}");
            }
        }
        let text = words.join(" ");
        let expected = if own.len() > 160 { "" } else { own };
        let refusal = read(&text).unwrap_err();
        prop_assert_eq!(likely(&refusal), expected, "{}: {:?}", text, refusal);
    }

    /// A rule that is written as for iptables or nft is shown as it is here.
    #[test]
    fn a_hint_says_what_the_other_tool_says(
        spec in made(512, |source| Spec::make(source, Kind::Plain)),
        is_nft in any::<bool>(),
    ) {
        let spec = Spec {
            action: None,
            family: spec.family,
            protocols: spec.protocols,
            sources: spec.sources,
            destinations: spec.destinations,
            source_ports: spec.source_ports,
            destination_ports: spec.destination_ports,
            ..Spec::default()
        };
        let text = rule(&spec.text(&Style::plain())).to_string();
        let own = text.strip_prefix("skip ").unwrap();
        let mut words: Vec<String> = Vec::new();
        for word in own.split(' ') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let list = format!("{{ {} }}", value.replace(',', ", "));
            words.push(match (key, is_nft) {
                ("any", _) => continue,
                ("ip" | "ip6", _) => word.to_owned(),
                ("src", true) => format!("ip saddr {list}"),
                ("dst", true) => format!("ip daddr {list}"),
                ("sport" | "dport", true) => format!("th {key} {list}"),
                (_, true) => format!("meta l4proto {{{word}}}"),
                ("src", false) => format!("-s {value}"),
                ("dst", false) => format!("--destination {value}"),
                ("sport" | "dport", false) => {
                    format!("-m multiport --{key}s {}", value.replace('-', ":"))
                }
                (_, false) => format!("-p {word}"),
            });
        }
        let text = words.join(" ");
        prop_assert_eq!(likely(&read(&text).unwrap_err()), own, "{}", text);
    }
}

/// What a refusal shows as probably meant.
fn likely(refusal: &Refusal) -> String {
    refusal
        .likely
        .as_ref()
        .map(Likely::to_string)
        .unwrap_or_default()
}

/// What is put into a rule to damage it.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = vec![
        "skip",
        "tcp",
        "proto=",
        "src=",
        "dst=::1",
        "10.0.0.0/8",
        "dport=53",
        "-",
        ",",
        "/",
        "/33",
        "=",
        "+",
        "++",
        ";",
        "#",
        " ",
        "\n",
        "*",
        "any",
        "id=1",
        "!",
        "!=",
        "not",
        "-p",
        "--dport",
        "daddr",
        "{",
        "}",
        ":",
        "@",
        "10.0.0.1-10.0.0.9",
        "echo-request",
        "domain",
        "tag=",
        "netns=pid:",
        "0x",
        "4294967296",
        "type=8",
        "load",
        "commit",
        "add",
        "delete",
        "insert before=",
        "\"",
        "\0",
        "\u{e9}",
    ];
    prop_oneof![
        3 => select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

/// Has `text` carried out in every way there is.
fn check(text: &[u8]) {
    let world = World::default();
    let base = table("udp dport=53 tag=dns\n", &world);
    command::opens_load(text);
    let in_place = |report: Report| {
        let number = usize::try_from(report.line()).unwrap();
        let line = text
            .split(|b| *b == b'\n')
            .nth(number - 1)
            .expect("a line of the text");
        let column = report.refusal().column;
        assert!(
            column <= line.len(),
            "column {column} of {line:?}: {report}"
        );
    };
    command::run(&base, text, &world, &world)
        .map(drop)
        .unwrap_or_else(in_place);
    command::from_parameter(text, &world, &world)
        .map(drop)
        .unwrap_or_else(in_place);
    Load::new()
        .feed(text, &world)
        .map(drop)
        .unwrap_or_else(in_place);
}

/// One refused text: `^` marks the place, and is not part of it.
type Mistake = (&'static str, Errno, &'static str, &'static str);

const UNKNOWN: &str = "an unknown word";
const TWICE: &str = "a term a second time";
const MISSING: &str = "a value is missing";
const PORTS: &str = "a port where not every protocol has ports";
const NO_PORTS: &str = "a port without a protocol, for which `any` does not stand";
const NO_TYPES: &str = "a type without a protocol, for which `any` does not stand";
const NO_FLAGS: &str = "flags without a protocol, for which `any` does not stand";
const COLON: &str = "a range with `:`, as iptables writes it";
const SERVICE: &str = "a name where the number of a port is needed";
const BRACES: &str = "braces around a list, as nft writes them";
const FOREIGN: &str = "a word of iptables or nft";
const QUOTES: &str = "quotes, which no rule has";
const EVERY: &str = "a value that leaves nothing out";
const BEHIND: &str = "a port behind an address";
const BRACKETS: &str = "brackets around an address";
const MODE_WORD: &str = "a word of the mode, which no rule has";
const PARAMETER: &str = "a parameter of the module, which no rule has";
const POSITION: &str = "a position, which no rule has";
const FLUSH: &str = "a flush of some rules";
const NOT: &str = "a negation, which no term has but netns!=init";
const NOT_INIT: &str = "only the initial namespace can be left out";
const TYPE: &str = "not the name of an ICMP type";
const TYPE_OF_BOTH: &str = "the name of a type, which has one number in ICMP and another in ICMPv6";
const MAPPED: &str = "an IPv4 address in the form of IPv6, which no packet has";
const EVERY_DEVICE: &str = "every device";
const LOWER_DEVICE: &str = "a device with the one below it, as `ip link` prints them";
const OTHER_FAMILY: &str = "a family that the protocol is not of";
const TOO_LONG: &str = "a list too long";
const TYPES: &str = "a type where not every protocol is ICMP";
const PORT: &str = "not a number in range";
const BACKWARDS: &str = "a range that runs backwards";
const BROAD: &str = "a rule that matches a great deal; it may have been cut at a space";
const EXTENSION: &str = "an IPv6 extension header, which is never the protocol";
const HOST_BIT: &str = "an address with a bit set below the prefix length";
const FAMILY: &str = "an address of the other family";
const DEVICE: &str = "not the name of a device";
const DEVICE_LEN: &str = "not the name of a device: it has 1 to 15 characters";
const MARK: &str = "not a mark";
const MASK: &str = "a mark with bits outside its mask, or a mask of zero";
const FLAG: &str = "not a flag of TCP";
const FLAGS: &str = "flags where not every protocol is TCP";
const FLAG_MASK: &str = "flags outside their mask";
const TAG: &str = "not a tag";
const ID: &str = "not the id of a rule";
const NETNS: &str = "not a network namespace";
const NO_NETNS: &str = "no such network namespace";
const NO_NETNS_FILE: &str = "a file that is not a network namespace";
const NO_ID: &str = "no rule has this id";
const NO_RULE: &str = "a rule is missing";
const STRAY: &str = "a `+` that separates nothing";
const INVAL: Errno = Errno::Inval;

/// What a write is refused for. The table it is about has the rules 1 and 2, and the tag `dns`.
const MISTAKES: &[Mistake] = &[
    // Words that the language does not have.
    ("udp dport=53 ^frobnicate", INVAL, UNKNOWN, ""),
    ("^17 dport=53", INVAL, UNKNOWN, ""),
    ("^udpp dport=53", INVAL, UNKNOWN, "udp"),
    ("^TCP dport=80", INVAL, UNKNOWN, "tcp"),
    ("tcp ^port=80", INVAL, UNKNOWN, "dport="),
    ("tcp ^dports=80", INVAL, UNKNOWN, "dport="),
    ("tcp ^dport", INVAL, UNKNOWN, "dport="),
    ("tcp ^dport =", INVAL, UNKNOWN, "dport="),
    ("tcp ^DPORT=80", INVAL, UNKNOWN, "dport="),
    ("tcp ^dpotr=80", INVAL, UNKNOWN, "dport="),
    ("udp ^saddr=10.0.0.1", INVAL, UNKNOWN, "src="),
    ("udp ^destination=10.0.0.1", INVAL, UNKNOWN, "dst="),
    ("^notrack udp dport=53", INVAL, UNKNOWN, "skip"),
    ("^ct udp dport=53", INVAL, FOREIGN, ""),
    ("^ipv6 tcp dport=80", INVAL, UNKNOWN, "ip6"),
    ("^icmpv6 type=128", INVAL, UNKNOWN, "icmp6"),
    ("udp dport=53 ^iif=eth0", INVAL, UNKNOWN, "dev="),
    ("udp dport=53 ^iifname=eth0", INVAL, UNKNOWN, "dev="),
    ("udp dport=53 ^oif=eth0", INVAL, UNKNOWN, "dev="),
    ("udp dport=53 ^oifname=eth0", INVAL, UNKNOWN, "dev="),
    ("udp dport=53 ^in=eth0", INVAL, UNKNOWN, "dev="),
    ("udp dport=53 ^out=eth0", INVAL, UNKNOWN, "dev="),
    ("udp dst=10.0.0.1 ^ports=53", INVAL, UNKNOWN, "dport="),
    ("udp ^sports=53", INVAL, UNKNOWN, "sport="),
    ("udp ^sip=10.0.0.1", INVAL, UNKNOWN, "src="),
    ("udp ^dip=10.0.0.1", INVAL, UNKNOWN, "dst="),
    ("udp ^daddr=10.0.0.1", INVAL, UNKNOWN, "dst="),
    ("udp dport=53 ^pid=7", INVAL, UNKNOWN, "netns=pid:"),
    ("icmp ^icmp-type=8", INVAL, UNKNOWN, "type="),
    // No word is near to these, `id=` least of all.
    ("udp dport=53 ^uid=1000", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^gid=1000", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^ip=10.0.0.1", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^code=0", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^zone=1", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^ttl=1", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^mac=1", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^vlan=1", INVAL, UNKNOWN, ""),
    ("udp dport=53 ^ID=7", INVAL, UNKNOWN, "id="),
    // Another operator.
    ("udp ^dport>=1024", INVAL, UNKNOWN, ""),
    ("udp ^dport<=1024", INVAL, UNKNOWN, ""),
    ("udp ^dport>1024", INVAL, UNKNOWN, ""),
    ("udp ^dport~=53", INVAL, UNKNOWN, ""),
    ("udp dport=^=53", INVAL, PORT, ""),
    ("udp ^fwmark=1", INVAL, UNKNOWN, "mark="),
    ("udp dport=53 ^one-way", INVAL, UNKNOWN, "oneway"),
    ("udp dport=53 ^natok", INVAL, UNKNOWN, "nat=ok"),
    ("udp dport=53 ^flush", INVAL, UNKNOWN, ""),
    ("add ^add udp dport=53", INVAL, UNKNOWN, ""),
    ("^=53 udp", INVAL, UNKNOWN, ""),
    // What is set elsewhere.
    ("^mode off", INVAL, MODE_WORD, ""),
    ("^mode=observe", INVAL, MODE_WORD, ""),
    ("^off", INVAL, MODE_WORD, ""),
    ("add ^observe", INVAL, MODE_WORD, ""),
    ("^rules=udp dport=53", INVAL, PARAMETER, ""),
    ("^worst_lookup=0", INVAL, PARAMETER, ""),
    ("^icmp_errors=0", INVAL, PARAMETER, ""),
    // Quotes.
    ("udp dport=^\"53\"", INVAL, QUOTES, "udp dport=53"),
    ("udp dport=^'53,54' tag=a", INVAL, QUOTES, "udp dport=53,54 tag=a"),
    ("track udp ^\"dst=10.0.0.1\"", INVAL, QUOTES, "track udp dst=10.0.0.1"),
    ("^\"udp dport=53\"", INVAL, QUOTES, "udp dport=53"),
    ("^'udp dport=53'", INVAL, QUOTES, "udp dport=53"),
    ("^\"udp\" dport=53", INVAL, QUOTES, "udp dport=53"),
    ("udp dport=53^\" any", INVAL, QUOTES, "udp dport=53"),
    ("udp dport=53 dev=^\"eth0\"", INVAL, QUOTES, "udp dport=53 dev=eth0"),
    ("udp dport=53 dev=^'eth*'", INVAL, QUOTES, "udp dport=53 dev=eth*"),
    ("udp dport=53 tag=^\"a\"", INVAL, QUOTES, "udp dport=53 tag=a"),
    ("icmp type=^\"echo-request\"", INVAL, QUOTES, "icmp type=8"),
    ("udp dport=53 netns=^\"init\"", INVAL, QUOTES, "udp dport=53 netns=init"),
    ("udp dport=^\"53", INVAL, QUOTES, "udp dport=53"),
    ("udp dport=^\"53\" frob", INVAL, QUOTES, ""),
    ("udp dport=^\"\"", INVAL, QUOTES, ""),
    ("udp ^'dev=\u{e9}' any", INVAL, QUOTES, ""),
    ("^-i \u{e9} -j NOTRACK", INVAL, FOREIGN, ""),
    // A value for all of them: the rule says it without the term.
    ("udp src=^any dport=53", INVAL, EVERY, "udp dport=53"),
    ("udp dst=^all dport=53", INVAL, EVERY, "udp dport=53"),
    ("src=^any dst=10.0.0.1 any", INVAL, EVERY, "dst=10.0.0.1 any"),
    ("udp dst=^any", INVAL, EVERY, "udp any"),
    ("udp src=^* dst=any dport=53", INVAL, EVERY, "udp dport=53"),
    ("udp dst=10.0.0.1 dport=^any", INVAL, EVERY, "udp dst=10.0.0.1"),
    ("icmp type=^any", INVAL, EVERY, "icmp any"),
    ("proto=^all dst=10.0.0.1", INVAL, EVERY, "dst=10.0.0.1 any"),
    ("udp dport=53 netns=^any", INVAL, EVERY, "udp dport=53"),
    ("udp dport=53 local=^any", INVAL, EVERY, "udp dport=53"),
    ("udp dport=53 mark=^any", INVAL, EVERY, "udp dport=53"),
    ("tcp dport=53 flags=^all", INVAL, FLAG, ""),
    ("udp src^!=any dport=53", INVAL, NOT, ""),
    ("src=^any", INVAL, EVERY, ""),
    ("udp src=^any dport=53 frob", INVAL, EVERY, ""),
    ("udp dport=53^\u{b}any", INVAL, "a character that no rule has", ""),
    ("udp dport=53 ^\0", INVAL, "a character that no rule has", ""),
    ("udp dport=53 tag=caf^\u{e9}", INVAL, "a character that no rule has", ""),
    // There is no negation: the hint is the rule ahead that leaves the same out.
    ("udp dst=10.0.0.0/8 dport^!=53", INVAL, NOT, "insert track udp dst=10.0.0.0/8 dport=53"),
    ("udp dport^!=53", INVAL, NOT, "insert track udp dport=53"),
    ("udp dport=^!53", INVAL, NOT, "insert track udp dport=53"),
    ("udp ^!dport=53", INVAL, NOT, "insert track udp dport=53"),
    ("udp ^! dport=53", INVAL, NOT, "insert track udp dport=53"),
    ("udp ^not dport=53", INVAL, NOT, "insert track udp dport=53"),
    ("udp+dport^!=53", INVAL, NOT, "insert track udp dport=53"),
    ("skip udp port^!=53,60-70", INVAL, NOT, "insert track udp dport=53,60-70"),
    ("udp sport^!=53", INVAL, NOT, "insert track udp sport=53"),
    ("dst^!=10.0.0.0/8 any", INVAL, NOT, "insert track dst=10.0.0.0/8 any"),
    ("udp dst=^!10.0.0.0/8 any", INVAL, NOT, "insert track udp dst=10.0.0.0/8"),
    ("udp src^!=10.0.0.1-10.0.0.2 tag=a", INVAL, NOT, "insert track udp src=10.0.0.1,10.0.0.2 tag=a"),
    ("udp saddr^!=10.0.0.1", INVAL, NOT, "insert track udp src=10.0.0.1"),
    ("udp dport=53 dev^!=lo", INVAL, NOT, "insert track udp dport=53 dev=lo"),
    ("udp dport=53 dev=^!eth0", INVAL, NOT, "insert track udp dport=53 dev=eth0"),
    ("udp dev^!=lo any", INVAL, NOT, "insert track udp dev=lo any"),
    ("udp dport=53 mark^!=1", INVAL, NOT, "insert track udp dport=53 mark=0x1"),
    ("icmp type^!=echo-request", INVAL, NOT, "insert track icmp type=8"),
    ("tcp dport=80 flags^!=syn", INVAL, NOT, "insert track tcp dport=80 flags=syn"),
    ("udp dport=53 local^!=dst", INVAL, NOT, "insert track udp dport=53 local=dst"),
    ("proto^!=17 any", INVAL, NOT, "insert track udp any"),
    ("proto=^!17 any", INVAL, NOT, "insert track udp any"),
    ("^!udp any", INVAL, NOT, "insert track udp any"),
    ("udp dport=53 oneway src^!=10.0.0.1", INVAL, NOT, "insert track udp src=10.0.0.1 dport=53 oneway"),
    ("udp dport=53 netns!=^4026532001", INVAL, NOT_INIT, "insert track udp dport=53 netns=4026532001"),
    ("udp dport^!=53 netns!=init", INVAL, NOT, "insert track udp dport=53 netns!=init"),
    // What only the rule itself says is left out.
    ("skip udp dport^!=53 nat=ok id=7 any", INVAL, NOT, "insert track udp dport=53"),
    // Each negated term has a rule of its own.
    ("udp dst^!=10.0.0.1 dport!=53", INVAL, NOT, "insert track udp dst=10.0.0.1"),
    ("udp dport^!=53 dev!=lo src=10.0.0.1", INVAL, NOT, "insert track udp src=10.0.0.1 dport=53"),
    // No rule ahead says what these say, or it is not plain what they say.
    ("track udp dport^!=53", INVAL, NOT, ""),
    ("udp dport^!=53 track", INVAL, NOT, ""),
    ("udp dport^!=domain", INVAL, NOT, ""),
    ("udp dport=^!53,54", INVAL, NOT, ""),
    ("udp dport=53,^!54", INVAL, NOT, ""),
    ("tcp,^!udp any", INVAL, NOT, ""),
    ("udp dport^!=!53", INVAL, NOT, ""),
    ("udp ^!dport!=53", INVAL, NOT, ""),
    ("udp ^!", INVAL, NOT, ""),
    ("udp ^! !", INVAL, NOT, ""),
    ("udp dport=53 tag^!=a", INVAL, NOT, ""),
    ("udp dport=53 id^!=7", INVAL, NOT, ""),
    ("udp dport=53 nat^!=ok", INVAL, NOT, ""),
    ("udp dport=53 ^!oneway", INVAL, NOT, ""),
    ("udp dport^!=53 frob", INVAL, NOT, ""),
    ("udp dport^!=53 src=10.0.0.256", INVAL, NOT, ""),
    ("udp dport=53 netns!=^4026532999", INVAL, NOT_INIT, ""),
    // Rules of iptables and nft.
    ("^-p udp --dport 53", INVAL, FOREIGN, "udp dport=53"),
    ("^-p+udp+--dport+53", INVAL, FOREIGN, "udp dport=53"),
    ("^--dport=53 -p=udp", INVAL, FOREIGN, ""),
    ("^ether saddr 00:11:22:33:44:55 notrack", INVAL, FOREIGN, ""),
    ("^fib daddr type local udp dport 53", INVAL, FOREIGN, "udp dport=53 local=dst"),
    ("udp ^dport 53 fib saddr type local notrack", INVAL, FOREIGN, "udp dport=53 local=src"),
    ("^fib daddr type != local udp dport 53", INVAL, FOREIGN, ""),
    ("^fib daddr type broadcast udp dport 53", INVAL, FOREIGN, ""),
    ("^fib daddr . iif type local udp dport 53", INVAL, FOREIGN, ""),
    ("^-p udp --dport 53 -m addrtype --dst-type LOCAL -j NOTRACK", INVAL, FOREIGN, "udp dport=53 local=dst"),
    ("^-p udp --sport 53 -m addrtype --src-type LOCAL", INVAL, FOREIGN, "udp sport=53 local=src"),
    ("-p udp -m ^addrtype ! --dst-type LOCAL", INVAL, FOREIGN, ""),
    ("-p udp -m ^addrtype --dst-type UNICAST", INVAL, FOREIGN, ""),
    ("-p udp -m ^addrtype --dst-type LOCAL --src-type LOCAL", INVAL, FOREIGN, ""),
    ("^-m addrtype --dst-type LOCAL -j CT --notrack", INVAL, FOREIGN, "local=dst any"),
    ("^-i lo -j NOTRACK", INVAL, FOREIGN, "dev=lo any"),
    ("^-i lo", INVAL, FOREIGN, "dev=lo any"),
    ("^-A OUTPUT -o lo -j NOTRACK", INVAL, FOREIGN, "dev=lo any"),
    ("^-i eth0 -o eth1 -j NOTRACK", INVAL, FOREIGN, ""),
    ("^-m mark --mark 1 -j NOTRACK", INVAL, FOREIGN, "mark=0x1 any"),
    ("^-p all -s 10.0.0.1 -j NOTRACK", INVAL, FOREIGN, "src=10.0.0.1 any"),
    ("^-p tcp --syn --dport 80", INVAL, FOREIGN, "tcp dport=80 flags=syn"),
    ("tcp dport=80 ^--syn", INVAL, FOREIGN, "tcp dport=80 flags=syn"),
    ("^-p tcp ! --syn --dport 80", INVAL, FOREIGN, ""),
    ("^-p udp --syn --dport 80", INVAL, FOREIGN, ""),
    ("^-p tcp --dport 80 --tcp-flags SYN,ACK SYN", INVAL, FOREIGN, "tcp dport=80 flags=syn/syn+ack"),
    ("^-p tcp --dport 80 --tcp-flags ALL ACK,PSH", INVAL, FOREIGN,
     "tcp dport=80 flags=psh+ack/fin+syn+rst+psh+ack+urg"),
    ("^-p tcp --dport 80 --tcp-flags ALL NONE", INVAL, FOREIGN, ""),
    ("^-p tcp --dport 80 --tcp-flags SYN", INVAL, FOREIGN, ""),
    // The place is the word that no rule has.
    ("-p udp -m ^set --match-set servers dst -j NOTRACK", INVAL, FOREIGN, ""),
    ("udp ^--match-set servers dst", INVAL, FOREIGN, ""),
    ("ip daddr ^@servers udp dport 53 notrack", INVAL, FOREIGN, ""),
    ("-p udp --dport 53 -m ^conntrack --ctstate NEW", INVAL, FOREIGN, ""),
    ("udp dport=53 ^accept", INVAL, FOREIGN, ""),
    ("udp ^--dport=53", INVAL, FOREIGN, "udp dport=53"),
    ("^-A PREROUTING -t raw -p tcp -m multiport --dports 80,8000:8010 -d 10.0.0.1/255.0.0.0 -j CT --notrack", INVAL,
     FOREIGN, "tcp dst=10.0.0.0/8 dport=80,8000-8010"),
    ("^iptables -t raw -I OUTPUT -p udp -m udp --sport domain -s 10.0.0.1 -j NOTRACK", INVAL, FOREIGN,
     "udp src=10.0.0.1 sport=53"),
    ("^ip6tables -p ipv6-icmp --icmpv6-type echo-request", INVAL, FOREIGN, "icmp6 type=128"),
    ("^iptables -p udp --dport 53", INVAL, FOREIGN, "ip udp dport=53"),
    ("^-p icmp --icmp-type echo-request -i eth+", INVAL, FOREIGN, "icmp type=8 dev=eth*"),
    ("^-p udp -m mark --mark 1/3", INVAL, FOREIGN, "udp mark=0x1/0x3"),
    ("^-p udp", INVAL, FOREIGN, "udp any"),
    ("ip ^daddr 10.0.0.1 udp dport 53 notrack", INVAL, FOREIGN, "udp dst=10.0.0.1 dport=53"),
    ("udp ^dport 53", INVAL, FOREIGN, "udp dport=53"),
    ("udp ^dport = 53", INVAL, FOREIGN, "udp dport=53"),
    ("udp ^dst = 10.0.0.1", INVAL, FOREIGN, "udp dst=10.0.0.1"),
    ("udp ^dport { 53, 54 } counter", INVAL, FOREIGN, "udp dport=53,54"),
    ("udp ^port 53", INVAL, FOREIGN, "udp dport=53"),
    ("track udp ^dport 53", INVAL, FOREIGN, "track udp dport=53"),
    ("^meta l4proto { tcp, udp } th dport 53", INVAL, FOREIGN, "tcp,udp dport=53"),
    ("^meta l4proto icmpv6 icmpv6 type echo-request", INVAL, FOREIGN, "icmp6 type=128"),
    ("^iifname \"eth0\" ip saddr 10.0.0.0/8 ip protocol udp udp sport 53 udp dport 53", INVAL, FOREIGN,
     "udp src=10.0.0.0/8 sport=53 dport=53 dev=eth0"),
    ("^nft add rule inet raw prerouting udp dport 53 notrack", INVAL, FOREIGN, "udp dport=53"),
    ("add ^rule raw prerouting udp dport 53 notrack", INVAL, FOREIGN, "udp dport=53"),
    ("udp dport=^{53,54}", INVAL, BRACES, "udp dport=53,54"),
    ("udp dport=^{53,54} frob", INVAL, BRACES, ""),
    ("udp ^dst { 10.0.0.1, 10.0.0.2 }", INVAL, FOREIGN, "udp dst=10.0.0.1,10.0.0.2"),
    // A hint leaves nothing out.
    ("^-p udp ! --dport 53", INVAL, FOREIGN, ""),
    ("^-p udp --dport ! 53", INVAL, FOREIGN, ""),
    ("-p udp --dport 53 -m ^owner --uid-owner 7", INVAL, FOREIGN, ""),
    ("-p udp --dport 53 -j ^ACCEPT", INVAL, FOREIGN, ""),
    ("-p udp --dport 53 -m ^statistic", INVAL, FOREIGN, ""),
    ("udp ^dport 53 ct state new", INVAL, UNKNOWN, "dport="),
    ("udp ^dport != 53", INVAL, UNKNOWN, "dport="),
    ("udp ^dport { 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17 }", INVAL, UNKNOWN, "dport="),
    ("udp ^dport { 53, 54", INVAL, UNKNOWN, "dport="),
    ("ip ^daddr 10.0.0.1 udp dport 53 tcp dport 53", INVAL, FOREIGN, ""),
    ("^-p", INVAL, FOREIGN, ""),
    ("^-j NOTRACK", INVAL, FOREIGN, ""),
    // Protocols.
    ("tcp,^udpp,sctp dport=80", INVAL, "not a protocol", "udp"),
    ("proto=^256 any", INVAL, "not a protocol", ""),
    ("any proto=6,^300", INVAL, "not a protocol", ""),
    ("proto=^-1 any", INVAL, "not a protocol", ""),
    ("proto=^ any", INVAL, MISSING, ""),
    ("tcp,^ dport=80", INVAL, MISSING, ""),
    ("tcp,^,udp dport=80", INVAL, MISSING, ""),
    ("tcp ^udp dport=80", INVAL, "protocols a second time", ""),
    ("tcp dport=80 ^proto=17", INVAL, "protocols a second time", ""),
    // A term twice.
    ("udp dport=53 ^dport=54", INVAL, TWICE, ""),
    ("udp sport=53 ^sport=53", INVAL, TWICE, ""),
    ("udp src=10.0.0.1 ^src=10.0.0.2", INVAL, TWICE, ""),
    ("udp dst=10.0.0.1 ^dst=10.0.0.2", INVAL, TWICE, ""),
    ("icmp type=8 ^type=0", INVAL, TWICE, ""),
    ("udp any dev=eth0 ^dev=eth1", INVAL, TWICE, ""),
    ("skip udp dport=53 ^skip", INVAL, TWICE, ""),
    ("skip udp dport=53 ^track", INVAL, TWICE, ""),
    ("ip udp any ^ip6", INVAL, TWICE, ""),
    ("udp any local=dst ^local=src", INVAL, TWICE, ""),
    ("udp mark=1 ^mark=1", INVAL, TWICE, ""),
    ("tcp any flags=syn ^flags=ack", INVAL, TWICE, ""),
    ("udp any netns=init ^netns=init", INVAL, TWICE, ""),
    ("udp any netns=init ^netns!=init", INVAL, TWICE, ""),
    ("udp any nat=ok ^nat=ok", INVAL, TWICE, ""),
    ("udp any oneway ^oneway", INVAL, TWICE, ""),
    ("udp any ^any", INVAL, TWICE, ""),
    ("udp any tag=a ^tag=a", INVAL, TWICE, ""),
    ("udp any id=8 ^id=9", INVAL, TWICE, ""),
    // Addresses.
    ("udp dst=^10.0.0.1/8", INVAL, HOST_BIT, "10.0.0.0/8"),
    ("udp src=10.0.0.0/8,^192.168.1.77/30", INVAL, HOST_BIT, "192.168.1.76/30"),
    ("udp dst=^255.255.255.255/0", INVAL, HOST_BIT, "0.0.0.0/0"),
    ("udp dst=^2001:db8::1/32", INVAL, HOST_BIT, "2001:db8::/32"),
    ("udp dst=^2001:db8::3/127", INVAL, HOST_BIT, "2001:db8::2/127"),
    ("udp dst=10.0.0.0/8,^10.0.0.256", INVAL, "not an address", ""),
    ("udp dst=^localhost", INVAL, "not an address", ""),
    ("udp dst=^[fd00::1]:53", INVAL, BEHIND, "udp dst=fd00::1 dport=53"),
    ("udp dst=^10.0.0.1:53", INVAL, BEHIND, "udp dst=10.0.0.1 dport=53"),
    ("tcp src=^10.0.0.1:53 nat=ok", INVAL, BEHIND, "tcp src=10.0.0.1 sport=53 nat=ok"),
    ("udp src=^[fd00::1]:1 dst=[fd00::2]:2", INVAL, BEHIND, "udp src=fd00::1 dst=fd00::2 sport=1 dport=2"),
    ("udp dst=^10.0.0.1:53 dport=54", INVAL, BEHIND, ""),
    ("dst=^10.0.0.1:53 any", INVAL, BEHIND, ""),
    ("udp dst=^10.0.0.1:65536", INVAL, "not an address", ""),
    ("udp dst=^10.0.0.1:53,10.0.0.2:53", INVAL, "not an address", ""),
    ("udp dst=fd00::2,^[fd00::1]", INVAL, BRACKETS, "fd00::1"),
    ("udp dst=^[10.0.0.1]", INVAL, "not an address", ""),
    ("udp dst=^[fd00::]/64", INVAL, "not an address", ""),
    ("udp dst=^010.0.0.1", INVAL, "not an address", ""),
    ("udp dst=^10.0.0", INVAL, "not an address", ""),
    ("udp dst=^1:2:3", INVAL, "not an address", ""),
    ("udp dst=^/8", INVAL, "not an address", ""),
    ("udp dst=10.0.0.0/^33", INVAL, "not a prefix length", ""),
    ("udp dst=10.0.0.0/^", INVAL, "not a prefix length", ""),
    ("udp dst=10.0.0.0/^-8", INVAL, "not a prefix length", ""),
    ("udp dst=10.0.0.0/^255.0.0.0", INVAL, "not a prefix length", "10.0.0.0/8"),
    ("udp dst=10.1.2.3/^255.255.0.0", INVAL, "not a prefix length", "10.1.0.0/16"),
    ("udp dst=10.0.0.0/^255.0.255.0", INVAL, "not a prefix length", ""),
    ("udp dst=10.0.0.0/^ff00::", INVAL, "not a prefix length", ""),
    ("udp dst=2001:db8::/^ffff:ffff::", INVAL, "not a prefix length", "2001:db8::/32"),
    ("udp dst=^::ffff:10.0.0.1", INVAL, MAPPED, "10.0.0.1"),
    ("udp dst=2001:db8::1,^::ffff:a00:0/104", INVAL, MAPPED, "10.0.0.0/8"),
    ("udp dst=^::ffff:0:0/96", INVAL, MAPPED, "0.0.0.0/0"),
    ("udp dst=^::ffff:10.0.0.1-::ffff:10.0.0.9", INVAL, MAPPED, "10.0.0.1"),
    ("udp dst=^10.0.0.9-10.0.0.1", INVAL, BACKWARDS, ""),
    ("udp dst=10.0.0.0/^24-10.0.0.9", INVAL, "not a prefix length", ""),
    ("udp dst=10.0.0.1-^9", INVAL, "not an address", ""),
    ("udp dst=10.0.0.1-^", INVAL, "not an address", ""),
    ("udp dst=10.0.0.1-^10.0.0.9-10.0.0.12", INVAL, "not an address", ""),
    ("udp dst=10.0.0.1-^2001:db8::1", INVAL, FAMILY, ""),
    ("udp dst=2001:db8::1,^10.0.0.1-10.0.0.9", INVAL, FAMILY, ""),
    ("udp dst=10.0.0.1,^0.0.0.1-255.255.255.254", INVAL, "a range of more prefixes than a list may have", ""),
    ("udp dst=10.1.0.1-10.1.1.0,^10.0.0.1-10.0.0.254", INVAL, TOO_LONG, ""),
    ("udp dst=10.0.0.0/^8/8", INVAL, "not a prefix length", ""),
    ("udp dst=2001:db8::/^129", INVAL, "not a prefix length", ""),
    ("udp dst=2001:db8::/^256", INVAL, "not a prefix length", ""),
    ("udp dst=^", INVAL, MISSING, ""),
    ("udp dst=10.0.0.1,^", INVAL, MISSING, ""),
    ("udp dst=^,10.0.0.1", INVAL, MISSING, ""),
    (
        "udp dst=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9,10.0.0.10,\
         10.0.0.11,10.0.0.12,10.0.0.13,10.0.0.14,10.0.0.15,10.0.0.16,^10.0.0.17",
        INVAL,
        "a list too long",
        "",
    ),
    // Families.
    ("udp dst=10.0.0.0/8,^::1", INVAL, FAMILY, ""),
    ("udp src=10.0.0.1 dst=^::1", INVAL, FAMILY, ""),
    ("udp ip6 dst=^10.0.0.1", INVAL, FAMILY, ""),
    ("udp ip dst=^::1", INVAL, FAMILY, ""),
    ("udp dst=10.0.0.1 ^ip6", INVAL, "a family that the addresses are not of", ""),
    ("icmp ^dst=::1", INVAL, OTHER_FAMILY, ""),
    ("icmp6 ^src=10.0.0.1", INVAL, OTHER_FAMILY, ""),
    ("ip6 ^icmp any", INVAL, OTHER_FAMILY, ""),
    ("ip ^tcp,icmp6 any", INVAL, "icmp6 in an IPv4 rule", ""),
    ("ip6 ^tcp,icmp any", INVAL, "icmp in an IPv6 rule", ""),
    ("^ah dst=::1", INVAL, EXTENSION, ""),
    ("ip6 ^tcp,ah any", INVAL, EXTENSION, ""),
    ("ip6 ^igmp any", INVAL, OTHER_FAMILY, ""),
    ("igmp ^dst=ff02::1", INVAL, OTHER_FAMILY, ""),
    ("ip6 ^tcp,igmp any", INVAL, "igmp in an IPv6 rule", ""),
    ("ip6 ^proto=0 any", INVAL, EXTENSION, ""),
    ("ip6 ^proto=43 any", INVAL, EXTENSION, ""),
    ("ip6 ^proto=44 any", INVAL, EXTENSION, ""),
    ("ip6 ^proto=51 any", INVAL, EXTENSION, ""),
    ("ip6 ^proto=59 any", INVAL, EXTENSION, ""),
    ("ip6 ^proto=60 any", INVAL, EXTENSION, ""),
    // Ports and types.
    ("udp dport=^65536", INVAL, PORT, ""),
    ("udp dport=53,^domain", INVAL, SERVICE, "53"),
    ("udp dport=^DNS", INVAL, SERVICE, "53"),
    ("udp sport=^vxlan", INVAL, SERVICE, "4789"),
    ("udp dport=^frob", INVAL, SERVICE, ""),
    ("udp dport=1,^53:60", INVAL, COLON, "53-60"),
    ("udp dport=^1024:", INVAL, COLON, "1024-65535"),
    ("udp dport=^:1023", INVAL, COLON, "0-1023"),
    ("udp dport=^53:53", INVAL, COLON, "53"),
    ("udp dport=^60:53", INVAL, COLON, ""),
    ("udp dport=^53:domain", INVAL, COLON, ""),
    ("udp dport=^:", INVAL, COLON, ""),
    ("udp dport=^53:54:55", INVAL, COLON, ""),
    ("udp dport=53-^", INVAL, PORT, "53-65535"),
    ("udp dport=1,1024-^", INVAL, PORT, "1024-65535"),
    ("udp dport=^-1023", INVAL, PORT, "0-1023"),
    ("udp dport=^-", INVAL, PORT, ""),
    ("udp dport=^-53", INVAL, PORT, "0-53"),
    ("udp dport=50-^60-70", INVAL, PORT, ""),
    ("udp dport=50-^65536", INVAL, PORT, ""),
    ("udp dport=^0x35", INVAL, PORT, "53"),
    ("udp dport=^0X35-0x36", INVAL, PORT, "53-54"),
    ("udp dport=^0x10000", INVAL, PORT, ""),
    ("udp dport=^0x", INVAL, PORT, ""),
    ("icmp type=^0x8", INVAL, PORT, "8"),
    ("icmp type=128-^", INVAL, PORT, "128-255"),
    ("icmp type=^0x100", INVAL, PORT, ""),
    ("proto=^0x11 any", INVAL, "not a protocol", "17"),
    ("proto=^0x100 any", INVAL, "not a protocol", ""),
    ("udp dport=^+53", INVAL, PORT, ""),
    ("udp dport=1,^60-50", INVAL, BACKWARDS, ""),
    ("udp sport=^", INVAL, MISSING, ""),
    ("icmp ^dport=53", INVAL, PORTS, ""),
    ("^dport=53", INVAL, NO_PORTS, ""),
    ("any ^sport=53", INVAL, NO_PORTS, ""),
    ("^dport=53 any", INVAL, NO_PORTS, ""),
    ("ip ^dport=53 any", INVAL, NO_PORTS, ""),
    ("tcp,gre ^dport=53", INVAL, PORTS, ""),
    ("proto=17,0 ^dport=53", INVAL, PORTS, ""),
    ("icmp type=^256", INVAL, PORT, ""),
    ("icmp type=8-^300", INVAL, PORT, ""),
    ("icmp type=^echo-requst", INVAL, TYPE, "echo-request"),
    ("icmp type=8,^packet-too-big", INVAL, TYPE, ""),
    ("icmp6 type=^timestamp-request", INVAL, TYPE, ""),
    ("icmp type=^Echo-Request", INVAL, TYPE, "echo-request"),
    ("icmp,icmp6 type=^echo-request", INVAL, TYPE_OF_BOTH, ""),
    ("icmp type=8^/0", INVAL, "a code of ICMP, which no rule names", ""),
    ("type=^echo-requst icmp", INVAL, TYPE, "echo-request"),
    ("icmp type=0,^8-0", INVAL, BACKWARDS, ""),
    ("udp ^type=8", INVAL, TYPES, ""),
    ("^type=8", INVAL, NO_TYPES, ""),
    ("^type=8 any", INVAL, NO_TYPES, ""),
    ("^type=echo-request any", INVAL, NO_TYPES, ""),
    ("icmp,udp ^type=8", INVAL, TYPES, ""),
    // The other terms.
    ("udp dport=53 local=^dest", INVAL, "not an end of a flow", ""),
    ("udp dport=53 local=^", INVAL, "not an end of a flow", ""),
    ("udp dport=53 dev=^eth+", INVAL, "`+` for any ending, as iptables writes it", "eth*"),
    ("udp dport=53 dev=lo,^eth+", INVAL, "`+` for any ending, as iptables writes it", "eth*"),
    ("udp dport=53 dev=^+", INVAL, "`+` for any ending, as iptables writes it", ""),
    ("udp dport=53 dev=^any", INVAL, EVERY_DEVICE, "udp dport=53"),
    ("udp dport=53 dev=lo,^all", INVAL, EVERY_DEVICE, ""),
    ("udp dport=53 dev=^*", INVAL, EVERY_DEVICE, "udp dport=53"),
    ("udp dport=53 dev=^eth0.100@eth0", INVAL, LOWER_DEVICE, "eth0.100"),
    ("udp dport=53 dev=^veth0123456@if17", INVAL, LOWER_DEVICE, "veth0123456"),
    ("udp dport=53 dev=^@eth0", INVAL, LOWER_DEVICE, ""),
    ("udp dport=53 dev=^sixteen-letters-", INVAL, DEVICE_LEN, ""),
    ("udp dport=53 dev=^sixteen-letters-*", INVAL, DEVICE_LEN, ""),
    ("udp dport=53 dev=^e*h", INVAL, DEVICE, ""),
    ("udp dport=53 dev=^eth**", INVAL, DEVICE, ""),
    ("udp dport=53 dev=^.", INVAL, DEVICE, ""),
    ("udp dport=53 dev=^..", INVAL, DEVICE, ""),
    ("udp dport=53 dev=^a/b", INVAL, DEVICE, ""),
    ("udp dport=53 dev=^eth0:1", INVAL, DEVICE, ""),
    ("udp dport=53 dev=^", INVAL, MISSING, ""),
    ("udp mark=^", INVAL, MARK, ""),
    ("udp mark=^x", INVAL, MARK, ""),
    ("udp mark=^0x", INVAL, MARK, ""),
    ("udp mark=^1/", INVAL, MARK, ""),
    ("udp mark=^4294967296", INVAL, MARK, ""),
    ("udp mark=^0x100000000", INVAL, MARK, ""),
    ("udp mark=^1/4294967296", INVAL, MARK, ""),
    ("udp mark=^5/4", INVAL, MASK, ""),
    ("udp mark=^0/0", INVAL, MASK, ""),
    ("tcp any flags=^", INVAL, FLAG, ""),
    ("tcp any flags=^SYN", INVAL, FLAG, "syn"),
    ("tcp any flags=syn+^akc", INVAL, FLAG, "ack"),
    ("tcp any flags=^syn,ack", INVAL, FLAG, ""),
    ("tcp any flags=syn+^", INVAL, FLAG, ""),
    ("tcp any flags=syn/^", INVAL, FLAG, ""),
    ("tcp any flags=^/syn", INVAL, FLAG, ""),
    ("tcp any flags=syn/^syn/ack", INVAL, FLAG, ""),
    ("tcp any flags=syn/^2", INVAL, FLAG, ""),
    ("tcp any flags=^syn/ack", INVAL, FLAG_MASK, ""),
    ("tcp any flags=^syn+ack/ack+rst", INVAL, FLAG_MASK, ""),
    ("udp any ^flags=syn", INVAL, FLAGS, ""),
    ("tcp,udp dport=53 ^flags=syn", INVAL, FLAGS, ""),
    ("any ^flags=syn", INVAL, NO_FLAGS, ""),
    ("tcp ^tcp-flags=syn any", INVAL, UNKNOWN, "flags="),
    ("tcp flags=syn ^ack any", INVAL, UNKNOWN, ""),
    ("tcp+flags=syn+^sport+any", INVAL, UNKNOWN, "sport="),
    ("tcp+flags=syn+ack^+", INVAL, STRAY, ""),
    ("udp dport=53 netns=^blue", Errno::Srch, NO_NETNS, ""),
    ("udp dport=53 netns=^ns400", Errno::Srch, NO_NETNS, ""),
    ("udp dport=53 netns=^file", INVAL, NO_NETNS_FILE, ""),
    ("udp dport=53 netns=^5x", INVAL, NETNS, ""),
    ("udp dport=53 netns=^-", INVAL, NETNS, ""),
    ("udp dport=53 netns=^/", Errno::Srch, "no such file", ""),
    ("udp dport=53 netns=^/run/netns/blue", Errno::Srch, "no such file", ""),
    ("udp dport=53 netns=^/etc/passwd", INVAL, NO_NETNS_FILE, ""),
    ("udp dport=53 netns=^/proc/1/ns/net", INVAL, "a file that is not there, or that the kernel must ask a file system for", ""),
    ("udp dport=53 netns=^", INVAL, NETNS, ""),
    ("udp dport=53 netns=^pid:", INVAL, NETNS, ""),
    ("udp dport=53 netns=^pid:self", INVAL, NETNS, ""),
    ("udp dport=53 netns=^4294967296", INVAL, NETNS, ""),
    ("udp dport=53 netns=^4026532999", Errno::Srch, NO_NETNS, ""),
    ("udp dport=53 netns=^pid:77", Errno::Srch, NO_NETNS, ""),
    ("udp dport=53 nat=^yes", INVAL, "not a value of nat=", ""),
    ("track udp dport=53 ^nat=ok", INVAL, "nat=ok on a track rule, which leaves packets to NAT anyway", ""),
    ("udp dport=53 tag=^", INVAL, TAG, ""),
    ("udp dport=53 tag=^a=b", INVAL, TAG, ""),
    ("udp dport=53 tag=^a-name-of-sixty-four-characters-is-one-more-than-there-is-room.f", INVAL, TAG, ""),
    ("udp dport=53 id=^", INVAL, ID, ""),
    ("udp dport=53 id=^0", INVAL, ID, ""),
    ("udp dport=53 id=^x", INVAL, ID, ""),
    ("udp dport=53 id=^4294967296", INVAL, ID, ""),
    ("udp dport=53 ^id=2", Errno::Exist, "the id of another rule", ""),
    // What is left of a rule that was cut at a space.
    ("^udp", INVAL, BROAD, ""),
    ("^dst=10.0.0.0/8", INVAL, BROAD, ""),
    ("^skip", INVAL, BROAD, ""),
    ("^mark=1", INVAL, BROAD, ""),
    ("^tcp flags=ack", INVAL, BROAD, ""),
    // What leaves nothing out is no limit.
    ("^udp dst=0.0.0.0/0", INVAL, BROAD, ""),
    ("^udp src=::/0 dst=::/0", INVAL, BROAD, ""),
    ("^udp dst=0.0.0.0-255.255.255.255", INVAL, BROAD, ""),
    ("^udp dst=128.0.0.0/1,0.0.0.0/1", INVAL, BROAD, ""),
    ("^udp dport=0-65535", INVAL, BROAD, ""),
    ("^udp dport=1-65535", INVAL, BROAD, ""),
    ("^udp sport=1024-65535,0-1023", INVAL, BROAD, ""),
    ("^icmp type=0-255", INVAL, BROAD, ""),
    ("^tcp dst=0.0.0.0/0 dport=0-65535 flags=syn dev=eth0 netns=init", INVAL, BROAD, ""),
    ("add ^netns=init udp dev=eth0 local=dst oneway nat=ok tag=a id=7", INVAL, BROAD, ""),
    (
        "tcp,udp sport=1,2,3 dst=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9,\
         10.0.0.10,10.0.0.11,10.0.0.12,10.0.0.13,10.0.0.14,10.0.0.15,10.0.0.16 \
         ^dport=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16",
        INVAL,
        "lists that multiply to over 1,024 combinations",
        "",
    ),
    // `+` in place of the space.
    ("udp+dport=53+dev=eth^+", INVAL, STRAY, ""),
    ("^+udp+dport=53", INVAL, STRAY, ""),
    ("udp+dport=53++^+tcp+any", INVAL, STRAY, ""),
    ("^+", INVAL, STRAY, ""),
    ("udp+dport=53++tcp+dport=80++tcp+^port=80", INVAL, UNKNOWN, "dport="),
    // Commands.
    ("add^", INVAL, NO_RULE, ""),
    ("  insert^ ; udp any", INVAL, NO_RULE, ""),
    ("insert before=2^", INVAL, NO_RULE, ""),
    ("insert before=^0 udp any", INVAL, ID, ""),
    ("insert before=^dns udp any", INVAL, ID, ""),
    ("insert ^before=99 udp any", Errno::NoEnt, NO_ID, ""),
    ("insert ^1 udp dport=53", INVAL, POSITION, ""),
    ("insert+^1+udp+dport=53", INVAL, POSITION, ""),
    ("insert ^before 1 udp dport=53", INVAL, POSITION, "before="),
    ("add ^before=2 udp any", INVAL, UNKNOWN, ""),
    ("insert udp any ^id=1", Errno::Exist, "the id of another rule", ""),
    ("delete^", INVAL, "nothing to delete", ""),
    ("delete ^99", Errno::NoEnt, NO_ID, ""),
    ("delete ^id=99", Errno::NoEnt, NO_ID, ""),
    ("delete id=^0", INVAL, ID, ""),
    ("delete ^dns", INVAL, ID, ""),
    ("delete ^tag=web", Errno::NoEnt, "no rule has this tag", ""),
    ("delete tag=^a=b", INVAL, TAG, ""),
    ("delete 1 ^2", INVAL, "a word too many", ""),
    ("delete tag=dns ^1", INVAL, "a word too many", ""),
    ("^flush tag=dns", INVAL, FLUSH, "delete"),
    ("^flush 2", INVAL, FLUSH, "delete"),
    ("^flush id=2", INVAL, FLUSH, "delete"),
    ("flush ^all", INVAL, "a word too many", ""),
    ("flush ^dns", INVAL, "a word too many", ""),
    ("delete ^all", INVAL, EVERY, "flush"),
    ("purge ^all", INVAL, EVERY, "purge"),
    ("delete 1; delete ^1", Errno::NoEnt, NO_ID, ""),
    ("purge ^99", Errno::NoEnt, NO_ID, ""),
    ("purge id=^99", Errno::NoEnt, NO_ID, ""),
    ("purge 1,^99,2", Errno::NoEnt, NO_ID, ""),
    ("purge 1,^", INVAL, ID, ""),
    ("purge ^dns", INVAL, ID, ""),
    ("purge ^tag=web", Errno::NoEnt, "no rule has this tag", ""),
    ("purge tag=^a=b", INVAL, TAG, ""),
    ("purge 1 ^2", INVAL, "a word too many", ""),
    ("delete 1; purge ^1", Errno::NoEnt, NO_ID, ""),
    ("track udp any id=9; purge 1,^9", INVAL, "a track rule, which keeps no flow out of conntrack", ""),
    ("purge; purge 1; ^delete 1", INVAL, "a command behind a purge", ""),
    ("purge\n^udp any", INVAL, "a command behind a purge", ""),
    ("^prge", INVAL, UNKNOWN, "purge"),
    ("udp any; ^load", INVAL, "a load behind other commands", ""),
    ("^commit", INVAL, "no load is open in this file", ""),
    ("^abort", INVAL, "no load is open in this file", ""),
    // Further lines.
    ("udp dport=54\n# frob\n\n  tcp ^frob", INVAL, UNKNOWN, ""),
    ("udp dport=54 id=77\ntcp dport=80 ^id=77", Errno::Exist, "the id of another rule", ""),
];

/// The text without its mark, and the line and column, each from 1, that it marked.
fn marked(text: &str) -> (String, u32, usize) {
    let at = text.find('^').expect("a mark");
    let before = &text[..at];
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        text.replacen('^', "", 1),
        u32::try_from(line).unwrap(),
        column,
    )
}

fn assert_refused(text: &str, result: Result<(), Report>, mistake: &Mistake, place: (u32, usize)) {
    let (_, errno, what, spelling) = *mistake;
    let report = result.expect_err(&format!("{text:?} was accepted"));
    let refusal = report.refusal();
    assert_eq!(
        (
            refusal.errno,
            refusal.what,
            likely(refusal),
            report.line(),
            report.column()
        ),
        (errno, what, spelling.to_owned(), place.0, place.1),
        "{text:?}: {report}"
    );
    assert!(!refusal.expected.is_empty(), "{text:?}");
}

/// What is shown is taken: a rule as it stands, a value in the place of the one that is written.
fn assert_taken(text: &str, report: &Report) {
    let world = World::default();
    let base = table("udp dport=53 tag=dns\ntcp dport=53\n", &world);
    let write = |text: &str| run(&base, &format!("{text}\n"), &world).map(drop);
    let refusal = report.refusal();
    let shown = likely(refusal);
    match refusal.likely {
        Some(Likely::Rule(_) | Likely::Ahead(_)) => {
            write(&shown).unwrap_or_else(|report| panic!("{text:?}: {report}"));
        }
        Some(Likely::Prefix(_) | Likely::Numbers(_) | Likely::Device(_)) => {
            let line = text.split('\n').nth(report.line() as usize - 1).unwrap();
            let (before, behind) = line.split_at(refusal.column);
            let start = before.rfind(['=', ',']).unwrap() + 1;
            let len = behind.find([',', ' ']).unwrap_or(behind.len());
            let text = format!("{}{shown}{}", &line[..start], &behind[len..]);
            if let Err(report) = write(&text) {
                assert_ne!(report.refusal().what, refusal.what, "{text:?}");
            }
        }
        Some(Likely::Word(_)) | None => {}
    }
}

#[test]
fn mistakes_are_refused_where_they_are() {
    let world = World::default();
    let base = table("udp dport=53 tag=dns\ntcp dport=53\n", &world);
    for mistake in MISTAKES {
        let (text, line, column) = marked(mistake.0);
        let result = run(&base, &format!("{text}\n"), &world).map(drop);
        if let Err(report) = &result {
            assert_taken(&text, report);
        }
        assert_refused(&text, result, mistake, (line, column));
    }
    assert_eq!(world.live(), 2);
}

/// A write whose end may have been cut off is refused, whatever is in it.
#[test]
fn a_write_ends_in_a_newline() {
    let world = World::default();
    let base = Table::<Slot>::new();
    for text in [
        "udp dport=53^",
        "udp dport=53\ntcp dport=8^",
        "\n\n ^",
        "#^",
        "udp frob^",
    ] {
        let mistake = (
            text,
            INVAL,
            "no newline at the end: the text may have been cut",
            "",
        );
        let (text, line, column) = marked(text);
        assert_refused(
            &text,
            run(&base, &text, &world).map(drop),
            &mistake,
            (line, column),
        );
    }
    assert!(matches!(run(&base, "", &world), Ok(None)));
    assert!(matches!(run(&base, "\n", &world), Ok(None)));
}

/// What is refused in the module parameter, besides what a write is refused for.
#[test]
fn the_parameter_is_refused_what_was_cut() {
    const COMMENT: &str = "a comment, which would hide the rest of the rules";
    const CUT: &str = "nothing behind the last separator: the rest was cut";
    const COMMAND: &str = "a command in the first table, which has rules only";
    const PARAMETER: &[Mistake] = &[
        ("^#", INVAL, COMMENT, ""),
        ("udp dport=53; ^# tcp dport=53", INVAL, COMMENT, ""),
        ("udp+dport=53++tcp+^#dport=53", INVAL, COMMENT, ""),
        ("udp dport=53^;", INVAL, CUT, ""),
        ("udp dport=53 ^; ", INVAL, CUT, ""),
        ("udp+dport=53+^+", INVAL, CUT, ""),
        ("udp dport=53;\n^;", INVAL, CUT, ""),
        ("udp+dport=53^+", INVAL, STRAY, ""),
        ("^udp", INVAL, BROAD, ""),
        ("^flush", INVAL, COMMAND, ""),
        ("udp dport=53; ^delete 1", INVAL, COMMAND, ""),
        ("add ^add udp dport=53", INVAL, UNKNOWN, ""),
        ("^insert udp dport=53", INVAL, COMMAND, ""),
        ("^load", INVAL, COMMAND, ""),
        ("udp dport=53; ^commit", INVAL, COMMAND, ""),
        (
            "udp dport=53 id=5; tcp dport=53 ^id=5",
            Errno::Exist,
            "the id of another rule",
            "",
        ),
        ("udp dport=53 netns=^pid:5", Errno::Srch, NO_NETNS, ""),
    ];
    let world = World::default();
    for mistake in PARAMETER {
        let (text, line, column) = marked(mistake.0);
        // A `;` at the end of a line but the last is cut text too.
        let (line, column) = match text.find(";\n") {
            Some(at) => (1, at + 1),
            None => (line, column),
        };
        let result = command::from_parameter(text.as_bytes(), &world, &world);
        assert_refused(&text, result.map(drop), mistake, (line, column));
        assert_eq!(world.live(), 0);
    }
}

/// An unknown word is told all words, in one order.
#[test]
fn an_unknown_word_is_told_the_words() {
    let refusal = read("udp dport=53 frobnicate").unwrap_err();
    assert_eq!(
        refusal.expected,
        "add insert delete flush purge load, a protocol, or one of skip track ip ip6 src= dst= sport= dport= type= \
         flags= local= dev= mark= netns= nat=ok oneway any tag= id="
    );
}

/// Where no word of the rule is wrong by itself, what is expected says how it is written here, or where.
#[test]
fn what_is_expected_says_how_it_is_written() {
    let world = World::default();
    let base = table("udp dport=53 tag=dns\n", &world);
    for (text, expected) in [
        ("insert 1 udp dport=53", "insert before=ID RULE"),
        ("insert before 1 udp dport=53", "insert before=ID RULE"),
        ("flush tag=dns", "delete tag=T"),
        ("flush tag=dns", "flush alone"),
        ("delete all", "flush, for all rules"),
        ("mode off", "/sys/kernel/ctskip/mode"),
        ("mode off", "the parameter mode="),
        ("off", "/sys/kernel/ctskip/mode"),
        ("worst_lookup=0", "parameter"),
        ("udp dport=\"53\"", "without quotes"),
        ("udp dst=any", "without the term"),
        ("udp dst=10.0.0.1:53", "dst=10.0.0.1 dport=53"),
        ("udp src=10.0.0.1:53", "src=10.0.0.1 sport=53"),
        (
            "-p udp -m set --match-set servers dst",
            "dst=10.0.0.1,10.0.0.2",
        ),
        ("-p udp -m conntrack --ctstate NEW", "before conntrack"),
        ("-p udp --dport 53 -j ACCEPT", "skip or track"),
        ("fib daddr type broadcast", "local=dst or local=src"),
        (
            "-p udp -m addrtype --dst-type UNICAST",
            "local=dst or local=src",
        ),
    ] {
        let report = run(&base, &format!("{text}\n"), &world)
            .map(drop)
            .unwrap_err();
        let found = report.refusal().expected;
        assert!(found.contains(expected), "{text}: {found}");
    }
    // In a `load` and in the parameter, too.
    let report = command::from_parameter(b"udp any; mode=off", &world, &world)
        .map(drop)
        .unwrap_err();
    assert_eq!(report.refusal().what, MODE_WORD);
}

/// A namespace's name, or the path of its file, is its number when it is read.
#[test]
fn namespaces_by_name_and_path() {
    for (value, number) in [
        ("ns7", "4026532007"),
        ("/run/netns/ns7", "4026532007"),
        ("host", "init"),
        ("/run/netns/host", "init"),
    ] {
        let rule = rule(&format!("udp+dport=53+netns={value}+tag=a"));
        let expected = format!("skip udp dport=53 netns={number} tag=a");
        assert_eq!(rule.to_string(), expected);
    }
    // What cannot be looked up at once is told how else it is named.
    let refusal = read("udp any netns=/proc/1/ns/net").unwrap_err();
    assert!(refusal.expected.contains("pid:N"));
    assert!(refusal.expected.contains("stat -L -c %i PATH"));
}

/// A path has 255 bytes at most, that of a name's folder included.
#[test]
fn long_paths_of_namespaces() {
    for (value, most) in [("/", 254), ("a", 243)] {
        for (more, errno) in [(most, Errno::Srch), (most + 1, INVAL)] {
            let value = format!("{value}{}", "a".repeat(more));
            let refusal = read(&format!("udp any netns={value}")).unwrap_err();
            assert_eq!(refusal.errno, errno, "{value}");
        }
    }
}

/// The limits themselves are within them.
#[test]
fn limits() {
    let list = |n: usize| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let addresses = |n: usize| {
        (1..=n)
            .map(|i| format!("10.0.0.{i}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    rule(&format!("udp dport={}", list(16)));
    rule(&format!(
        "tcp,udp dst={} sport=1,2 dport={}",
        addresses(16),
        list(16)
    ));
    assert!(read(&format!("udp dport={}", list(17))).is_err());
    assert!(read(&format!(
        "tcp,udp,sctp dst={} sport=1,2 dport={}",
        addresses(16),
        list(16)
    ))
    .is_err());
    for text in [
        "udp dport=0-65535,0,65535 any",
        "icmp type=0-255 any",
        "udp dst=0.0.0.0/0 src=255.255.255.255",
        "udp dst=::/0 src=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "udp dport=53 dev=fifteen-letters,fifteen-letters*",
        "udp dport=53 tag=a-name-of-sixty-three-characters-is-as-long-as-there-is-room.xy",
        "udp mark=4294967295 id=4294967295",
        "udp mark=0x80000000/0x80000000 id=1",
        "proto=0,255 any",
        "ip proto=0,43,44,51,59,60 any",
        "ah any",
    ] {
        rule(text);
    }
}

/// What tags and devices' names may be made of, byte by byte.
#[test]
fn characters_of_names() {
    // What ends a word, a statement or a line, or an element of a list, is never part of a name.
    let in_words = (b'!'..=b'~').filter(|b| !matches!(b, b'#' | b';' | b','));
    for byte in in_words {
        let c = char::from(byte);
        let tag = read(&format!("udp any tag=a{c}"));
        assert_eq!(
            tag.is_ok(),
            c.is_ascii_alphanumeric() || "._:/-".contains(c),
            "{c:?}"
        );
        let device = read(&format!("udp any dev=a{c}b"));
        assert_eq!(device.is_ok(), !"/:*\"@".contains(c), "{c:?}");
    }
}
