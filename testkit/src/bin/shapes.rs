// SPDX-License-Identifier: GPL-2.0

//! Prints rules of a shape, or packets for them: what benchmarks in a guest load and send.
//!
//! A packet is a line `SRC DST PROTOCOL SPORT DPORT`, of IPv4, as it comes in by an ordinary device of
//! the initial namespace; the type of ICMP stands in place of the destination port. `match`: each
//! is within a random rule of the table of that shape, count and seed, in either direction, so that
//! some are matched by a rule before. `miss`: no rule of the table matches, but each shares addresses
//! or ports with some.

use std::{
    io::{
        BufWriter,
        Write, //
    },
    net::Ipv4Addr,
    process::ExitCode, //
};

use ctskip_pure::packet::header::{
    Key,
    Transport, //
};
use ctskip_testkit::{
    shapes::{
        trace::{
            self,
            Wanted, //
        },
        Shape, //
    },
    world::{
        self,
        lines,
        table,
        World, //
    },
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lines = match arguments[..] {
        ["rules", shape, count] => rules(shape, count, "1"),
        ["rules", shape, count, seed] => rules(shape, count, seed),
        ["trace", shape, count, packets, what] => packets_of(shape, count, packets, what, "1"),
        ["trace", shape, count, packets, what, seed] => {
            packets_of(shape, count, packets, what, seed)
        }
        _ => Err(usage()),
    };
    let lines = match lines {
        Ok(lines) => lines,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    match written.and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shapes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let shapes: Vec<&str> = Shape::ALL.iter().map(|(_, name)| *name).collect();
    format!(
        "usage: shapes rules SHAPE COUNT [SEED]\n       \
         shapes trace SHAPE COUNT PACKETS match|miss [SEED]\nshapes: {}",
        shapes.join(" ")
    )
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

fn rules(shape: &str, count: &str, seed: &str) -> Result<Vec<String>, String> {
    let shape = Shape::named(shape).ok_or_else(usage)?;
    Ok(shape.rules(number(count)?, number(seed)?))
}

fn packets_of(
    shape: &str,
    count: &str,
    packets: &str,
    what: &str,
    seed: &str,
) -> Result<Vec<String>, String> {
    let wanted = match what {
        "match" => Wanted::Match,
        "miss" => Wanted::Miss,
        _ => return Err(usage()),
    };
    let (len, seed_number) = (number(packets)?, number(seed)?);
    let table = table(&lines(&rules(shape, count, seed)?), &World::default());
    let found = trace::packets(&world::rules(&table), wanted, true, len, seed_number);
    match found {
        Ok(keys) => Ok(keys.iter().map(line).collect()),
        Err(found) => Err(format!(
            "shapes: of 1000 tries a packet, only {found} of {packets} packets {what} {shape}"
        )),
    }
}

fn line(key: &Key) -> String {
    let address = |address: u128| Ipv4Addr::from((address >> 96) as u32);
    let (source_port, destination_port) = match key.transport {
        Transport::Ports(source, destination) => (source, destination),
        Transport::IcmpType(icmp_type) => (0, u16::from(icmp_type)),
        Transport::Unknown => (0, 0),
    };
    let (source, destination) = (address(key.source), address(key.destination));
    format!(
        "{source} {destination} {} {source_port} {destination_port}",
        key.protocol
    )
}
