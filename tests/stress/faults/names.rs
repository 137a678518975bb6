//! The API's name does not resolve for a while: there is no name server, then a silent one that a crowd of calls
//! waits for, then the name is back.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server_in_its_own_file_systems;
use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::Reply;
use crate::support::server::{Process, Setup};

/// Of the loopback addresses, one that nobody else has.
const SILENT: &str = "127.9.9.9:53";
/// Longer than the server remembers addresses.
const REMEMBERED: Duration = Duration::from_secs(15);
/// The system asks for IPv4 and for IPv6 addresses, each twice, and waits two seconds each time.
const RESOLVER: &str = "nameserver 127.9.9.9\noptions timeout:2 attempts:2\n";
const QUERIES_PER_LOOK_UP: usize = 4;
/// Each call is tried three times, so three look-ups serve all. A slow machine, which does not begin all calls at
/// once, needs more.
const MOST_LOOK_UPS: usize = 6;
const CALLS: usize = 240;
/// What SECURITY.md promises.
const MOST_THREADS: usize = 348;
const NOT_CHECKED: &str =
    "NOT CHECKED: this machine allows no mounts, or resolves localhost without /etc/hosts";

pub fn run() -> String {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    // A connection that is kept needs no look-up.
    let closing = Reply::of_json(200, &json!({})).with("Connection", "close");
    backend.on(move |_| Some(closing.clone().into()));
    let setup = Setup::new(&entra, None);
    let url = backend.url().replace("127.0.0.1", "localhost");
    let setup = setup
        .with("BACKEND_API_BASE_URL", &url)
        .with("REDIRECT_URI", "");
    let (hosts, resolver) = (
        setup.directory.file("hosts"),
        setup.directory.file("resolv.conf"),
    );
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    fs::write(&resolver, RESOLVER).unwrap();
    let mounts = "mount --bind \"$1\" /etc/hosts; mount --bind \"$2\" /etc/resolv.conf";
    let paths = [&hosts, &resolver].map(|path: &std::path::PathBuf| path.to_str().unwrap());
    let Some(command) = server_in_its_own_file_systems(mounts, &paths) else {
        return NOT_CHECKED.to_owned();
    };
    let process = Process::start(command, &setup);
    process.modern().sign_in(ADA);
    let call = |tool: &str| -> Value {
        process.modern().call(tool, json!({"endpoint": "/echo"}))["structuredContent"].take()
    };
    assert_eq!(call("api_get_request")["success"], true);

    // In place: what is mounted is the file, not its name.
    let forget = |path: &Path| fs::write(path, "").unwrap();
    forget(&hosts);
    let tools = ["api_get_request", "api_post_request"];
    // For a moment the server remembers them.
    let begun = Instant::now();
    while call(tools[0])["success"] == true {
        if begun.elapsed() > REMEMBERED {
            return NOT_CHECKED.to_owned();
        }
        thread::sleep(Duration::from_millis(100));
    }
    for tool in tools {
        let failure = call(tool);
        assert_eq!(failure["error"], "backend_unreachable", "{failure}");
        assert!(
            failure["hint"].as_str().unwrap().contains("not sent"),
            "{failure}"
        );
    }
    let crowd = crowd_waits_for_silence(&process);
    let sent = backend.requests().len();
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    for tool in tools {
        let answer = call(tool);
        assert_eq!(answer["success"], true, "{answer}");
    }
    assert_eq!(backend.requests().len(), sent + 2);
    format!("failed clearly; {crowd}; and recovered")
}

/// Many calls at once wait for a name server that does not answer. Only root may stand in for one.
// CASES D2
fn crowd_waits_for_silence(process: &Process) -> String {
    let Ok(silent) = UdpSocket::bind(SILENT) else {
        return "NOT CHECKED: a silent name server, as port 53 is not ours to have".to_owned();
    };
    let mut most_threads = 0;
    thread::scope(|scope| {
        let call = || {
            process
                .modern()
                .call("api_post_request", json!({"endpoint": "/echo"}))
        };
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(call)).collect();
        while !calls.iter().all(ScopedJoinHandle::is_finished) {
            most_threads = most_threads.max(threads_of(process));
            thread::sleep(Duration::from_millis(10));
        }
        for call in calls {
            let failure = call.join().unwrap()["structuredContent"].take();
            assert_eq!(failure["error"], "backend_unreachable", "{failure}");
            let message = failure["message"].as_str().unwrap();
            assert!(
                message.contains("DNS") && message.contains("localhost"),
                "{failure}"
            );
            assert_eq!(failure["hint"], "The request was not sent.", "{failure}");
        }
    });
    assert!(most_threads <= MOST_THREADS, "{most_threads} threads");
    let queries = queries_at(&silent);
    assert!(queries > 0, "the name server was not asked");
    let most_queries = MOST_LOOK_UPS * QUERIES_PER_LOOK_UP;
    assert!(
        queries <= most_queries,
        "the name server was asked {queries} times"
    );
    format!(
        "{CALLS} calls at once held {most_threads} threads and sent {queries} queries to a silent name server"
    )
}

fn threads_of(process: &Process) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    tasks.count()
}

/// How many queries have arrived that were not counted yet.
fn queries_at(name_server: &UdpSocket) -> usize {
    name_server.set_nonblocking(true).unwrap();
    let mut query = [0; 512];
    let mut count = 0;
    while name_server.recv(&mut query).is_ok() {
        count += 1;
    }
    count
}
