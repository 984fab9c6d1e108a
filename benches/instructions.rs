// SPDX-License-Identifier: GPL-2.0

//! The instructions of a lookup, a load or an update, counted by callgrind: the same in every run.
//!
//! ```sh
//! cargo bench --bench instructions -- SHAPE[,...] RULES[,...] match|miss|slow|load|update|shadows[,...]
//! ```
//!
//! `match` and `miss`: the mean over a few thousand packets, what the guest's benchmark sends where
//! the shape has such. `slow`: of some ten thousand that match or come close, those that took longest,
//! counted one by one. `load`: all rules, from text to the compiled table. `update`: one rule put into
//! the middle of the table, and one taken out. `shadows`: the search for rules that others shadow, which a
//! load of the table does as well.
//!
//! It runs itself again under valgrind, which has to be installed, and counts what lies within the
//! functions called `counted_...`.

use std::{
    hint::black_box,
    path::{
        Path,
        PathBuf, //
    },
    process::Command,
    time::{
        Duration,
        Instant, //
    }, //
};

use ctskip_pure::{
    matcher::{
        plan::View,
        shadow::Shadows, //
    },
    packet::header::Key, //
};
use ctskip_testkit::{
    compiled::{
        look_up,
        Compiled, //
    },
    packets::near,
    shapes::{
        trace::{
            self,
            Wanted, //
        },
        Shape, //
    },
    source::Source,
    world::{
        self,
        changed,
        lines,
        loaded,
        Slot,
        Table,
        Unlimited,
        World,
        INIT_INUM, //
    },
};

/// The packets of `match` and `miss`.
const PACKETS: usize = 2000;
/// Those that `slow` is sought among, those that are counted, and those that are shown.
const SOUGHT: usize = 20_000;
const COUNTED: usize = 100;
const SHOWN: usize = 10;

/// Says to the process below valgrind that it is one.
const COUNTING: &str = "CTSKIP_COUNTING";

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [shapes, counts, whats] = &arguments[..] else {
        eprintln!(
            "usage: instructions SHAPE[,...] RULES[,...] match|miss|slow|load|update|shadows[,...]"
        );
        return;
    };
    for name in shapes.split(',') {
        for count in counts.split(',') {
            for what in whats.split(',') {
                let shape = Shape::named(name).expect("no such shape");
                let case = Case {
                    name,
                    shape,
                    count: count.parse().expect("not a number"),
                    what,
                };
                match std::env::var(COUNTING) {
                    Ok(slow) => case.run(&slow),
                    Err(_) => case.count(),
                }
            }
        }
    }
}

struct Case<'a> {
    name: &'a str,
    shape: Shape,
    count: usize,
    what: &'a str,
}

