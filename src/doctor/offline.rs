//! What can be told without the network.

use std::collections::BTreeMap;
use std::fs;

use super::Finding;
use crate::api::files::Files;
use crate::audit;
use crate::auth::aadsts;
use crate::auth::token_file::{Account, TokenCache};
use crate::clock::{Clock, iso8601_seconds};
use crate::config::{self, Config, PLACEHOLDER};
use crate::http::listener::Listeners;
use crate::os;
use crate::serve::{is_ours, origin_of};

/// 2026-01-01: it was later when this was written.
const WRITTEN: u64 = 1_767_225_600;
const HELP: &str = "entra-auth-mcp --help lists every setting.";

/// Our clock, as far as it can be told from itself.
pub fn clock(clock: &Clock) -> Finding {
    let message = format!("It is {} here.", iso8601_seconds(clock.now()));
    if clock.now() >= WRITTEN {
        return Finding::ok("clock", &message);
    }
    Finding::failure(
        "clock",
        &format!("{message} That cannot be."),
        "Set this machine's clock.",
    )
}

/// Everything that does not hang on a mistaken setting. Gives the settings when none is.
pub fn check(
    mut variables: BTreeMap<String, String>,
    clock: &Clock,
    findings: &mut Vec<Finding>,
) -> Option<Config> {
    for (name, setting) in config::misspelt(variables.keys().map(String::as_str)) {
        let (message, mend) = (
            format!("{name} is not a setting."),
            format!("Rename it to {setting}."),
        );
        findings.push(Finding::warning("settings", &message, &mend));
    }
    let mistakes = Config::from_variables(&variables).err().unwrap_or_default();
    findings.extend(
        mistakes
            .iter()
            .map(|mistake| Finding::failure("settings", mistake, HELP)),
    );
    let wrong: Vec<&str> = mistakes
        .iter()
        .filter_map(|mistake| mistake.split(' ').next())
        .collect();
    // Something harmless stands in for each mistaken setting.
    variables.retain(|name, _| !wrong.contains(&name.as_str()));
    for required in ["AZURE_CLIENT_ID", "AZURE_TENANT_ID"] {
        variables
            .entry(required.to_owned())
            .or_insert_with(|| PLACEHOLDER.to_owned());
    }
    let mut config = Config::from_variables(&variables).ok()?;
    if wrong.is_empty() {
        findings.push(Finding::ok("settings", "Every setting can be used."));
        findings.extend(
            config
                .doubts()
                .iter()
                .map(|doubt| Finding::warning("settings", doubt, HELP)),
        );
    }
    let are_right = |settings: &[&str]| !settings.iter().any(|setting| wrong.contains(setting));
    if are_right(&["SERVER_HOST", "SERVER_PORT"]) {
        findings.push(port(&mut config));
    }
    if are_right(&["CUSTOM_API_SCOPE"]) {
        findings.push(Finding::ok(
            "scopes",
            &format!("{} will be asked for.", config.scopes.requested()),
        ));
    }
    if are_right(&["REDIRECT_URI", "SERVER_PORT"]) {
        let (used, registered) = (
            &config.redirect_uri.text,
            aadsts::registered(&config.redirect_uri.text),
        );
        let message = format!(
            "{used} is used; {registered} must be registered for mobile and desktop applications."
        );
        findings.push(Finding::ok("redirect-uri", &message));
    }
    token_file(&config, clock, findings);
    findings.extend(audit_log(&config));
    findings.extend(files(&config));
    wrong.is_empty().then_some(config)
}

/// The token file and its directory.
fn token_file(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) {
    let path = &config.token_cache_file;
    let name = path.display();
    if fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && os::others_have_access(&metadata))
    {
        let message = format!("{name} can be read or written by others.");
        findings.push(Finding::warning(
            "token-file",
            &message,
            &format!("chmod 600 {name}"),
        ));
    }
    let accounts = match TokenCache::look(path, clock.clone()) {
        Ok(accounts) => accounts,
        Err(failure) => return findings.push(Finding::failed("token-file", failure)),
    };
    findings.push(Finding::ok(
        "token-file",
        &format!("There are {} accounts in {name}.", accounts.len()),
    ));
    let has_ended =
        |account: &Account| account.refresh_token.is_none() && account.expires_at <= clock.now();
    for (user_id, _) in accounts.iter().filter(|(_, account)| has_ended(account)) {
        let message = format!("The sign-in of {user_id} has ended.");
        findings.push(Finding::warning(
            "token-file",
            &message,
            "Sign in again, or sign out.",
        ));
    }
}

/// The audit log, where there is one.
fn audit_log(config: &Config) -> Option<Finding> {
    Some(
        match (
            audit::look(config.audit_log.as_ref()?),
            config.audit_log_required,
        ) {
            (Ok(place), _) => Finding::ok("audit-log", &format!("It is written {place}.")),
            (Err(failure), true) => Finding::failed("audit-log", failure),
            (Err(failure), false) => Finding::warning("audit-log", &failure.message, &failure.hint),
        },
    )
}

/// The directory for files, where there is one.
fn files(config: &Config) -> Option<Finding> {
    let directory = config.files_dir.as_ref()?;
    Some(
        match Files::open(directory, config.max_file_bytes, &config.own_files()) {
            Ok(_) => Finding::ok(
                "files",
                &format!("Calls may send and make files in {}.", directory.display()),
            ),
            Err(failure) => Finding::failed("files", failure),
        },
    )
}

/// Whether the port can be had or is held by a server of ours. Where any will do, `config` gets the one found.
fn port(config: &mut Config) -> Finding {
    let (host, port) = (config.server_host.clone(), config.server_port);
    let bound = Listeners::bind(&host, port, config.is_reached_as_localhost());
    match bound.map(|listeners| listeners.port()) {
        Ok(free) => {
            *config = config.clone().at_port(free);
            Finding::ok("port", &format!("{host} port {free} is free."))
        }
        Err(_) if is_ours(&origin_of(&host, port)) => Finding::ok(
            "port",
            &format!("{host} port {port} is held by an entra-auth-mcp that is running."),
        ),
        Err(not_bound) => Finding::failure(
            "port",
            &format!(
                "{} cannot be listened on ({}).",
                not_bound.address, not_bound.error
            ),
            "Stop what listens there, or set SERVER_HOST and SERVER_PORT to a free address.",
        ),
    }
}
