// SPDX-License-Identifier: GPL-2.0

//! Tables built to be bad, and edits of them: what is made of the last compiled table says of every
//! packet what the oracle says of the new one.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc, //
};

use arbitrary::{
    Result,
    Unstructured, //
};

use super::{
    draw,
    matcher::held, //
};
use crate::shapes::{
    compiled::{
        table,
        written,
        Compiled,
        Table, //
    },
    Shape,
};

/// How many rules there are to begin with: of the more, small changes are put aside.
const SIZES: [usize; 4] = [0, 3, 40, 520];
/// The most changes of a table.
const EDITS: usize = 12;

thread_local! {
    /// The tables that changes start from. They depend on nothing but their key.
    static BASES: RefCell<HashMap<(usize, usize), Rc<Compiled>>> = RefCell::default();
}

/// A table's shape and size, and changes of it, each with packets.
pub(crate) fn edits(data: &[u8]) {
    // The bytes are always enough: those that are missing are zeros.
    let _ = checked(&mut Unstructured::new(data));
}

fn checked(u: &mut Unstructured<'_>) -> Result<()> {
    let shape = u.choose_index(Shape::ALL.len())?;
    let mut compiled = base((shape, u.choose_index(SIZES.len())?));
    for _ in 0..EDITS {
        if u.is_empty() {
            break;
        }
        if let Some(new) = edited(compiled.table(), u)? {
            compiled = Rc::new(compiled.updated(new));
            held(&compiled, u, 8)?;
        }
    }
    Ok(())
}

fn base(key: (usize, usize)) -> Rc<Compiled> {
    BASES.with_borrow_mut(|bases| {
        let base = bases.entry(key).or_insert_with(|| {
            let (shape, size) = key;
            let (shape, _) = Shape::ALL[shape];
            let rules = shape.rules(SIZES[size], 1);
            Rc::new(Compiled::new(match rules.is_empty() {
                true => Table::new(),
                false => table(&rules),
            }))
        });
        base.clone()
    })
}

/// The table after one write; `None` where it was refused or changed nothing.
fn edited(base: &Table, u: &mut Unstructured<'_>) -> Result<Option<Table>> {
    let entries = base.entries();
    let mut text = String::new();
    for _ in 0..u.int_in_range(1..=4)? {
        let one = match entries {
            [] => None,
            _ => Some(u.choose(entries)?),
        };
        let id = one.map_or(0, |entry| entry.id());
        let command = match u.int_in_range(0..=15)? {
            0..=3 => format!("delete {id}"),
            4..=6 => format!("add {}", draw::rule(u)?),
            7 => format!("insert {}", draw::rule(u)?),
            8..=11 => format!("insert before={id} {}", draw::rule(u)?),
            // One that is there already moves, or stands twice.
            12 | 13 => match one {
                Some(entry) => format!("delete {id}\nadd {}", entry.rule()),
                None => continue,
            },
            14 => match one {
                Some(entry) => format!("insert {}", entry.rule()),
                None => continue,
            },
            _ => "delete tag=t".to_string(),
        };
        text.push_str(&command);
        text.push('\n');
    }
    Ok(written(base, &text))
}
