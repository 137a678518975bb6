//! Servers that share a token file are killed while they write it.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra};
use crate::support::http::Client;
use crate::support::server::{Mcp, Process, Setup};
use crate::support::{encode_pairs, lock, random_bytes};

const PROCESSES: usize = 3;
const WORKERS: usize = 6;
/// Every so many-th is signed out again.
const SIGNED_OUT: usize = 5;
const WORKER: &str = "worker";

/// What was acknowledged of a name.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    SignedIn,
    /// It was asked for, and not acknowledged yet.
    SigningOut,
    SignedOut,
}

/// A worker whose server is killed panics somewhere in the stand-in browser, and goes on.
pub fn expect_panics_of_workers() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(WORKER) {
            usual(info);
        }
    }));
}

#[allow(clippy::too_many_lines)] // one story, in order
pub fn run(writes: usize) -> String {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let file = setup.directory.file("token_cache.json");
    let processes: Vec<_> = (0..PROCESSES)
        .map(|_| Mutex::new(Process::start(server(), &setup)))
        .collect();
    let urls: Vec<_> = processes
        .iter()
        .map(|process| Mutex::new(lock(process).url()))
        .collect();
    let (known, next) = (
        Mutex::new(BTreeMap::<String, Known>::new()),
        AtomicUsize::new(0),
    );
    let (acknowledged, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let check = || {
        let before = lock(&known).clone();
        let text = fs::read(&file).unwrap_or_else(|_| br#"{"accounts":{}}"#.to_vec());
        let json: Value = serde_json::from_slice(&text).expect("the file always parses");
        let after = lock(&known).clone();
        let accounts = json["accounts"].as_object().expect("it has accounts");
        for (name, was) in before
            .iter()
            .filter(|(name, was)| after.get(*name) == Some(was))
        {
            let is_there = accounts.contains_key(name);
            assert!(
                *was != Known::SignedIn || is_there,
                "{name} had signed in and is not in the file"
            );
            assert!(
                *was != Known::SignedOut || !is_there,
                "{name} had signed out and is in the file"
            );
        }
    };
    let is_over = AtomicBool::new(false);
    let (mut kills, mut looks) = (0, 0);
    thread::scope(|scope| {
        let work = || {
            while acknowledged.load(Ordering::SeqCst) < writes {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let (name, url) = (
                    format!("user-{number}"),
                    lock(&urls[number % PROCESSES]).clone(),
                );
                let step = || {
                    let query = encode_pairs(&[("user_id", name.as_str())]);
                    let page = Browser::new().sign_in(&format!("{url}/auth/login?{query}"), ADA);
                    assert!(
                        page.status == 200 && page.text().contains("You are signed in"),
                        "{}",
                        page.text()
                    );
                    lock(&known).insert(name.clone(), Known::SignedIn);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    if number.is_multiple_of(SIGNED_OUT) {
                        lock(&known).insert(name.clone(), Known::SigningOut);
                        let mut mcp = Mcp::modern(Client::new(&url), json!({}));
                        mcp.ok("logout_user", json!({"user_id": name}));
                        lock(&known).insert(name.clone(), Known::SignedOut);
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                };
                if catch_unwind(AssertUnwindSafe(step)).is_err() {
                    failed.fetch_add(1, Ordering::SeqCst);
                    assert!(
                        failed.load(Ordering::SeqCst) < 20 * writes,
                        "nothing goes through any more"
                    );
                    thread::yield_now();
                }
            }
        };
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                thread::Builder::new()
                    .name(WORKER.to_owned())
                    .spawn_scoped(scope, work)
                    .unwrap()
            })
            .collect();
        let (looks, check, is_over) = (&mut looks, &check, &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                check();
                *looks += 1;
            }
        });
        while acknowledged.load(Ordering::SeqCst) < writes {
            let [which, moment] = random_bytes::<2>();
            // The moment must fall anywhere within a write.
            thread::sleep(Duration::from_micros(20_000 + 500 * u64::from(moment)));
            let which = usize::from(which) % PROCESSES;
            let mut process = lock(&processes[which]);
            process.kill();
            kills += 1;
            check();
            *process = Process::start(server(), &setup);
            *lock(&urls[which]) = process.url();
        }
        for worker in workers {
            worker.join().unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    check();
    drop(processes);
    check();
    // Nor has anybody found anything that had to be set aside.
    let names = fs::read_dir(&setup.directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        !names
            .into_iter()
            .any(|name| name.to_string_lossy().contains("corrupt"))
    );
    let (acknowledged, failed) = (acknowledged.into_inner(), failed.into_inner());
    format!(
        "{acknowledged} writes acknowledged, all kept; {kills} kills, {failed} requests cut, {looks} looks at the file"
    )
}
