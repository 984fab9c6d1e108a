// SPDX-License-Identifier: GPL-2.0

//! What the fuzz targets check; see [`checks`].

mod checks;
#[path = "../../tests/pure/shapes/mod.rs"]
#[expect(dead_code, reason = "tests and benchmarks use the rest")]
mod shapes;

macro_rules! targets {
    ($($target:ident),*) => {
        $(
            /// Panics where something does not hold.
            pub fn $target(data: &[u8]) {
                checks::$target(data);
            }
        )*
    };
}

targets!(rules, transactions, headers, matcher, edits, session);
