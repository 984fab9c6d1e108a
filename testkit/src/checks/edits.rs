// SPDX-License-Identifier: GPL-2.0

//! Tables built to be bad, and edits of them: of every packet, a compiled table that was updated says
//! what the oracle says of the new table.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc, //
};

use super::matcher::hold;
use crate::{
    compiled::Compiled,
    rules::{
        Kind,
        Spec,
        Style, //
    },
    shapes::Shape,
    source::{
        Bytes,
        Source, //
    },
    world::{
        lines,
        table,
        written,
        Table,
        World, //
    },
};

/// How many rules there are at the start. Small changes of the largest table are put aside.
const SIZES: [usize; 4] = [0, 3, 40, 520];
/// The most changes of a table.
const EDITS: usize = 12;

thread_local! {
    /// Hands out the slots of all tables here, as a change keeps slots of the table before.
    static WORLD: World = World::default();
    /// The tables that changes start from. They depend on nothing but their key.
    static BASES: RefCell<HashMap<(usize, usize), Rc<Compiled>>> = RefCell::default();
}

/// Takes a table's shape and size, and changes of it, each with packets.
pub fn edits(data: &[u8]) {
    let source: &mut dyn Source = &mut Bytes::new(data);
    let shape = source.index(Shape::ALL.len());
    let mut compiled = base((shape, source.index(SIZES.len())));
    for _ in 0..EDITS {
        if source.is_spent() {
            break;
        }
        if let Some(new) = edited(compiled.table(), source) {
            compiled = Rc::new(compiled.updated(new));
            hold(&compiled, source, 8);
        }
    }
}

fn base(key: (usize, usize)) -> Rc<Compiled> {
    BASES.with_borrow_mut(|bases| {
        let base = bases.entry(key).or_insert_with(|| {
            let (shape, size) = key;
            let (shape, _) = Shape::ALL[shape];
            let text = lines(&shape.rules(SIZES[size], 1));
            Rc::new(Compiled::new(WORLD.with(|world| table(&text, world))))
        });
        base.clone()
    })
}

/// Returns the table after one write; `None` where it was refused or changed nothing.
fn edited(base: &Table, source: &mut dyn Source) -> Option<Table> {
    let mut text = String::new();
    for _ in 0..source.within(1, 4) {
        let one = source.one_of(base.entries().iter());
        let id = one.map_or(0, |entry| entry.id());
        let command = match source.below(16) {
            0..=3 => format!("delete {id}"),
            4..=6 => format!("add {}", rule(source)),
            7 => format!("insert {}", rule(source)),
            8..=11 => format!("insert before={id} {}", rule(source)),
            // A rule that is there already moves, or stands twice.
            12 | 13 => match one {
                Some(entry) => format!("delete {id}\nadd {}", entry.rule()),
                None => continue,
            },
            14 => match one {
                Some(entry) => format!("insert {}", entry.rule()),
                None => continue,
            },
            _ => "delete tag=dns".to_string(),
        };
        text.push_str(&command);
        text.push('\n');
    }
    WORLD.with(|world| written(base, &text, world))
}

fn rule(source: &mut dyn Source) -> String {
    let kind = source.pick(&[Kind::Any(3), Kind::Plain]);
    Spec::make(source, kind).text(&Style::plain())
}
