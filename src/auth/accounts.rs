//! The accounts: one slot for each in one map behind one mutex. This process owns the token file, so
//! this map is the truth, and the file is what survives a restart.
//!
//! A change is on the disk before the map shows it, with one exception: an account that Entra has
//! just refreshed is kept in memory if the disk fails, because the tokens in the file may be good for
//! nothing by then. It is written with the next change, and tried again with each later call.
//!
//! The map's lock is never held across the disk or the network. Who looks up an account waits for
//! neither.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use super::account::{Account, Stored};
use super::challenge::Claims;
use super::request::Requirements;
use super::token_file::TokenFile;
use crate::error::{Failure, Kind};
use crate::owner::Owner;
use crate::sync::{locked, try_locked};

/// The most users without an account of whom something is known: what their next sign-in must bring.
const MOST_WITHOUT_ACCOUNT: usize = 64;

/// Whoever is in it is the one who asks Entra for the account.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<()>>);

impl Gate {
    /// Waits until no other call asks Entra for the account.
    pub fn enter(&self) -> MutexGuard<'_, ()> {
        locked(&self.0)
    }

    /// `None` while another call does.
    pub fn try_enter(&self) -> Option<MutexGuard<'_, ()>> {
        try_locked(&self.0)
    }
}

/// What the next sign-in must bring, for as long as a sign-in takes.
pub struct Due {
    /// Seconds since 1970.
    pub until: u64,
    pub requirements: Requirements,
}

/// A refresh that Entra, or the way to it, has refused.
pub struct RefusedRefresh {
    /// During which seconds since 1970 it is not tried again. A clock that is set back ends it, too.
    pub during: Range<u64>,
    /// The claims that it asked for.
    pub claims: Option<Claims>,
    pub failure: Failure,
    /// What a sign-in must bring instead.
    pub due: Option<Requirements>,
}

/// Everything that is known of one account.
#[derive(Default)]
pub struct Slot {
    /// `None` for somebody who has not signed in yet.
    account: Option<Arc<Account>>,
    gate: Gate,
    /// What the next sign-in must bring, if one is wanted.
    pub due: Option<Due>,
    /// The refreshes that were refused, the newest first; one for each claims.
    pub refused: Vec<RefusedRefresh>,
    /// When the API has had a token renewed, and for which claims.
    pub renewed: Vec<(u64, Option<Claims>)>,
}

/// How signing in or out went.
pub enum Change {
    /// It is on the disk. The account that had the name before, if any.
    Done(Option<Arc<Account>>),
    /// The person gave the sign-in up, or signed out, meanwhile.
    GivenUp,
}

#[derive(Default)]
struct Memory {
    slots: BTreeMap<String, Slot>,
    /// Accounts of other applications, authorities and tenants: carried along in the file, because
    /// the settings may change back.
    foreign: Vec<(String, Arc<Account>)>,
    /// Why the file does not hold what is here.
    trouble: Option<Failure>,
}

impl Memory {
    /// The accounts that are in use, as they are to be written.
    fn accounts(&self) -> BTreeMap<String, Arc<Account>> {
        let signed_in = self.slots.iter().filter_map(|(user_id, slot)| {
            let account = slot.account.as_ref()?;
            Some((user_id.clone(), Arc::clone(account)))
        });
        signed_in.collect()
    }

    /// The slot of `user_id`, made if there is none.
    fn slot(&mut self, user_id: &str) -> &mut Slot {
        let is_new = !self.slots.contains_key(user_id);
        let empty = self.slots.iter().filter(|(_, slot)| slot.account.is_none());
        if is_new && empty.clone().count() >= MOST_WITHOUT_ACCOUNT {
            let first_due = empty.min_by_key(|(_, slot)| slot.due.as_ref().map(|due| due.until));
            if let Some(first_due) = first_due.map(|(user_id, _)| user_id.clone()) {
                self.slots.remove(&first_due);
            }
        }
        self.slots.entry(user_id.to_owned()).or_default()
    }
}

/// The accounts of one server.
pub struct Accounts {
    /// Held while the file is written, and before `memory` is locked.
    file: Mutex<TokenFile>,
    memory: Mutex<Memory>,
    /// Whether a thread is about to write what the disk has not taken.
    is_retrying: AtomicBool,
    /// Nobody else has the file while this lives.
    owner: Owner,
}

impl Accounts {
    /// The accounts of `file`, of which those that `is_ours` takes are in use.
    pub fn new(
        file: TokenFile,
        stored: Vec<Stored>,
        owner: Owner,
        is_ours: impl Fn(&Account) -> bool,
    ) -> Self {
        let mut memory = Memory::default();
        for Stored { user_id, account } in stored {
            let account = Arc::new(account);
            if is_ours(&account) {
                memory.slots.entry(user_id).or_default().account = Some(account);
            } else {
                memory.foreign.push((user_id, account));
            }
        }
        Self {
            file: Mutex::new(file),
            memory: Mutex::new(memory),
            is_retrying: AtomicBool::new(false),
            owner,
        }
    }

    // ---- Looking ----

    /// This process, as the owner of the file.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The account of `user_id`.
    pub fn get(&self, user_id: &str) -> Option<Arc<Account>> {
        locked(&self.memory).slots.get(user_id)?.account.clone()
    }

    /// Every account.
    pub fn all(&self) -> BTreeMap<String, Arc<Account>> {
        locked(&self.memory).accounts()
    }

