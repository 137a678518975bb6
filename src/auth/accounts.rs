//! The accounts: one slot for each in one map behind one mutex. This process owns the token file,
//! so this map is the truth, and the file is what survives a restart.
//!
//! A change is on the disk before the map shows it, with one exception: an account that Entra has
//! just refreshed is kept in memory if the disk fails, because the tokens in the file may be good
//! for nothing by then. It is written with the next change, and tried again with each later call.
//!
//! The map's lock is never held across the disk or the network. Who looks up an account waits for
//! neither.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use super::account::{Account, Stored};
use super::asked::AskedOfLate;
use super::challenge::Claims;
use super::request::Requirements;
use super::token_file::TokenFile;
use crate::error::{Failure, Kind};
use crate::owner::Owner;
use crate::sorted;
use crate::sync::{self, locked, try_locked};

/// The most users without an account of whom something is known.
const MOST_WITHOUT_ACCOUNT: usize = 64;

/// Whoever holds it is the only one who refreshes the account.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<()>>);

impl Gate {
    pub fn enter(&self) -> MutexGuard<'_, ()> {
        locked(&self.0)
    }

    /// `None` while another call is in it.
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

impl Due {
    /// Whether the sign-in is still due at `now` (seconds since 1970).
    pub fn is_due(&self, now: u64) -> bool {
        self.until > now
    }
}

/// Everything that is known of one account.
#[derive(Default)]
pub struct Slot {
    /// `None` for somebody who has not signed in yet.
    account: Option<Arc<Account>>,
    gate: Gate,
    /// What the next sign-in must bring, if one is wanted.
    pub due: Option<Due>,
    /// Its refreshes a moment ago.
    pub asked: AskedOfLate,
    /// The claims of an API that the person has signed in for.
    pub signed_in_for: Option<Claims>,
}

type ByUser = BTreeMap<String, Arc<Account>>;

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
    fn accounts(&self) -> ByUser {
        let accounts = self.slots.iter().filter_map(|(user_id, slot)| {
            let account = slot.account.as_ref()?;
            Some((user_id.clone(), Arc::clone(account)))
        });
        sorted::map(accounts)
    }
}

/// The accounts of one server.
pub struct Accounts {
    /// Held while the file is written, and locked before `memory`. `None` once the server has
    /// stopped.
    file: Mutex<Option<OwnFile>>,
    memory: Mutex<Memory>,
    /// Whether a thread is about to write what the disk has not taken.
    is_retrying: AtomicBool,
}

