//! Finds out what is wrong with the settings, this machine, the network or the app registration.
//!
//! It sends no token, takes no lock, and changes nothing: to see whether the directory of the token
//! file can be written, it makes an empty file there and removes it.

mod offline;
mod online;
mod report;

pub use report::{Finding, Level, REPLACES_ALL, Report};

use crate::auth::aadsts;
use crate::clock::Clock;
use crate::config::{Config, Sources};

/// Checks what can be checked; the network only with settings that are valid. `sources` are the
/// settings, or why they cannot be read.
pub fn run(sources: Result<Sources, String>, clock: &Clock) -> Report {
    let mut report = Report::default();
    report.findings.push(offline::clock(clock));
    let sources = match sources {
        Ok(sources) => sources,
        Err(why) => {
            let mend = "Correct that, or name another file with --env-file.";
            report
                .findings
                .push(Finding::failure("settings", &why, mend));
            return report;
        }
    };
    report.findings.push(offline::settings_file(&sources));
    report.findings.extend(offline::unknown(&sources));
    if let Some(config) = offline::check(sources.values, clock, &mut report.findings) {
        online::check(&config, clock, &mut report.findings);
        report.commands = commands(&config);
    }
    report
}

/// Why a server with the settings of `config` could not start, each with what to do: what can be
/// told without the network and without taking its port.
pub fn hindrances(config: &Config, clock: &Clock) -> Vec<String> {
    let mut findings = Vec::new();
    offline::places(config, clock, &mut findings);
    let failures = findings
        .into_iter()
        .filter(|finding| finding.level == Level::Failure);
    failures
        .map(|finding| match finding.mend {
            Some(mend) => format!("{} {mend}", finding.message),
            None => finding.message,
        })
        .collect()
}

/// The commands that show the registration of `config` and correct it.
pub fn commands(config: &Config) -> Vec<String> {
    let id = &config.client_id;
    let uri = quoted(aadsts::registered(&config.redirect_uri.text));
    let mut commands = vec![
        format!("az ad app show --id {id} --query publicClient.redirectUris"),
        format!("az ad app update --id {id} --public-client-redirect-uris {uri}"),
        format!("az ad app permission list --id {id}"),
        format!("az ad app permission admin-consent --id {id}"),
    ];
    if config.allow_device_code {
        // The portal calls it "Allow public client flows".
        commands.push(format!(
            "az ad app update --id {id} --is-fallback-public-client true"
        ));
    }
    commands
}

/// `uri` as one word of a shell. A redirect URI has no `'`.
fn quoted(uri: String) -> String {
    let is_plain = uri
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ":/.-_~%".contains(c));
    if is_plain { uri } else { format!("'{uri}'") }
}
