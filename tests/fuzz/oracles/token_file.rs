//! The token file: whatever stands there, nothing of it is lost, and what is read of it is what is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::LazyLock;

use entra_auth_mcp::auth::token_file::{Accounts, TokenCache};
use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::secret::Secret;

/// A directory of this process's own.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory =
        std::env::temp_dir().join(format!("entra-auth-mcp-token-file-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
});

pub fn holds(input: &[u8]) {
    for entry in fs::read_dir(&*DIRECTORY).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let path = DIRECTORY.join("token_cache.json");
    fs::write(&path, input).unwrap();
    let looked = TokenCache::look(&path, Clock::system());
    assert_eq!(fs::read(&path).unwrap(), input, "a look has changed it");
    let Ok(cache) = open(&path) else {
        assert!(looked.is_err());
        assert_eq!(
            fs::read(&path).unwrap(),
            input,
            "what is refused was changed"
        );
        return;
    };
    let accounts = cache.all();
    match kept(&path) {
        // It was ours all along.
        None => assert_eq!(fs::read(&path).unwrap(), input),
        Some((name, bytes)) => {
            assert_eq!(bytes, input, "{name} is not what was there");
            assert!(name.contains(".python-") || accounts.is_empty(), "{name}");
        }
    }
    if let Ok(looked) = looked {
        assert!(looked.keys().eq(accounts.keys()));
    }
    // Written by us, all of it comes back.
    cache.change(|_| ()).unwrap();
    assert_eq!(described(&open(&path).unwrap().all()), described(&accounts));
}

fn open(path: &Path) -> Result<TokenCache, entra_auth_mcp::error::Failure> {
    TokenCache::open(path, Clock::system(), "client", "scope")
}

/// What was set aside, or kept of a conversion.
fn kept(path: &Path) -> Option<(String, Vec<u8>)> {
    let names = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut kept = names.filter(|path| {
        [".python-", ".corrupt-"]
            .iter()
            .any(|mark| path.display().to_string().contains(mark))
    });
    kept.next()
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
}

fn described(accounts: &Accounts) -> Vec<String> {
    let described = accounts.iter().map(|(user_id, account)| {
        let secrets = (
            account.access_token.expose(),
            account.refresh_token.as_ref().map(Secret::expose),
        );
        format!("{user_id:?} {account:?} {secrets:?}")
    });
    described.collect()
}
