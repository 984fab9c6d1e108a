// SPDX-License-Identifier: GPL-2.0

//! Rule text: what is taken, is printed so that it is taken again as the same; what is refused, is
//! refused at a place in the text.

use ctskip_pure::{
    language::{
        parse::{
            parse,
            Parsed, //
        },
        refusal::{
            Likely,
            Refusal, //
        },
        report::Report,
        text::{
            statements,
            Statement, //
        },
    },
    rule::Action, //
};

use crate::world::World;

/// Takes lines of rules.
pub fn rules(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        for statement in statements(line) {
            match read(statement) {
                Ok(parsed) => taken(&parsed),
                Err(refusal) => refused(&refusal, line),
            }
        }
    }
}

fn read(statement: Statement<'_>) -> Result<Parsed, Refusal> {
    parse(statement.words(), &World::default(), None)
}

/// The canonical text is one statement, is printed of itself, and may be written to `rules`: also
/// with `+` for its spaces, unless a device has one in its name.
fn taken(parsed: &Parsed) {
    let text = parsed.rule.to_string();
    assert!(text.len() < 4000, "too long to be written again: {text}");
    let has_plus = parsed
        .rule
        .devices()
        .any(|device| device.name().contains(&b'+'));
    let plus = (!has_plus).then(|| text.replace(' ', "+"));
    for text in [text].into_iter().chain(plus) {
        let mut all = statements(text.as_bytes());
        let again = all.next().map(read);
        assert!(all.next().is_none(), "more than one statement: {text}");
        let Some(Ok(again)) = again else {
            panic!("not taken again: {text}: {again:?}");
        };
        assert_eq!(again.id, None);
        assert_eq!(again.rule, parsed.rule, "{text}");
        assert_eq!(again.rule.to_string(), parsed.rule.to_string());
    }
}

/// The report shows the place, in printable text, on its five lines. A rule that it shows is one.
pub(super) fn refused(refusal: &Refusal, line: &[u8]) {
    assert!(refusal.column <= line.len(), "{refusal:?}");
    assert!(!refusal.what.is_empty());
    let report = Report::new(refusal.clone(), 1, line);
    let excerpt = report.excerpt();
    assert!(excerpt.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(report.caret() <= excerpt.len().max(line.len()));
    if let Some(b'!'..=b'~') = line.get(refusal.column) {
        let shown = excerpt.as_bytes().get(report.caret());
        assert_eq!(shown, line.get(refusal.column), "{report}");
    }
    let text = report.to_string();
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    assert_eq!(keys, ["error", "expected", "likely", "text", "here"]);
    if let Some(likely @ (Likely::Rule(_) | Likely::Ahead(_))) = &refusal.likely {
        hint(likely);
    }
}

/// A rule that is shown as a hint is read as it is shown. One to insert ahead is a `track` rule.
fn hint(likely: &Likely) {
    let shown = likely.to_string();
    assert!(shown.len() <= 160, "{shown}");
    let (text, is_ahead) = match shown.strip_prefix("insert ") {
        Some(rule) => (rule, true),
        None => (&*shown, false),
    };
    let rule = statements(text.as_bytes()).next().map(read);
    let Some(Ok(Parsed { rule, .. })) = rule else {
        panic!("not taken: {shown}: {rule:?}");
    };
    assert!(rule.to_string().ends_with(text), "{rule}: {shown}");
    match likely {
        Likely::Ahead(_) => assert!(is_ahead && rule.action() == Action::Track, "{shown}"),
        _ => assert!(!is_ahead, "{shown}"),
    }
}
