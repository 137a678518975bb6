//! The API's name does not resolve for a while: nobody answers, then nobody knows it, then it is back.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server_in_its_own_file_systems;
use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::server::{Process, Setup};

/// Of the loopback addresses, one that nobody else has.
const SILENT: &str = "127.9.9.9:53";
/// Longer than the server remembers addresses.
const REMEMBERED: Duration = Duration::from_secs(15);
const NOT_CHECKED: &str =
    "NOT CHECKED: this machine allows no mounts, or resolves localhost without /etc/hosts";

pub fn run() -> String {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
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
    fs::write(&resolver, "nameserver 127.9.9.9\n").unwrap();
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
    let mut silence = "";
    if let Ok(_silent) = UdpSocket::bind(SILENT) {
        let begun = Instant::now();
        let failure = call(tools[0]);
        assert_eq!(failure["error"], "backend_unreachable", "{failure}");
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
        silence = ", also while no name server answered";
    }
    let sent = backend.requests().len();
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    for tool in tools {
        let answer = call(tool);
        assert_eq!(answer["success"], true, "{answer}");
    }
    assert_eq!(backend.requests().len(), sent + 2);
    format!("failed clearly{silence}, and recovered")
}
