//! What can be told without the network.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::report::Finding;
use crate::api::files::Files;
use crate::audit;
use crate::auth::aadsts;
use crate::auth::account::Account;
use crate::auth::standing::binding;
use crate::auth::token_file::TokenFile;
use crate::clock::{Clock, iso8601_seconds};
use crate::config::{Config, PLACEHOLDER, SETTINGS, Sources};
use crate::http::listener::Listeners;
use crate::os;
use crate::owner;
use crate::serve::{is_ours, origin_of};

/// 2026-01-01. This program is younger.
const WRITTEN: u64 = 1_767_225_600;
const HELP: &str = "entra-auth-mcp help settings lists every setting.";

/// Whether this machine's clock can be right at all.
pub fn clock(clock: &Clock) -> Finding {
    let now = clock.now();
    let message = format!("This machine's clock says {}.", iso8601_seconds(now));
    if now >= WRITTEN {
        return Finding::ok("clock", &message);
    }
    let message = format!("{message} This program is younger.");
    Finding::failure("clock", &message, "Set this machine's clock.")
}

/// Where the settings come from.
pub fn settings_file(sources: &Sources) -> Finding {
    let file = sources.file.display();
    if sources.has_file {
        return Finding::ok("env-file", &format!("The settings are read from {file}."));
    }
    let message = format!("There is no settings file {file}");
    let are_in_environment = SETTINGS
        .iter()
        .any(|setting| sources.values.contains_key(setting.name));
    if are_in_environment {
        let message = format!("{message}: the settings are those of the environment.");
        return Finding::ok("env-file", &message);
    }
    let mend = "entra-auth-mcp init writes one. Or name yours with --env-file.";
    Finding::failure("env-file", &format!("{message}."), mend)
}

/// The variables without effect.
pub fn unknown(sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    for variable in sources.unknown() {
        findings.push(Finding::warning(
            "settings",
            &variable.message,
            &variable.mend,
        ));
    }
    findings
}

/// Checks everything that does not depend on an invalid setting. Gives the settings if all are
/// valid and none is a placeholder.
pub fn check(
    variables: BTreeMap<String, String>,
    clock: &Clock,
    findings: &mut Vec<Finding>,
) -> Option<Config> {
    let mistakes = Config::from_variables(&variables).err().unwrap_or_default();
    for mistake in &mistakes {
        findings.push(Finding::failure("settings", mistake, HELP));
    }
    // A mistake begins with the name of its setting.
    let invalid: Vec<&str> = mistakes
        .iter()
        .filter_map(|mistake| mistake.split(' ').next())
        .collect();
    let are_valid = |names: &[&str]| !names.iter().any(|name| invalid.contains(name));

    let mut config = Config::from_variables(&without(variables, &invalid)).ok()?;
    let mut are_usable = invalid.is_empty();
    if are_usable {
        let placeholders = config.placeholders();
        are_usable = placeholders.is_empty();
        if are_usable {
            findings.push(Finding::ok("settings", "All settings are valid."));
        }
        for placeholder in placeholders {
            findings.push(Finding::failure("settings", &placeholder, HELP));
        }
        for doubt in config.doubts() {
            findings.push(Finding::warning("settings", &doubt, HELP));
        }
    }
    if are_valid(&["SERVER_HOST", "SERVER_PORT"]) {
        findings.push(port(&mut config));
    }
    if are_valid(&["CUSTOM_API_SCOPE"]) {
        let message = format!("A sign-in asks for {}.", config.scopes.requested());
        findings.push(Finding::ok("scopes", &message));
    }
    if are_valid(&["REDIRECT_URI", "SERVER_PORT"]) {
        findings.push(redirect_uri(&config));
    }
    places(&config, clock, findings);
    are_usable.then_some(config)
}

/// The files and directories that the settings name.
pub fn places(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) {
    token_file(config, clock, findings);
    findings.extend(audit_log(config));
    findings.extend(files(config));
}

