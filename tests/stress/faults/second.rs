//! A second server on a token file that has an owner.

use crate::server;
use crate::support::entra::{ADA, Entra};
use crate::support::server::{Process, Setup, Verb};

pub fn run() -> String {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let mut owner = Process::start(server(), &setup);
    owner.modern().sign_in(ADA);
    let (code, _, log) = Verb::run(server(), &setup);
    assert_ne!(code, 0, "it started");
    assert!(log.contains(&owner.id().to_string()), "whose is it? {log}");
    assert!(owner.is_running());
    owner.kill();
    // What a killed owner leaves behind stops nobody.
    Process::start(server(), &setup);
    "it does not start, and names the owner; it starts when the owner was killed".to_owned()
}
