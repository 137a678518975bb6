//! The server is killed while it writes the token file, and started again on the same file.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra};
use crate::support::http::Client;
use crate::support::server::{Mcp, Process, Setup};
use crate::support::{lock, random_bytes};
use crate::{accounts_in, server};

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
    let mut process = Process::start(server(), &setup);
    let url = Mutex::new(process.url());
    let known = Mutex::new(BTreeMap::<String, Known>::new());
    let next = AtomicUsize::new(0);
    let acknowledged = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let check = || {
        let before = lock(&known).clone();
        // There is none before the first sign-in.
        let accounts = match fs::read(&file) {
            Ok(text) => accounts_in(&text),
            Err(_) => BTreeMap::new(),
        };
        let after = lock(&known).clone();
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
                let name = format!("user-{number}");
                let url = lock(&url).clone();
                let step = || {
                    // A client may sign one person in under many labels; a browser alone may not.
                    let mut mcp = Mcp::modern(Client::new(&url), json!({}));
                    let begun = mcp.ok("authenticate_user", json!({"user_id": name}));
                    let link = begun["sign_in_url"].as_str().unwrap();
                    let page = Browser::new().sign_in(link, ADA);
                    assert!(
                        page.status == 200 && page.text().contains("You are signed in"),
                        "{}",
                        page.text()
                    );
                    lock(&known).insert(name.clone(), Known::SignedIn);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    if number.is_multiple_of(SIGNED_OUT) {
                        lock(&known).insert(name.clone(), Known::SigningOut);
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
            // Each life of the server brings a write, however slow the machine is.
            let [more, moment] = random_bytes::<2>();
            let enough = acknowledged.load(Ordering::SeqCst) + 1 + usize::from(more % 4);
            while acknowledged.load(Ordering::SeqCst) < enough.min(writes) {
                thread::yield_now();
            }
            // The moment must fall anywhere within a write.
            thread::sleep(Duration::from_micros(100 * u64::from(moment)));
            // The workers wait for the next server meanwhile.
            let mut url = lock(&url);
            process.kill();
            kills += 1;
            check();
            process = Process::start(server(), &setup);
            *url = process.url();
        }
        for worker in workers {
            worker.join().unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    check();
    drop(process);
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