/// `variables` with the defaults in place of `invalid` settings, and something harmless where there
/// is no default.
fn without(mut variables: BTreeMap<String, String>, invalid: &[&str]) -> BTreeMap<String, String> {
    variables.retain(|name, _| !invalid.contains(&name.as_str()));
    for required in ["AZURE_CLIENT_ID", "AZURE_TENANT_ID"] {
        variables
            .entry(required.to_owned())
            .or_insert_with(|| PLACEHOLDER.to_owned());
    }
    variables
}

/// Whether the port is free or a server of ours listens there. Where any port will do, `config`
/// gets the one that was found.
fn port(config: &mut Config) -> Finding {
    let host = config.server_host.clone();
    let port = config.server_port;
    let not_bound = match Listeners::bind(&host, port, config.is_reached_as_localhost()) {
        Ok(listeners) => {
            let free = listeners.port();
            *config = config.clone().at_port(free);
            return Finding::ok("port", &format!("Port {free} of {host} is free."));
        }
        Err(not_bound) => not_bound,
    };
    // Whoever listens there can answer as a server of ours does. Ours owns the token file.
    let is_owned = !matches!(owner::current(&config.token_cache_file), Ok(None));
    if is_owned && is_ours(&origin_of(&host, port)) {
        let message = format!("A running entra-auth-mcp listens on port {port} of {host}.");
        return Finding::ok("port", &message);
    }
    Finding::failure(
        "port",
        &format!(
            "The server cannot listen on {} ({}).",
            not_bound.address, not_bound.error
        ),
        "Stop the program that listens there, or set SERVER_HOST and SERVER_PORT to a free address.",
    )
}

fn redirect_uri(config: &Config) -> Finding {
    let used = &config.redirect_uri.text;
    let registered = aadsts::registered(used);
    let message = format!(
        "Sign-ins return to {used}; the app registration must have {registered} under \"Mobile and desktop applications\"."
    );
    Finding::ok("redirect-uri", &message)
}

/// The token file and its directory.
fn token_file(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) {
    let path = &config.token_cache_file;
    let name = path.display();
    if is_readable_by_others(path) {
        let message = format!("Others can read or write {name}.");
        let mend = format!("chmod 600 {name}");
        findings.push(Finding::warning("token-file", &message, &mend));
    }
    if os::is_mount_point(path) {
        let message = format!(
            "{name} is mounted as a single file, which cannot be replaced: sign-ins would be lost."
        );
        let mend = "Mount its directory instead (TOKEN_CACHE_FILE names a file in it).";
        findings.push(Finding::failure("token-file", &message, mend));
        return;
    }
    let accounts = match TokenFile::look(path, &binding(config))
        .and_then(|accounts| TokenFile::probe(path).map(|()| accounts))
    {
        Ok(accounts) => accounts,
        Err(failure) => {
            findings.push(Finding::failed("token-file", failure));
            return;
        }
    };
    let message = format!("Number of accounts in {name}: {}.", accounts.len());
    findings.push(Finding::ok("token-file", &message));
    for stored in &accounts {
        if has_ended(&stored.account, clock) {
            let message = format!("The sign-in of {} has ended.", stored.user_id);
            let mend = "Sign in again, or sign out.";
            findings.push(Finding::warning("token-file", &message, mend));
        }
    }
}

fn is_readable_by_others(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && os::others_have_access(&metadata))
}

fn has_ended(account: &Account, clock: &Clock) -> bool {
    account.refresh_token.is_none() && account.expires_at <= clock.now()
}

/// The audit log, where there is one.
fn audit_log(config: &Config) -> Option<Finding> {
    let target = config.audit_log.as_ref()?;
    Some(match audit::look(target) {
        Ok(place) => Finding::ok("audit-log", &format!("Calls are recorded {place}.")),
        Err(failure) if config.audit_log_required => Finding::failed("audit-log", failure),
        Err(failure) => Finding::warning("audit-log", &failure.message, &failure.hint),
    })
}

/// The directory for files, where there is one.
fn files(config: &Config) -> Option<Finding> {
    let directory = config.files_dir.as_ref()?;
    let opened = Files::open(directory, config.max_file_bytes, &config.own_files());
    Some(match opened {
        Ok(_) => {
            let message = format!("Calls may read and make files in {}.", directory.display());
            Finding::ok("files", &message)
        }
        Err(failure) => Finding::failed("files", failure),
    })
}
