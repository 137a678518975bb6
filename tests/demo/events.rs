//! What happens at the demo's server, a line for each sign-in and call, as its audit log tells it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// How often the log is looked at.
const STEP: Duration = Duration::from_millis(100);

/// Prints what the audit log at `path` gets from now on, for as long as the program runs.
pub fn print_from(path: &Path) {
    let file = File::open(path).expect("the server has made its audit log");
    let mut log = BufReader::new(file);
    thread::spawn(move || {
        let mut line = String::new();
        loop {
            // At the end of the file, a later read goes on there. Half a line is kept.
            let _ = log.read_line(&mut line);
            if line.ends_with('\n') {
                if let Ok(entry) = serde_json::from_str(&line) {
                    println!("{}", told(&entry));
                }
                line.clear();
            } else {
                thread::sleep(STEP);
            }
        }
    });
}

/// An entry of the audit log in words.
fn told(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let time = text("time").get(11..19).unwrap_or_default();
    let user_id = text("user_id");
    let outcome = text("outcome");
    let is_ok = outcome == "ok";
    let what = match text("event") {
        "sign_in" if is_ok => format!("{user_id} has signed in"),
        "sign_in" => format!("the sign-in of {user_id} failed ({outcome})"),
        "sign_out" => format!("{user_id} has signed out"),
        "refresh" if is_ok => format!("the token of {user_id} was refreshed"),
        "refresh" => format!("the token of {user_id} was not refreshed ({outcome})"),
        _ => {
            let answer = match entry["status"].as_u64() {
                Some(status) => format!("{status}"),
                None => outcome.to_owned(),
            };
            // Before the first sign-in, nobody is meant.
            let who = match user_id {
                "" => String::new(),
                _ => format!(" as {user_id}"),
            };
            format!("{} {}{who}: {answer}", text("method"), text("path"))
        }
    };
    format!("{time}  {what}")
}
