//! Directories that take no file: real ones, which needs mounts.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{arguments, binary};
use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::encode_pairs;
use crate::support::entra::{ADA, Entra, GRACE};
use crate::support::server::{Mcp, Process, Setup};
use crate::{server, server_in_its_own_file_systems, uid};

const NOBODY: u32 = 65534;

struct Bench {
    process: Process,
    /// The token file as the server sees it, from here.
    file: PathBuf,
    entra: Entra,
    _backend: Backend,
    _setup: Setup,
}

impl Bench {
    /// Ada is signed in, and her token has expired.
    fn new(
        command: impl FnOnce(&Setup) -> Option<Command>,
        seen_from_here: impl FnOnce(&Process, &Path) -> PathBuf,
    ) -> Option<Self> {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let setup = Setup::new(&entra, Some(&backend));
        let directory = setup.directory.file("tokens");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("token_cache.json");
        let setup = setup.with("TOKEN_CACHE_FILE", file.to_str().unwrap());
        let process = Process::start(command(&setup)?, &setup);
        let file = seen_from_here(&process, &file);
        Some(Self {
            process,
            file,
            entra,
            _backend: backend,
            _setup: setup,
        })
    }

    fn sign_in(&self, user_id: &str) -> Page {
        let query = encode_pairs(&[("user_id", user_id)]);
        Browser::new().sign_in(
            &format!("{}/auth/login?{query}", self.process.url()),
            user_id,
        )
    }

    /// Ada signs in with a token that lives so long; what she gets later lives for an hour.
    fn sign_in_for(&self, seconds: i64) {
        self.entra.expires_in(seconds);
        let page = self.sign_in(ADA);
        assert_eq!(page.status, 200, "{}", page.text());
        self.entra.expires_in(3900);
    }

    fn call(&self) -> Value {
        call_by(&mut self.process.modern())
    }

    fn calls_go_through(&self) {
        for _ in 0..5 {
            let answer = self.call();
            assert_eq!(answer["success"], true, "{answer}");
        }
    }