/// The token file, and the right to change it.
struct OwnFile {
    file: TokenFile,
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
                let slot = memory.slots.entry(user_id).or_default();
                // Somebody may have signed in while the tenant was set by name, and again while it
                // was set by its GUID: the last sign-in counts.
                let is_newest = slot
                    .account
                    .as_ref()
                    .is_none_or(|other| other.signed_in_at < account.signed_in_at);
                if is_newest {
                    slot.account = Some(account);
                }
            } else {
                memory.foreign.push((user_id, account));
            }
        }
        Self {
            file: Mutex::new(Some(OwnFile { file, owner })),
            memory: Mutex::new(memory),
            is_retrying: AtomicBool::new(false),
        }
    }

    // ---- Looking, and notes that are not written ----

    /// Says at which origin the owner of the file can be spoken to, if it can.
    pub fn announce(&self, origin: Option<&str>) {
        match (locked(&self.file).as_ref(), origin) {
            (Some(own), Some(origin)) => own.owner.announce(origin),
            (Some(own), None) => own.owner.retire(),
            (None, _) => {}
        }
    }

    pub fn get(&self, user_id: &str) -> Option<Arc<Account>> {
        locked(&self.memory).slots.get(user_id)?.account.clone()
    }

    pub fn all(&self) -> ByUser {
        locked(&self.memory).accounts()
    }

    /// The gate of the account of `user_id`.
    pub fn gate(&self, user_id: &str) -> Option<Gate> {
        let memory = locked(&self.memory);
        let slot = memory.slots.get(user_id)?;
        slot.account.as_ref().map(|_| slot.gate.clone())
    }

    /// The account of `user_id`, if `gate` is its gate: a new sign-in has a new one.
    pub fn behind(&self, user_id: &str, gate: &Gate) -> Option<Arc<Account>> {
        let memory = locked(&self.memory);
        let slot = memory.slots.get(user_id)?;
        let account = slot.account.clone()?;
        Arc::ptr_eq(&slot.gate.0, &gate.0).then_some(account)
    }

    /// Why the file does not hold what is in memory, if it does not.
    pub fn trouble(&self) -> Option<Failure> {
        locked(&self.memory).trouble.clone()
    }

    /// Does `act` with the slot of `user_id`, if there is one.
    pub fn with_slot<T>(&self, user_id: &str, act: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        locked(&self.memory).slots.get_mut(user_id).map(act)
    }

    /// The same, if its account is `account` still: nobody has signed in anew or out meanwhile.
    pub fn with_slot_of<T>(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        act: impl FnOnce(&mut Slot) -> T,
    ) -> Option<T> {
        let mut memory = locked(&self.memory);
        let slot = memory.slots.get_mut(user_id)?;
        let current = slot.account.as_ref()?;
        Arc::ptr_eq(current, account).then(|| act(slot))
    }

    /// Notes what the next sign-in of `user_id` must bring. Of too many people who have not signed
    /// in, one is forgotten.
    pub fn note(&self, user_id: &str, due: Due) {
        let mut memory = locked(&self.memory);
        if !memory.slots.contains_key(user_id) {
            let mut without = memory
                .slots
                .iter()
                .filter(|(_, slot)| slot.account.is_none());
            let first = without.clone().next().map(|(user_id, _)| user_id.clone());
            if let Some(first) = first.filter(|_| without.nth(MOST_WITHOUT_ACCOUNT - 1).is_some()) {
                memory.slots.remove(&first);
            }
        }
        memory.slots.entry(user_id.to_owned()).or_default().due = Some(due);
    }

    // ---- Changing ----

    /// Puts `account` in the place of whatever `user_id` had, and gives that. The person has signed
    /// in for the claims `signed_in_for`. Nobody else can store an account during `check`.
    ///
    /// # Errors
    /// That of `check`, or the file cannot be written; then nothing is changed.
    pub fn sign_in(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        signed_in_for: Option<&Claims>,
        check: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let mut file = locked(&self.file);
        // A sign-out first forgets the sign-ins, then waits for the file.
        check()?;
        let mut accounts = self.all();
        let before = accounts.insert(user_id.to_owned(), Arc::clone(account));
        self.write(&mut file, &accounts)?;
        let slot = Slot {
            account: Some(Arc::clone(account)),
            signed_in_for: signed_in_for.cloned(),
            ..Slot::default()
        };
        locked(&self.memory).slots.insert(user_id.to_owned(), slot);
        Ok(before)
    }

    /// Forgets the account of `user_id` and all that is known of it; gives the account. An account
    /// of the same person that was stored under another name of the tenant is forgotten, too.
    ///
    /// # Errors
    /// The file cannot be written; then nothing is changed.
    pub fn sign_out(&self, user_id: &str) -> Result<Option<Arc<Account>>, Failure> {
        let mut file = locked(&self.file);
        let mut accounts = self.all();
        let Some(account) = accounts.remove(user_id) else {
            return Ok(None);
        };
        let kept = self.keep_foreign(|name, other| {
            name != user_id || !account.is_same_but_for_tenant_name(other)
        });
        let written = self.write(&mut file, &accounts);
        let mut memory = locked(&self.memory);
        if let Err(failure) = written {
            memory.foreign = kept;
            return Err(failure);
        }
        memory.slots.remove(user_id);
        drop(memory);
        Ok(Some(account))
    }

    /// Keeps those of the foreign accounts that `is_kept` takes; gives all of them as they were.
    fn keep_foreign(
        &self,
        is_kept: impl Fn(&str, &Account) -> bool,
    ) -> Vec<(String, Arc<Account>)> {
        let foreign = &mut locked(&self.memory).foreign;
        let before = foreign.clone();
        foreign.retain(|(user_id, account)| is_kept(user_id, account));
        before
    }

    /// Puts `new` in the place of `old`, which it was made of; in memory alone if the disk fails.
    /// `false`, and nothing is changed, if the person signed in anew, or out, meanwhile.
    pub fn replace(&self, user_id: &str, old: &Arc<Account>, new: &Arc<Account>) -> bool {
        let mut file = locked(&self.file);
        let mut accounts = self.all();
        match accounts.get_mut(user_id) {
            Some(current) if Arc::ptr_eq(current, old) => *current = Arc::clone(new),
            _ => return false,
        }
        // What fails here is noted, and tried again.
        let _ = self.write(&mut file, &accounts);
        self.with_slot(user_id, |slot| slot.account = Some(Arc::clone(new)));
        true
    }

    // ---- The disk ----

    /// Writes what is in memory, if the disk has not taken it yet.
    ///
    /// # Errors
    /// It still cannot be written.
    pub fn write_unwritten(&self) -> Result<(), Failure> {
        let mut file = locked(&self.file);
        if self.trouble().is_none() {
            return Ok(());
        }
        self.write(&mut file, &self.all())
    }

    /// The same, and lets another process have the file.
    ///
    /// # Errors
    /// It still cannot be written: tokens that Entra has renewed are lost.
    pub fn close(&self) -> Result<(), Failure> {
        let written = self.write_unwritten();
        // Dropped here, whoever still holds the accounts.
        locked(&self.file).take();
        written
    }

    /// Writes what is unwritten on a thread of its own, so that no call whose token is good waits
    /// for a disk that may hang. If there is no thread to be had, the next call tries again.
    pub fn retry(self: &Arc<Self>) {
        if locked(&self.memory).trouble.is_none() {
            return;
        }
        if self.is_retrying.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        let retry = move || {
            let _ = this.write_unwritten();
            this.is_retrying.store(false, Ordering::Release);
        };
        let thread = thread::Builder::new().name("token file".to_owned());
        if sync::spawn(thread, Box::new(retry)).is_err() {
            self.is_retrying.store(false, Ordering::Release);
        }
    }

    /// Writes `accounts` and the foreign ones. If that fails, keeps the reason for whoever asks,
    /// and logs the first one.
    fn write(&self, own: &mut Option<OwnFile>, accounts: &ByUser) -> Result<(), Failure> {
        let file = match own {
            Some(own) => &mut own.file,
            None => return Err(Failure::new(Kind::RetryLater, "This server is stopping.")),
        };
        let foreign = locked(&self.memory).foreign.clone();
        let foreign = foreign
            .iter()
            .map(|(user_id, account)| (user_id.as_str(), &**account));
        let ours = accounts
            .iter()
            .map(|(user_id, account)| (user_id.as_str(), &**account));
        let written = file.write(ours.chain(foreign));
        let mut memory = locked(&self.memory);
        let before = memory.trouble.take();
        match &written {
            Ok(()) if before.is_some() => {
                log::info!("{} can be written again", file.path().display());
            }
            Ok(()) => {}
            Err(failure) => {
                if before.is_none() {
                    log::error!("what is in memory serves from now on: {}", failure.text());
                }
                // Whatever stands there now, memory is the truth, and is written again.
                memory.trouble = Some(failure.clone());
            }
        }
        written
    }
}
