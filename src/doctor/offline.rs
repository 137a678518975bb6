//! What can be told without the network.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use super::Finding;
use crate::clock::{Clock, iso8601_seconds};
use crate::config::{self, Config};
use crate::entra::agent_config;
use crate::http::listener::Listeners;
use crate::oauth::aadsts;
use crate::token_cache::{Accounts, TokenCache};

/// 2026-01-01: it was later when this was written.
const WRITTEN: u64 = 1_767_225_600;
const HELP: &str = "entra-auth-mcp --help lists every setting.";

/// Our clock, as far as it can be told from itself.
pub fn clock(clock: &Clock) -> Finding {
    let time = iso8601_seconds(clock.now());
    if clock.now() < WRITTEN {
        Finding::failure("clock", format!("It is {time} here, which cannot be."), "Set this machine's clock.")
    } else {
        Finding::ok("clock", format!("It is {time} here."))
    }
}

/// A failure for each mistake.
pub fn mistakes(mistakes: &[String]) -> impl Iterator<Item = Finding> {
    mistakes.iter().map(|mistake| Finding::failure("settings", mistake, HELP))
}

/// The settings with something harmless in the place of each mistaken one.
pub fn without(mistakes: &[String], mut variables: BTreeMap<String, String>) -> Option<Config> {
    for setting in mistakes.iter().filter_map(|mistake| mistake.split(' ').next()) {
        let is_required = ["AZURE_CLIENT_ID", "AZURE_TENANT_ID"].contains(&setting);
        let harmless = if is_required { "00000000-0000-0000-0000-000000000000" } else { "" };
        variables.insert(setting.to_owned(), harmless.to_owned());
    }
    Config::from_variables(&variables).ok()
}

/// What is no mistake, but probably not meant.
pub fn doubts(config: &Config, variables: &BTreeMap<String, String>) -> Vec<Finding> {
    let misspelt = config::misspelt(variables.keys().map(String::as_str));
    let misspelt = misspelt.into_iter().map(|(name, setting)| {
        Finding::warning("settings", format!("{name} is not a setting."), format!("Rename it to {setting}."))
    });
    let doubts = config.doubts();
    let doubts = doubts.iter().map(|doubt| Finding::warning("settings", doubt, HELP));
    let findings: Vec<Finding> = misspelt.chain(doubts).collect();
    if findings.is_empty() { vec![Finding::ok("settings", "Every setting can be used.")] } else { findings }
}

/// What will be asked for.
pub fn scopes(config: &Config) -> Finding {
    Finding::ok("scopes", format!("{} will be asked for.", config.scopes.requested()))
}

/// What must be registered.
pub fn redirect_uri(config: &Config) -> Finding {
    let (text, registered) = (&config.redirect_uri.text, aadsts::registered(&config.redirect_uri.text));
    let place = "the platform \"Mobile and desktop applications\"";
    Finding::ok("redirect-uri", format!("{text} is used; {registered} must be registered, under {place}."))
}

/// The token file and its directory.
pub fn token_file(config: &Config, clock: &Clock) -> Vec<Finding> {
    let path = &config.token_cache_file;
    let name = path.display();
    let mut findings = Vec::new();
    match TokenCache::look(path, clock.clone()) {
        Err(failure) => findings.push(Finding::failed("token-file", failure)),
        Ok(None) => findings.push(Finding::ok("token-file", format!("{name} is not there yet: nobody is signed in."))),
        Ok(Some(look)) => {
            if look.others_have_access {
                let message = format!("{name} can be read or written by others.");
                findings.push(Finding::warning("token-file", message, format!("chmod 600 {name}")));
            }
            findings.push(match look.accounts {
                Some(accounts) => accounts_in(&name.to_string(), &accounts, config, clock),
                None => Finding::failure(
                    "token-file",
                    format!("{name} cannot be understood."),
                    "Restore it from a copy. Otherwise the next start sets it aside, and everybody signs in again.",
                ),
            });
        }
    }
    if let Err(failure) = TokenCache::try_directory(path, clock.clone()) {
        findings.push(Finding::failed("token-file", failure));
    }
    findings
}

fn accounts_in(name: &str, accounts: &Accounts, config: &Config, clock: &Clock) -> Finding {
    let ours = accounts.iter().filter(|(_, account)| [config.client_id.as_str(), ""].contains(&&*account.client_id));
    let has_ended = ours.filter(|(_, account)| account.refresh_token.is_none() && account.expires_at <= clock.now());
    let ended: Vec<&str> = has_ended.map(|(user_id, _)| user_id.as_str()).collect();
    let count = accounts.len();
    if ended.is_empty() {
        return Finding::ok("token-file", format!("{name} has {count} accounts."));
    }
    let message = format!("{name} has {count} accounts; the sign-in of these has ended: {}.", ended.join(", "));
    Finding::warning("token-file", message, "Sign in again, or sign them out.")
}

/// Whether the port can be had or is held by a server of ours; and the settings with the port that was found.
pub fn port(config: Config) -> (Finding, Config) {
    let (host, port) = (config.server_host.as_str(), config.server_port);
    let finding = match Listeners::bind(host, port) {
        Ok(listeners) => {
            let free = listeners.port();
            return (Finding::ok("port", format!("{host} port {free} is free.")), config.at_port(free));
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_ours(host, port) => {
            Finding::ok("port", format!("{host} port {port} is held by an entra-auth-mcp that is running."))
        }
        Err(error) => Finding::failure(
            "port",
            format!("{host} port {port} cannot be listened on ({error})."),
            "Stop what listens there, or set SERVER_HOST and SERVER_PORT to a free address.",
        ),
    };
    (finding, config)
}

/// Whether it is this program that listens there.
fn is_ours(host: &str, port: u16) -> bool {
    let host = match host {
        "0.0.0.0" | "::" => "localhost".to_owned(),
        address if address.contains(':') => format!("[{address}]"),
        name => name.to_owned(),
    };
    let Ok(url) = format!("http://{host}:{port}/healthz").parse() else { return false };
    // Also an address that is no loopback one is this machine's.
    let config = agent_config(&url).https_only(false).proxy(None).timeout_global(Some(super::online::DEADLINE)).build();
    let answer = config.new_agent().get(url.as_str()).call();
    answer.is_ok_and(|answer| answer.headers().get("server").is_some_and(|server| server == "entra-auth-mcp"))
}
