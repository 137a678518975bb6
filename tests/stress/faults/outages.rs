//! Entra and the API are out of order for a while, under load, and then they are back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server;
use crate::support::entra::{ADA, Entra, GRACE, TokenFailure};
use crate::support::http::{Answer, Reply, Request, StandIn};
use crate::support::server::{Process, Setup};
use crate::support::{Gate, lock};

const CALLERS: usize = 8;
/// Longer than any call may take meanwhile: 10 s of retries, and some for a machine that is busy.
const FAST: Duration = Duration::from_secs(20);
const TOOLS: [&str; 5] = [
    "api_get_request",
    "api_put_request",
    "api_delete_request",
    "api_post_request",
    "api_patch_request",
];

type Misbehaviour = Box<dyn Fn() -> Answer + Send + Sync>;

/// What the API is like now; how often it was sent each request.
#[derive(Default)]
struct Api {
    now: Mutex<Option<Misbehaviour>>,
    seen: Mutex<BTreeMap<String, usize>>,
}

impl Api {
    fn answer(&self, request: &Request) -> Answer {
        *lock(&self.seen)
            .entry(format!("{} {}", request.method, request.path))
            .or_default() += 1;
        match &*lock(&self.now) {
            Some(misbehave) => misbehave(),
            None => Reply::of_json(200, &json!({"done": true})).into(),
        }
    }
}

fn status(status: u16, retry_after: Option<&'static str>) -> Misbehaviour {
    Box::new(move || {
        let reply = Reply::of_json(status, &json!({}));
        retry_after
            .map_or_else(
                || reply.clone(),
                |value| reply.clone().with("Retry-After", value),
            )
            .into()
    })
}

struct Bench {
    process: Process,
    api: Arc<Api>,
    seconds_each: u64,
    calls: AtomicUsize,
    failures: AtomicUsize,
}

impl Bench {
    fn call(&self, user: &str, tool: &str) -> (Value, Duration) {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let arguments = json!({"endpoint": format!("/{number}"), "user_id": user});
        let begun = Instant::now();
        let answer = self.process.modern().call(tool, arguments)["structuredContent"].take();
        (answer, begun.elapsed())
    }

    /// For some seconds, everybody calls as `user`; how it fails, if it does, must be one of `errors`.
    fn load(&self, what: &str, user: &str, errors: &[&str]) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for caller in 0..CALLERS {
                let is_over = &is_over;
                scope.spawn(move || {
                    for tool in TOOLS.iter().cycle().skip(caller) {
                        let (answer, took) = self.call(user, tool);
                        assert!(took < FAST, "{what}: {tool} took {took:?}");
                        if answer["success"] != true {
                            self.failures.fetch_add(1, Ordering::SeqCst);
                            let error = answer["error"].as_str().unwrap();
                            assert!(errors.contains(&error), "{what}: {answer}");
                            assert!(!answer["message"].as_str().unwrap().is_empty(), "{answer}");
                        }
                        if is_over.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                });
            }
            thread::sleep(Duration::from_secs(self.seconds_each));
            is_over.store(true, Ordering::SeqCst);
        });
    }

    /// All is well again by itself, and at once.
    fn assert_recovered(&self, what: &str) {
        for user in [ADA, GRACE] {
            for tool in TOOLS {
                let (answer, _) = self.call(user, tool);
                assert_eq!(answer["success"], true, "after {what}: {answer}");
            }
        }
    }

    fn api_is_unwell(&self) {
        for (what, misbehaviour) in [
            ("the API resets", Box::new(|| Answer::Reset) as Misbehaviour),
            ("the API hangs up", Box::new(|| Answer::Close)),
            ("the API answers 500", status(500, None)),
            ("the API answers 503", status(503, None)),
            ("the API answers 429", status(429, None)),
            (
                "the API answers 429 with Retry-After: 1",
                status(429, Some("1")),
            ),
            (
                "the API answers 429 with Retry-After: 60",
                status(429, Some("60")),
            ),
        ] {
            *lock(&self.api.now) = Some(misbehaviour);
            self.load(what, ADA, &["backend_unreachable", "http_error"]);
            *lock(&self.api.now) = None;
            self.assert_recovered(what);
        }
    }

    /// A token that is still valid serves whatever Entra does, so nobody may fail.
    fn entra_is_unwell(&self, entra: &Entra) {
        for (what, failure) in [
            ("Entra answers 429", TokenFailure::Status(429, None)),
            (
                "Entra answers 503 with Retry-After",
                TokenFailure::Status(503, Some(30)),
            ),
            ("Entra hangs up", TokenFailure::CloseWithoutAnswer),
        ] {
            entra.fail_tokens(failure);
            self.load(what, GRACE, &[]);
            entra.heal();
            self.assert_recovered(what);
        }
        entra.down();
        self.load("Entra is down", GRACE, &[]);
        entra.up();
        self.assert_recovered("Entra was down");
        let gate = Gate::default();
        entra.fail_next_token(TokenFailure::Hang(gate.clone()));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_secs(self.seconds_each));
                gate.open();
            });
            self.load("Entra is slow", GRACE, &[]);
        });
        self.assert_recovered("Entra was slow");
    }
}

pub fn run(seconds_each: u64) -> String {
    let entra = Entra::start();
    let api = Arc::new(Api::default());
    let serve = || {
        let api = Arc::clone(&api);
        move |request: &Request| api.answer(request)
    };
    let backend = StandIn::serve(serve());
    let address = backend.addr();
    let setup = Setup::new(&entra, None)
        .with("BACKEND_API_BASE_URL", &backend.url())
        .with("LOG_LEVEL", "error");
    let bench = Bench {
        process: Process::start(server(), &setup),
        api: Arc::clone(&api),
        seconds_each,
        calls: AtomicUsize::new(0),
        failures: AtomicUsize::new(0),
    };
    bench.process.modern().sign_in(ADA);
    // A token that is about to expire all the time, so that every call wants a refresh and none needs it.
    entra.expires_in(290);
    bench.process.modern().sign_in(GRACE);

    bench.api_is_unwell();
    drop(backend);
    bench.load("the API is down", ADA, &["backend_unreachable"]);
    let _back = StandIn::serve_at(address, serve());
    bench.assert_recovered("the API was down");
    bench.entra_is_unwell(&entra);

    let seen = lock(&api.seen);
    let most = |of: &[&str]| {
        let is_of =
            |(request, _): &(&String, &usize)| of.iter().any(|method| request.starts_with(method));
        seen.iter()
            .filter(is_of)
            .map(|(_, times)| *times)
            .max()
            .unwrap()
    };
    assert_eq!(
        (most(&["POST", "PATCH"]), most(&["GET", "PUT", "DELETE"])),
        (1, 3)
    );
    assert_eq!(entra.reused_refresh_tokens(), 0);
    let (calls, failures) = (bench.calls.into_inner(), bench.failures.into_inner());
    format!(
        "{calls} calls, {failures} failed while something was out of order; POST and PATCH arrived once at most"
    )
}