    /// The gate of the account of `user_id`.
    pub fn gate(&self, user_id: &str) -> Option<Gate> {
        let memory = locked(&self.memory);
        let slot = memory
            .slots
            .get(user_id)
            .filter(|slot| slot.account.is_some())?;
        Some(slot.gate.clone())
    }

    /// Why the file does not hold what is in memory, if it does not.
    pub fn trouble(&self) -> Option<Failure> {
        locked(&self.memory).trouble.clone()
    }

    /// Does `act` with the slot of `user_id`, if there is one. What it changes is not written.
    pub fn with_slot<T>(&self, user_id: &str, act: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        locked(&self.memory).slots.get_mut(user_id).map(act)
    }

    /// Notes what the next sign-in of `user_id` must bring.
    pub fn note(&self, user_id: &str, due: Due) {
        locked(&self.memory).slot(user_id).due = Some(due);
    }

    // ---- Changing ----

    /// Puts `account` in the place of whatever `user_id` had, on the disk first; not if the sign-in
    /// is no longer `wanted` then.
    ///
    /// # Errors
    /// The file cannot be written; then nothing is changed.
    pub fn sign_in(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        wanted: impl FnOnce() -> bool,
    ) -> Result<Change, Failure> {
        let mut file = locked(&self.file);
        // A sign-out first forgets the sign-ins, then waits for the file.
        if !wanted() {
            return Ok(Change::GivenUp);
        }
        let mut accounts = locked(&self.memory).accounts();
        let before = accounts.insert(user_id.to_owned(), Arc::clone(account));
        self.write(&mut file, &accounts)?;
        let slot = Slot {
            account: Some(Arc::clone(account)),
            ..Slot::default()
        };
        locked(&self.memory).slots.insert(user_id.to_owned(), slot);
        Ok(Change::Done(before))
    }

    /// Forgets the account of `user_id` and all that is known of it, on the disk first; gives it.
    ///
    /// # Errors
    /// The file cannot be written; then nothing is changed.
    pub fn sign_out(&self, user_id: &str) -> Result<Option<Arc<Account>>, Failure> {
        let mut file = locked(&self.file);
        let mut accounts = locked(&self.memory).accounts();
        let Some(account) = accounts.remove(user_id) else {
            return Ok(None);
        };
        self.write(&mut file, &accounts)?;
        locked(&self.memory).slots.remove(user_id);
        Ok(Some(account))
    }

    /// Puts `new` in the place of `old`, which it was made of, on the disk first; in memory alone if
    /// the disk fails. `false` if the person signed in anew, or out, meanwhile: that counts.
    pub fn replace(&self, user_id: &str, old: &Arc<Account>, new: &Arc<Account>) -> bool {
        let mut file = locked(&self.file);
        let mut accounts = locked(&self.memory).accounts();
        match accounts.get_mut(user_id) {
            Some(current) if Arc::ptr_eq(current, old) => *current = Arc::clone(new),
            _ => return false,
        }
        // What fails here is noted, and tried again.
        let _ = self.write(&mut file, &accounts);
        self.with_slot(user_id, |slot| slot.account = Some(Arc::clone(new)));
        true
    }

    /// Writes what is in memory, if the disk has not taken it yet.
    ///
    /// # Errors
    /// It still cannot be written.
    pub fn write_unwritten(&self) -> Result<(), Failure> {
        let mut file = locked(&self.file);
        let accounts = {
            let memory = locked(&self.memory);
            if memory.trouble.is_none() {
                return Ok(());
            }
            memory.accounts()
        };
        self.write(&mut file, &accounts)
    }

    /// The same on a thread of its own, so that no call waits for a disk that may hang. If there is
    /// no thread to be had, the next call tries again.
    pub fn retry(self: &Arc<Self>) {
        if locked(&self.memory).trouble.is_none() || self.is_retrying.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("token file".to_owned())
            .spawn(move || {
                let _ = this.write_unwritten();
                this.is_retrying.store(false, Ordering::Release);
            });
        if spawned.is_err() {
            self.is_retrying.store(false, Ordering::Release);
        }
    }

    /// Writes `accounts` and the foreign ones. Takes note of trouble, to be told of, and logs the
    /// first of it.
    fn write(
        &self,
        file: &mut TokenFile,
        accounts: &BTreeMap<String, Arc<Account>>,
    ) -> Result<(), Failure> {
        let foreign = locked(&self.memory).foreign.clone();
        let foreign = foreign
            .iter()
            .map(|(user_id, account)| (user_id.as_str(), &**account));
        let ours = accounts
            .iter()
            .map(|(user_id, account)| (user_id.as_str(), &**account));
        let written = file.write(ours.chain(foreign));
        let mut memory = locked(&self.memory);
        match &written {
            Ok(()) if memory.trouble.take().is_some() => {
                log::info!("{} can be written again", file.path().display());
            }
            Ok(()) => {}
            Err(failure) => {
                // Whatever stands there now, memory is the truth, and is written again.
                if memory.trouble.replace(failure.clone()).is_none() {
                    log::error!("what is in memory serves from now on: {}", failure.text());
                }
            }
        }
        written
    }
}

/// Why somebody whom a call is for is not there.
pub(crate) fn not_signed_in(user_id: &str) -> Failure {
    Failure::new(Kind::SignInRequired, format!("{user_id} is not signed in."))
}
