//! The token file: whatever stands there, nothing of it is lost, and what is read of it is what is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::LazyLock;

use entra_auth_mcp::auth::account::{Binding, Stored};
use entra_auth_mcp::auth::token_file::TokenFile;
use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::error::Failure;
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
    let looked = TokenFile::look(&path, &binding());
    assert_eq!(fs::read(&path).unwrap(), input, "a look has changed it");
    let Ok((mut file, accounts)) = open(&path) else {
        assert!(looked.is_err());
        assert_eq!(
            fs::read(&path).unwrap(),
            input,
            "what is refused was changed"
        );
        return;
    };
    match kept(&path) {
        // It was ours all along.
        None => assert_eq!(fs::read(&path).unwrap(), input),
        Some((name, bytes)) => {
            assert_eq!(bytes, input, "{name} is not what was there");
            let is_converted = name.contains(".python-") || name.contains(".version1-");
            assert!(is_converted || accounts.is_empty(), "{name}");
        }
    }
    if let Ok(looked) = looked {
        let users = |accounts: &[Stored]| -> Vec<String> {
            accounts
                .iter()
                .map(|stored| stored.user_id.clone())
                .collect()
        };
        assert_eq!(users(&looked), users(&accounts));
    }
    // Written by us, all of it comes back.
    let written = accounts
        .iter()
        .map(|stored| (stored.user_id.as_str(), &stored.account));
    file.write(written).unwrap();
    assert_eq!(described(&open(&path).unwrap().1), described(&accounts));
}

fn binding() -> Binding {
    Binding {
        client_id: "client".to_owned(),
        authority: "https://login.example".to_owned(),
        tenant: "common".to_owned(),
    }
}

fn open(path: &Path) -> Result<(TokenFile, Vec<Stored>), Failure> {
    TokenFile::open(path, Clock::system(), &binding(), "scope")
}

/// What was set aside, or kept of a conversion.
fn kept(path: &Path) -> Option<(String, Vec<u8>)> {
    let names = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut kept = names.filter(|path| {
        [".python-", ".version1-", ".corrupt-"]
            .iter()
            .any(|mark| path.display().to_string().contains(mark))
    });
    kept.next()
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
}

fn described(accounts: &[Stored]) -> Vec<String> {
    let described = accounts.iter().map(|Stored { user_id, account }| {
        let access_token = account.access_token.as_ref().map(Secret::expose);
        let refresh_token = account.refresh_token.as_ref().map(Secret::expose);
        format!("{user_id:?} {account:?} {access_token:?} {refresh_token:?}")
    });
    described.collect()
}
