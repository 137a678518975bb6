//! Directories that take no file: real ones, which needs mounts.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::binary;
use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::encode_pairs;
use crate::support::entra::{ADA, Entra, GRACE};
use crate::support::server::{Process, Setup};
use crate::{accounts_in, server, server_in_its_own_file_systems, uid};

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
        let arguments = json!({"endpoint": "/me", "user_id": ADA});
        self.process.modern().call("api_get_request", arguments)["structuredContent"].take()
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
        // The server learns that the disk is well again when it writes.
        assert_eq!(self.sign_in(GRACE).status, 200);
        assert_eq!(self.status(), "ok");
        self.calls_go_through();
        assert_eq!(self.entra.reused_refresh_tokens(), 0);
        let process = &self.process;
        process
            .modern()
            .ok("logout_user", json!({"user_id": GRACE}));
    }

    fn refresh_token(&self) -> Value {
        let file = fs::read(&self.file).unwrap();
        accounts_in(&file)[ADA]["refresh_token"].clone()
    }
}

/// Fills the directory to the last byte.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = File::create(path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Runs a command on file systems in the server's namespace.
fn in_its_file_systems(process: &Process, arguments: &[&str]) {
    let mut command = Command::new("nsenter");
    let target = format!("--target={}", process.id());
    command.args([&target, "--mount"]);
    if uid() != 0 {
        command.args(["--user", "--preserve-credentials"]);
    }
    let status = command.args(arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}");
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

    // The server keeps files open there, so what is mounted stays as it is: the same is mounted over it.
    let directory = inside.parent().unwrap().to_str().unwrap();
    let on_file_systems = |arguments: &[&str]| in_its_file_systems(&bench.process, arguments);
    on_file_systems(&["mount", "--bind", directory, directory]);
    on_file_systems(&["mount", "-o", "remount,bind,ro", directory]);
    bench.calls_go_through();
    bench.assert_degraded(&["Read-only"]);
    on_file_systems(&["umount", directory]);
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
            command.arg(copy);
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
    "a directory that cannot be written, and one that cannot be entered".to_owned()
}
