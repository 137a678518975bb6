//! Measures the server beside the floor and the SDK: `tests/bench/run` starts it.

mod backend;
mod load;
mod peer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use load::Client;
use peer::{Ask, Peer};

struct Scenario {
    name: &'static str,
    ask: Ask,
    connections: usize,
    fresh: bool,
}

const fn scenario(name: &'static str, ask: Ask, connections: usize, fresh: bool) -> Scenario {
    Scenario {
        name,
        ask,
        connections,
        fresh,
    }
}

const SCENARIOS: [Scenario; 9] = [
    scenario("list, 1", Ask::List, 1, false),
    scenario("list, 16", Ask::List, 16, false),
    scenario("list, 64", Ask::List, 64, false),
    scenario("call, 1", Ask::Call("/small"), 1, false),
    scenario("call, 16", Ask::Call("/small"), 16, false),
    scenario("call, 64", Ask::Call("/small"), 64, false),
    scenario("call, 16, fresh", Ask::Call("/small"), 16, true),
    scenario("call, 1 MiB, 4", Ask::Call("/large"), 4, false),
    scenario("call, 20 ms, 64", Ask::Call("/slow"), 64, false),
];

/// What was measured: scenario and figure, then peer, each round's value.
type Figures = BTreeMap<(usize, &'static str, &'static str), BTreeMap<&'static str, Vec<f64>>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "backend") {
        backend::start();
    }
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `ROUNDS MILLISECONDS DIRECTORY`, then `NAME=COMMAND` of each peer; the first is ours.
fn measure(arguments: &[String]) -> Result<(), String> {
    let [rounds, milliseconds, work, peers @ ..] = arguments else {
        return Err("arguments are missing".to_owned());
    };
    let (rounds, work) = (
        rounds.parse::<usize>().map_err(|error| error.to_string())?,
        PathBuf::from(work),
    );
    let time = Duration::from_millis(milliseconds.parse().map_err(|_| "not a time")?);
    let peers: Vec<Peer> = peers.iter().map(|peer| named(peer)).collect();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut api = Command::new(program)
        .arg("backend")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(api.stdout.take().unwrap()),
        &mut url,
    )
    .unwrap();
    let mut figures = Figures::new();
    let mut all = || -> Result<(), String> {
        for round in 0..rounds {
            for turn in 0..peers.len() {
                let peer = &peers[(turn + round) % peers.len()];
                for (number, scenario) in SCENARIOS.iter().enumerate() {
                    load(
                        peer,
                        (number, scenario),
                        url.trim(),
                        &work,
                        time,
                        &mut figures,
                    )?;
                }
                idle(peer, url.trim(), &work, &mut figures)?;
            }
        }
        Ok(())
    };
    let result = all();
    let _ = api.kill().and_then(|()| api.wait());
    result?;
    print(&figures, &peers);
    Ok(())
}

fn named(peer: &str) -> Peer {
    let (name, command) = peer.split_once('=').unwrap_or((peer, ""));
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    Peer {
        name,
        command: command.split(' ').map(str::to_owned).collect(),
        is_mcp: name != "floor",
    }
}