impl Case<'_> {
    /// Runs the case below valgrind and prints what that counted.
    fn count(&self) {
        let Self {
            name, count, what, ..
        } = self;
        let slow = match *what {
            "slow" => self.slowest(),
            _ => String::new(),
        };
        let folder =
            std::env::temp_dir().join(format!("ctskip-instructions-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for callgrind");
        let counts = self.callgrind(&slow, &folder);
        let _ = std::fs::remove_dir_all(&folder);

        let sum: u64 = counts.iter().sum();
        print!("{name:12} {count:6} {what:6}");
        match *what {
            "match" | "miss" => println!(" {:8.1} a packet", sum as f64 / PACKETS as f64),
            "slow" => {
                let mut counts = counts;
                counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
                println!(" {:?}", &counts[..SHOWN.min(counts.len())]);
            }
            "load" | "shadows" => {
                println!(" {sum:8} in all, {:.0} a rule", sum as f64 / *count as f64)
            }
            _ => println!(" {counts:?} one rule in, one out"),
        }
    }

    /// What callgrind counted in each call of a function `counted_...`.
    fn callgrind(&self, slow: &str, folder: &Path) -> Vec<u64> {
        let Self {
            name, count, what, ..
        } = self;
        let status = Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
            .args(["--toggle-collect=*counted_*", "--dump-after=*::counted_*"])
            .arg(format!("--callgrind-out-file={}/out", folder.display()))
            .arg(std::env::current_exe().expect("this program's file"))
            .args([name.to_string(), count.to_string(), what.to_string()])
            .env(COUNTING, slow)
            .stderr(std::process::Stdio::null())
            .status()
            .expect("valgrind, which has to be installed");
        assert!(status.success(), "{name} {count} {what}: {status}");
        // One file for each call, numbered, and one for the rest. (Of two options with the very same
        // pattern, the second would do nothing.)
        let file = |n: usize| PathBuf::from(format!("{}/out.{n}", folder.display()));
        let files = (1..).map(file).take_while(|file| file.exists());
        let counts = files.filter_map(|file| {
            let text = std::fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with("totals:"))?;
            line.strip_prefix("totals:")?.trim().parse().ok()
        });
        counts.filter(|count| *count > 0).collect()
    }

    /// Does what is counted.
    fn run(&self, slow: &str) {
        let rules = self.shape.rules(self.count, 1);
        match self.what {
            "load" => {
                counted_load(&lines(&rules), &World::default());
            }
            "shadows" => {
                let compiled = Compiled::of_text(&lines(&rules));
                let shadows = counted_shadows(&compiled);
                let (known, unknown) = (shadows.known().count(), shadows.unknown());
                eprintln!("{known} are shadowed, of {unknown} it is not known");
            }
            "update" => {
                let world = World::default();
                let compiled = Compiled::new(world::table(&lines(&rules), &world));
                let place = self.count / 2 + 1;
                let insert = format!("insert before={place} udp src=11.0.0.1 dport=7\n");
                let compiled = counted_update(&compiled, &insert, &world);
                counted_update(&compiled, &format!("delete {place}\n"), &world);
            }
            "slow" => {
                let compiled = Compiled::of_text(&lines(&rules));
                let keys = self.keys(&compiled);
                for at in slow.split(',').filter_map(|at| at.parse::<usize>().ok()) {
                    black_box(counted_lookups(compiled.view(INIT_INUM), &keys[at..=at]));
                }
            }
            _ => {
                let compiled = Compiled::of_text(&lines(&rules));
                let keys = self.keys(&compiled);
                black_box(counted_lookups(compiled.view(INIT_INUM), &keys));
            }
        }
    }

    /// The packets: of the initial namespace, as the lookups are.
    fn keys(&self, compiled: &Compiled) -> Vec<Key> {
        let rules = world::rules(compiled.table());
        let wanted = match self.what {
            "match" => Wanted::Match,
            "miss" => Wanted::Miss,
            _ => {
                let trace: &mut dyn Source = &mut trace::trace(1);
                return (0..SOUGHT).map(|_| near(trace, &rules).key).collect();
            }
        };
        trace::packets(&rules, wanted, false, PACKETS, 1).expect("no such packets")
    }

    /// The places of the packets that take longest.
    fn slowest(&self) -> String {
        let rules = self.shape.rules(self.count, 1);
        let compiled = Compiled::of_text(&lines(&rules));
        let keys = self.keys(&compiled);
        let view = compiled.view(INIT_INUM);
        let time = |key: &Key| {
            let runs = (0..5).map(|_| {
                let start = Instant::now();
                for _ in 0..4 {
                    black_box(look_up(view, black_box(key)));
                }
                start.elapsed()
            });
            runs.min().unwrap_or_default()
        };
        let mut times: Vec<(Duration, usize)> = keys.iter().map(time).zip(0..).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let places: Vec<_> = times
            .iter()
            .take(COUNTED)
            .map(|(_, at)| at.to_string())
            .collect();
        places.join(",")
    }
}

#[inline(never)]
fn counted_lookups(view: &View<Slot>, keys: &[Key]) -> u64 {
    keys.iter().fold(0, |sum, key| {
        sum + u64::from(look_up(view, key).unwrap_or(1))
    })
}

#[inline(never)]
fn counted_load(text: &str, world: &World) -> Compiled {
    Compiled::new(loaded(&Table::new(), text, world).expect("rules"))
}

#[inline(never)]
fn counted_shadows(compiled: &Compiled) -> Shadows {
    Shadows::of(compiled.ruleset(), &Unlimited).expect("memory")
}

#[inline(never)]
fn counted_update(last: &Compiled, commands: &str, world: &World) -> Compiled {
    last.updated(changed(last.table(), commands, world))
}