    fn status(&self) -> String {
        self.process.client().get("/healthz").json()["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Nothing is acknowledged, the file stays as it is, what is in memory serves, and the server says so.
    fn assert_degraded(&self, words: &[&str]) {
        let before = fs::read(&self.file).ok();
        let page = self.sign_in(GRACE);
        assert_eq!(page.status, 400, "{}", page.text());
        assert!(
            words.iter().any(|word| page.text().contains(word)),
            "{}",
            page.text()
        );
        let refused = self
            .process
            .modern()
            .fails("logout_user", json!({"user_id": ADA}));
        assert_eq!(refused["error"], "token_cache", "{refused}");
        assert_eq!(self.status(), "degraded");
        let info = self.process.modern().ok("get_server_info", json!({}));
        assert!(
            words
                .iter()
                .any(|word| info["token_cache"].as_str().unwrap().contains(word)),
            "{info}"
        );
        assert_eq!(fs::read(&self.file).ok(), before);
    }

    fn assert_sound(&self) {
        assert_eq!(self.status(), "ok");
        assert_eq!(self.sign_in(GRACE).status, 200);
        self.calls_go_through();
        assert_eq!(self.entra.reused_refresh_tokens(), 0);
        let process = &self.process;
        process
            .modern()
            .ok("logout_user", json!({"user_id": GRACE}));
    }

    fn refresh_token(&self) -> Value {
        serde_json::from_slice::<Value>(&fs::read(&self.file).unwrap()).unwrap()["accounts"][ADA]["refresh_token"]
            .take()
    }
}

fn call_by(mcp: &mut Mcp) -> Value {
    let arguments = json!({"endpoint": "/me", "user_id": ADA});
    mcp.call("api_get_request", arguments)["structuredContent"].take()
}

/// Fills the directory to the last byte.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = File::create(path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

fn remount(process: &Process, file: &Path, how: &str) {
    let directory = file.parent().unwrap();
    let mut command = Command::new("nsenter");
    let target = format!("--target={}", process.id());
    command.args([&target, "--mount"]);
    if uid() != 0 {
        command.args(["--user", "--preserve-credentials"]);
    }
    let status = command
        .args(["mount", "-o", how])
        .arg(directory)
        .status()
        .unwrap();
    assert!(status.success(), "mount -o {how} {}", directory.display());
}

pub fn full_and_read_only() -> String {
    let mut inside = PathBuf::new();
    let bench = Bench::new(
        |setup| {
            let directory = setup.directory.file("tokens");
            let mount = "mount -t tmpfs -o size=64k tmpfs \"$1\"";
            server_in_its_own_file_systems(mount, &[directory.to_str().unwrap()])
        },
        |process, file| {
            file.clone_into(&mut inside);
            PathBuf::from(format!("/proc/{}/root{}", process.id(), file.display()))
        },
    );
    let Some(bench) = bench else {
        return "NOT CHECKED: this machine allows no mounts, not even in a namespace".to_owned();
    };
    bench.sign_in_for(0);
    let before = bench.refresh_token();
    let filler = bench.file.with_file_name("filler");
    fill(&filler);
    bench.assert_degraded(&["free space"]);
    bench.calls_go_through();
    assert_eq!(
        (bench.entra.refreshes(), bench.entra.reused_refresh_tokens()),
        (1, 0)
    );
    assert_eq!(bench.refresh_token(), before, "it could not be written");
    bench.assert_degraded(&["free space"]);
    fs::remove_file(filler).unwrap();
    bench.calls_go_through();
    assert_ne!(
        bench.refresh_token(),
        before,
        "it was written as soon as it could"
    );
    bench.assert_sound();

    remount(&bench.process, &inside, "remount,bind,ro");
    bench.calls_go_through();
    bench.assert_degraded(&["Read-only"]);
    remount(&bench.process, &inside, "remount,bind,rw");
    bench.assert_sound();
    // Where the lock of the account cannot be had, nothing is refreshed.
    bench.sign_in_for(0);
    remount(&bench.process, &inside, "remount,bind,ro");
    let (failure, refreshes) = (bench.call(), bench.entra.refreshes());
    assert_eq!(failure["error"], "token_cache", "{failure}");
    assert_eq!(bench.status(), "degraded");
    remount(&bench.process, &inside, "remount,bind,rw");
    bench.calls_go_through();
    assert_eq!(bench.entra.refreshes(), refreshes + 1);
    bench.assert_sound();
    "nothing acknowledged that was not written, nothing lost".to_owned()
}

/// Root may do everything, so the server must not be root.
pub fn forbidden() -> String {
    let bench = Bench::new(
        |setup| {
            if uid() != 0 {
                return Some(server());
            }
            let copy = setup.directory.file("server");
            fs::copy(binary(), &copy).unwrap();
            chown(setup.directory.file("tokens"), Some(NOBODY), Some(NOBODY)).unwrap();
            let mut command = Command::new("setpriv");
            command.args([
                &format!("--reuid={NOBODY}"),
                &format!("--regid={NOBODY}"),
                "--clear-groups",
            ]);
            command.arg(copy).args(arguments());
            Some(command)
        },
        |_, file| file.to_owned(),
    );
    let bench = bench.expect("there is a command");
    bench.sign_in_for(3900);
    let directory = bench.file.parent().unwrap().to_owned();
    let allow = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o555, 0o000] {
        allow(&directory, mode);
        bench.calls_go_through();
        bench.assert_degraded(&["Permission denied"]);
        bench.calls_go_through();
        allow(&directory, 0o755);
        bench.assert_sound();
    }
    // The file alone: it is read when it was replaced.
    let copy = bench.file.with_file_name("copy");
    fs::copy(&bench.file, &copy).unwrap();
    allow(&copy, 0o000);
    if uid() == 0 {
        chown(&copy, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::rename(&copy, &bench.file).unwrap();
    bench.calls_go_through();
    bench.assert_degraded(&["Permission denied"]);
    allow(&bench.file, 0o600);
    bench.assert_sound();
    "a directory that cannot be written, one that cannot be entered, a file that cannot be read"
        .to_owned()
}

/// Takes as long as another process is waited for.
pub fn locked(is_short: bool) -> String {
    let bench =
        Bench::new(|_| Some(server()), |_, file| file.to_owned()).expect("there is a command");
    bench.sign_in_for(0);
    bench.calls_go_through();
    let hold = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.lock().unwrap();
        file
    };
    let mut path = bench.file.clone().into_os_string();
    path.push(".lock");
    let lock = hold(Path::new(&path));
    let page = bench.sign_in(GRACE);
    assert!(
        page.status == 400 && page.text().contains("locked for 10 seconds"),
        "{}",
        page.text()
    );
    assert_eq!(bench.status(), "degraded");
    bench.calls_go_through();
    drop(lock);
    bench.assert_sound();
    if is_short {
        return "a sign-in gave up after 10 s, calls went on".to_owned();
    }
    // The lock of a refresh, for a token that has expired.
    bench.sign_in_for(0);
    let is_of_refresh = |path: &PathBuf| path.to_string_lossy().contains(".refresh-");
    let paths = fs::read_dir(bench.file.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let locks: Vec<_> = paths
        .filter(is_of_refresh)
        .map(|path| hold(&path))
        .collect();
    assert_eq!(locks.len(), 1);
    let patient = bench
        .process
        .client()
        .with_patience(Duration::from_secs(90));
    let failure = call_by(&mut Mcp::modern(patient, json!({})));
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("locked for 45 seconds"),
        "{failure}"
    );
    let again = bench.call();
    assert_eq!(
        again["error"], "token_cache",
        "the next one is told at once: {again}"
    );
    drop(locks);
    while bench.call()["success"] != true {
        std::thread::yield_now();
    }
    bench.assert_sound();
    "a sign-in gave up after 10 s, a refresh after 45 s, calls with a valid token went on"
        .to_owned()
}