fn load(
    peer: &Peer,
    (number, scenario): (usize, &'static Scenario),
    backend: &str,
    work: &Path,
    time: Duration,
    figures: &mut Figures,
) -> Result<(), String> {
    let Scenario {
        name,
        ask,
        connections,
        fresh,
    } = *scenario;
    let failed = |error: String| format!("{}, {name}: {error}", peer.name);
    let server = peer.start(backend, work)?;
    let request = peer.request(server.address, ask);
    let data = backend::json(if ask == Ask::Call("/large") {
        1024 * 1024
    } else {
        1024
    });
    let mut client = Client::connect(server.address).map_err(|error| failed(error.to_string()))?;
    let expected = client.exchange(&request).map_err(failed)?.to_vec();
    if !peer.is_right(&expected, ask, &data) {
        return Err(failed(format!(
            "a wrong answer: {}",
            String::from_utf8_lossy(&expected[..expected.len().min(2000)])
        )));
    }
    drop(client);
    load::run(
        server.address,
        &request,
        &expected,
        connections,
        fresh,
        time / 5,
    )
    .map_err(failed)?;
    let cpu = server.cpu();
    let outcome = load::run(
        server.address,
        &request,
        &expected,
        connections,
        fresh,
        time,
    )
    .map_err(failed)?;
    let cpu = server.cpu() - cpu;
    let count = outcome.requests as f64;
    let mut note = |figure, value| {
        figures
            .entry((number, name, figure))
            .or_default()
            .entry(peer.name)
            .or_default()
            .push(value)
    };
    note("a requests/s", count / outcome.seconds);
    note("b p50 ms", outcome.percentile(50));
    note("c p99 ms", outcome.percentile(99));
    note("d CPU µs a request", cpu * 1e6 / count);
    note("e peak MiB", server.memory("VmHWM"));
    Ok(())
}

/// Start-up and memory; then 250 and 1,000 connections that have called once and idle, and a call beside them.
fn idle(peer: &Peer, backend: &str, work: &Path, figures: &mut Figures) -> Result<(), String> {
    let failed = |error: String| format!("{}, idle: {error}", peer.name);
    let server = peer.start(backend, work)?;
    let request = peer.request(server.address, Ask::Call("/small"));
    let mut note = |figure, value| {
        figures
            .entry((99, "idle", figure))
            .or_default()
            .entry(peer.name)
            .or_default()
            .push(value)
    };
    note("a start-up ms", server.start_up);
    note("b MiB", server.memory("VmRSS"));
    let mut clients = Vec::new();
    for number in 1..=1000 {
        let mut client =
            Client::connect(server.address).map_err(|error| failed(error.to_string()))?;
        client.exchange(&request).map_err(failed)?;
        clients.push(client);
        if number == 250 {
            // So long that a server may give back what only calls need.
            thread::sleep(Duration::from_secs(2));
            note("c MiB, 250 connections", server.memory("VmRSS"));
        }
    }
    note("d MiB, 1,000 connections", server.memory("VmRSS"));
    note(
        "e of 1,000 still open",
        clients.iter().filter(|client| !client.is_closed()).count() as f64,
    );
    let begun = Instant::now();
    let mut client = Client::connect(server.address).map_err(|error| failed(error.to_string()))?;
    client.exchange(&request).map_err(failed)?;
    note(
        "f the call then, ms",
        begun.elapsed().as_secs_f64() * 1000.0,
    );
    Ok(())
}

/// One row a figure: medians, then our ratio to each peer, the median of the rounds' with their spread.
fn print(figures: &Figures, peers: &[Peer]) {
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    let ratios: Vec<String> = names
        .iter()
        .skip(1)
        .map(|name| format!("{} / {name}", names[0]))
        .collect();
    println!("| | {} | {} |", names.join(" | "), ratios.join(" | "));
    println!("|{}", " --- |".repeat(names.len() * 2));
    for ((_, name, figure), values) in figures {
        let medians: Vec<String> = names
            .iter()
            .map(|name| rounded(median(&values[name]).1))
            .collect();
        let ratio = |other: &&str| {
            let pairs = values[names[0]].iter().zip(&values[other]);
            let (least, middle, most) = median(
                &pairs
                    .map(|(ours, theirs)| ours / theirs)
                    .collect::<Vec<_>>(),
            );
            format!("{middle:.2} ({least:.2}–{most:.2})")
        };
        let ratios: Vec<String> = names[1..].iter().map(ratio).collect();
        println!(
            "| {name}: {} | {} | {} |",
            &figure[2..],
            medians.join(" | "),
            ratios.join(" | ")
        );
    }
}

/// Least, median and most.
fn median(values: &[f64]) -> (f64, f64, f64) {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    )
}

fn rounded(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
