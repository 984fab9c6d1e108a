// SPDX-License-Identifier: GPL-2.0

//! The table of terms, and `docs/rules.md`, which says the same to users: names, forms, names of other
//! tools.

use std::collections::{
    BTreeMap,
    BTreeSet, //
};

use ctskip_pure::{
    language::{
        icmp_type_names,
        table,
        Row, //
    },
    rule::{
        protocol,
        Family,
        TcpFlags, //
    }, //
};
use ctskip_testkit::world::read;

const DOCUMENT: &str = include_str!("../../docs/rules.md");

/// The rows of the table below a heading, a list of cells each; without the head.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let start = DOCUMENT.find(&format!("\n{heading}\n")).expect(heading) + heading.len() + 2;
    let lines = DOCUMENT[start..]
        .lines()
        .take_while(|line| !line.starts_with('#'));
    let lines = lines.filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows: Vec<Vec<&str>> = lines
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    rows[2..].to_vec()
}

/// What a cell has as code.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The key of a word as the table of terms has it: without the value, but for `nat=ok`.
fn key(word: &str) -> &str {
    match word.find('=') {
        Some(at) if word != "nat=ok" => &word[..=at],
        _ => word,
    }
}

/// The row of the table of terms that has this word.
fn row(word: &str) -> Row {
    let has = |row: &Row| row.listed.contains(&word) || row.unlisted.contains(&word);
    table()
        .find(has)
        .unwrap_or_else(|| panic!("{word} is no word"))
}

/// Every word is in the document, and every word of the document is one.
#[test]
fn the_document_has_all_words() {
    let documented: BTreeSet<&str> = rows("## A rule")
        .iter()
        .flat_map(|row| code(row[0]))
        .map(key)
        .collect();
    let words = table().flat_map(|row| [row.listed, row.unlisted].concat());
    let words: BTreeSet<&str> = words.map(key).collect();
    // Those that the text around the table has.
    let others = ["skip", "track", "all"];
    let missing: Vec<_> = words
        .difference(&documented)
        .filter(|word| !others.contains(word))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for word in documented {
        row(word);
    }
    let first: Vec<&str> = code(rows("## A rule")[0][0]).collect();
    assert_eq!(first[..first.len() - 1], protocol::NAMES);
}

/// Each form of a term in the document is taken, and is a list where the document says so.
#[test]
fn forms_are_taken() {
    let samples = BTreeMap::from([
        ("P", "53"),
        ("P-P", "53-60"),
        ("A", "10.0.0.1"),
        ("A/LEN", "10.0.0.0/8"),
        ("A-A", "10.0.0.1-10.0.0.9"),
        ("N", "8"),
        ("N-N", "8-9"),
        ("NAME", "echo-request"),
        ("F", "syn"),
        ("F/M", "syn/syn+ack"),
        ("V", "0x10"),
        ("V/MASK", "1/0xff"),
        ("pid:N", "pid:101"),
        ("/run/netns/NAME", "/run/netns/ns1"),
    ]);
    let takes = |text: &str| read(text).is_ok();
    let mut used = BTreeSet::new();
    for cells in rows("## A rule") {
        let [words, _, forms] = cells[..] else {
            panic!("{cells:?}");
        };
        for word in
            code(words).filter(|word| word.ends_with('=') && !["tag=", "id="].contains(word))
        {
            let rest = match word {
                "src=" | "dst=" | "dev=" | "mark=" | "netns=" => "udp any",
                "type=" => "icmp any",
                _ => "tcp any",
            };
            let forms: Vec<&str> = code(forms).filter(|form| !form.contains(' ')).collect();
            assert!(!forms.is_empty(), "{word}");
            for form in forms {
                let value = samples.get(form).copied().unwrap_or(form);
                used.insert(form);
                assert!(takes(&format!("{rest} {word}{value}")), "{word}{value}");
                let is_list = takes(&format!("{rest} {word}{value},{value}"));
                assert_eq!(is_list, row(word).is_list, "{word}{value}");
            }
            assert_eq!(cells[2].contains("a list"), row(word).is_list, "{word}");
        }
        // Words without a value are taken as they stand.
        for word in code(words).filter(|word| !word.ends_with('=') && !word.ends_with("=N")) {
            let rest = if row(key(word)).listed == ["any"] {
                "udp"
            } else {
                "any"
            };
            assert!(takes(&format!("{word} {rest}")), "{word}");
        }
    }
    for sample in samples.keys() {
        assert!(used.contains(sample), "{sample} is in no form");
    }
}

/// The document has the words of other tools, and what each one is called here.
#[test]
fn the_document_has_the_words_of_other_tools() {
    let documented = rows("### Words of other tools");
    let documented = documented.iter().flat_map(|row| {
        let own = code(row[1]).next().unwrap();
        code(row[0]).map(move |word| (word, own))
    });
    let aliases = table().flat_map(|row| row.aliases.iter().copied());
    assert_eq!(documented.collect::<Vec<_>>(), aliases.collect::<Vec<_>>());
}

/// A word of another tool is none of this language, and is told what it is called here.
#[test]
fn words_of_other_tools_are_told_their_own() {
    let words: Vec<&str> = table()
        .flat_map(|row| [row.listed, row.unlisted].concat())
        .collect();
    for (alias, own) in table().flat_map(|row| row.aliases) {
        assert!(!words.contains(alias), "{alias}");
        assert!(words.iter().any(|word| own.starts_with(word)), "{own}");
        let refusal = read(&format!("any {alias}1")).unwrap_err();
        let bare = read(&format!("any {alias}")).unwrap_err();
        let refusal = if alias.ends_with('=') { refusal } else { bare };
        assert_eq!(refusal.likely.unwrap().to_string(), *own, "{alias}");
    }
}

/// The document has the names of the ICMP types, and they are read as their numbers.
#[test]
fn the_document_has_the_names_of_icmp_types() {
    let documented = rows("### `type=`");
    for (row, (word, family)) in documented
        .iter()
        .zip([("icmp", Family::Ipv4), ("icmp6", Family::Ipv6)])
    {
        let names = icmp_type_names(family);
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        assert_eq!(code(row[0]).collect::<Vec<_>>(), [word]);
        assert_eq!(code(row[1]).collect::<Vec<_>>(), known);
        for (name, number) in names {
            let rule = read(&format!("{word} type={name}")).unwrap().rule;
            assert_eq!(rule.to_string(), format!("skip {word} type={number}"));
        }
    }
    assert_eq!(documented.len(), 2);
}

/// In `tcp+flags=syn+WORD`, the word is one, and no flag.
#[test]
fn no_word_is_a_flag() {
    for flag in TcpFlags::NAMES {
        let words = table().flat_map(|row| [row.listed, row.unlisted].concat());
        assert!(words.into_iter().all(|word| word != flag));
    }
}
