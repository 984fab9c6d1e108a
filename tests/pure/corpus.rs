// SPDX-License-Identifier: GPL-2.0

//! What fuzzing began with and found, `fuzz/corpus`, put to the same checks once more.

use std::{
    fs,
    path::Path, //
};

use ctskip_testkit::checks;

/// Puts each file of a target's corpus to its check.
fn corpus(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| check(&data)).is_err() {
            panic!("{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 12, "{count} files in {}", folder.display());
}

macro_rules! targets {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            corpus(stringify!($target), checks::$target);
        })*

        /// Every target of the fuzz crate is here.
        #[test]
        fn all_targets() {
            let manifest = include_str!("../../fuzz/Cargo.toml");
            let names = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
            let names: Vec<&str> = names.map(|name| name.trim_end_matches(".rs\"")).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}

targets!(rules, transactions, headers, matcher, edits, session, flows);
