//! Which tables of a database changed, and which are being changed.
//!
//! A table has a number that grows with each change. An answer is kept under the numbers of all tables that it depends on ([`Ledger::stamp`]), so
//! that a change makes it unreachable, at once and without looking for it. While a change is under way nobody knows what a read will see:
//! there is no stamp then, and nothing is kept. A change counts from before it is sent until the server has answered, or until
//! the transaction that it was in has ended, or until the connection has; whichever is sure.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::effect::{Effect, Target};

/// Tables that are told apart; what is beyond counts as everything.
const MOST: usize = 10_000;

#[derive(Default)]
struct Mark {
    version: u64,
    writing: u32,
}

#[derive(Default)]
struct State {
    everything: Mark,
    tables: HashMap<String, Mark>,
}

impl State {
    fn mark(&mut self, target: &Target) -> &mut Mark {
        match target {
            Target::Table(name) => self.tables.entry(name.clone()).or_default(),
            Target::Everything => &mut self.everything,
        }
    }
}

/// Of one database.
pub struct Ledger {
    id: u64,
    state: Mutex<State>,
}

impl Default for Ledger {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), state: Mutex::default() }
    }
}

impl Ledger {
    /// No other has this number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Something is about to change.
    #[must_use]
    pub fn begin(self: &Arc<Self>, target: &Target) -> Writing {
        let mut state = self.lock();
        let target = match target {
            Target::Table(name) if state.tables.len() >= MOST && !state.tables.contains_key(name) => {
                Target::Everything
            }
            target => target.clone(),
        };
        let mark = state.mark(&target);
        mark.writing = mark.writing.saturating_add(1);
        drop(state);
        Writing { ledger: Arc::clone(self), target }
    }

    /// Something has changed, elsewhere.
    pub fn changed(self: &Arc<Self>, target: &Target) {
        drop(self.begin(target));
    }

    /// How often nobody knew what has changed; none while that is so.
    #[must_use]
    pub fn everything(&self) -> Option<u64> {
        let state = self.lock();
        (state.everything.writing == 0).then_some(state.everything.version)
    }

    /// What stands for the state of these tables; none while one of them is being changed, or if `everything` is not what it was.
    #[must_use]
    pub fn stamp(&self, tables: &[String], everything: u64) -> Option<u64> {
        let state = self.lock();
        if state.everything.writing > 0 || state.everything.version != everything {
            return None;
        }
        // Each number only grows, so equal sums are equal numbers.
        tables.iter().try_fold(0_u64, |sum, name| match state.tables.get(name) {
            Some(mark) if mark.writing > 0 => None,
            Some(mark) => sum.checked_add(mark.version),
            None => Some(sum),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change that is under way; it is over when this is dropped.
pub struct Writing {
    ledger: Arc<Ledger>,
    target: Target,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        let mark = state.mark(&self.target);
        mark.writing = mark.writing.saturating_sub(1);
        mark.version = mark.version.saturating_add(1);
    }
}

#[derive(Default)]
struct Open {
    sent: u64,
    in_transaction: bool,
    listens: bool,
    writing: Vec<(u64, Writing)>,
}

/// What a connection has under way.
pub struct Session {
    ledger: Arc<Ledger>,
    open: Mutex<Open>,
}

/// A statement that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    number: u64,
    /// What it begins is over when it is.
    alone: bool,
    ends: bool,
}

impl Session {
    /// With nothing under way.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, open: Mutex::default() }
    }

    /// A statement is about to be sent. Whoever forgets it leaves what it changes under way until the connection is clean again.
    #[must_use]
    pub fn before(&self, effect: &Effect) -> Sent {
        let mut open = self.lock();
        open.sent = open.sent.saturating_add(1);
        let number = open.sent;
        let alone = !open.in_transaction;
        match effect {
            Effect::Nothing => {}
            Effect::Begin => open.in_transaction = true,
            Effect::End { chain } => open.in_transaction = *chain,
            Effect::Write(target) => {
                let known = |writing: &(u64, Writing)| writing.1.target == *target;
                if alone || !open.writing.iter().any(known) {
                    open.writing.push((number, self.ledger.begin(target)));
                }
            }
        }
        Sent { number, alone, ends: matches!(effect, Effect::End { .. }) }
    }

    /// The server has answered it, whatever it said.
    pub fn after(&self, sent: Sent) {
        self.lock().writing.retain(|(number, _)| {
            let over = if sent.ends { *number < sent.number } else { sent.alone && *number == sent.number };
            !over
        });
    }

    /// Somebody does what nobody sees.
    pub fn unseen(&self) {
        let mut open = self.lock();
        // Statements of his transactions end nothing: that is for the end of the loan alone.
        if !open.writing.iter().any(|(number, _)| *number == u64::MAX) {
            open.writing.push((u64::MAX, self.ledger.begin(&Target::Everything)));
        }
    }

    /// It hears from now on what others change; what it has not heard is unknown.
    pub fn listens(&self) {
        self.lock().listens = true;
        self.ledger.changed(&Target::Everything);
    }

    /// Somebody else has told of a change: the names of tables, or nothing.
    pub fn told(&self, names: &str) {
        let mut names = names.split([',', ' ']).filter(|name| !name.is_empty()).peekable();
        if names.peek().is_none() {
            self.ledger.changed(&Target::Everything);
        }
        for name in names {
            let name = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
            self.ledger.changed(&Target::Table(name.to_owned()));
        }
    }

    /// The connection is lost: what others tell is heard no longer.
    pub fn lost(&self) {
        if std::mem::take(&mut self.lock().listens) {
            self.ledger.changed(&Target::Everything);
        }
    }

    /// The connection is clean, or has ended: the server is done with all that was sent.
    pub fn clear(&self) {
        let mut open = self.lock();
        if open.listens {
            self.ledger.changed(&Target::Everything);
        }
        *open = Open { sent: open.sent, ..Open::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::effect;
    use super::*;

    fn start() -> (Arc<Ledger>, Session, Vec<String>) {
        let ledger = Arc::new(Ledger::default());
        (Arc::clone(&ledger), Session::new(ledger), vec!["t".to_owned(), "u".to_owned()])
    }

    fn run(session: &Session, sql: &str) {
        let sent = session.before(&effect::of(sql));
        session.after(sent);
    }

    #[test]
    fn a_change_is_under_way_and_then_another_number() {
        let (ledger, session, tables) = start();
        assert_eq!(ledger.stamp(&tables, 0), Some(0));
        let sent = session.before(&effect::of("UPDATE t SET a = 1"));
        assert_eq!(ledger.stamp(&tables, 0), None);
        assert_eq!(ledger.stamp(&["other".to_owned()], 0), Some(0));
        session.after(sent);
        assert_eq!(ledger.stamp(&tables, 0), Some(1));
        run(&session, "SELECT * FROM t");
        assert_eq!(ledger.stamp(&tables, 0), Some(1));
        run(&session, "TRUNCATE t");
        assert_eq!((ledger.stamp(&tables, 0), ledger.everything()), (None, Some(1)));
    }

    #[test]
    fn what_a_transaction_changes_is_under_way_until_it_ends() {
        let (ledger, session, tables) = start();
        for end in ["COMMIT", "ROLLBACK"] {
            for sql in ["BEGIN", "UPDATE t SET a = 1", "UPDATE t SET a = 2", "ROLLBACK TO x"] {
                run(&session, sql);
            }
            assert_eq!(ledger.stamp(&tables, 0), None);
            run(&session, end);
            assert!(ledger.stamp(&tables, 0).is_some());
        }
        for sql in ["BEGIN", "UPDATE t SET a = 1", "COMMIT AND CHAIN", "UPDATE u SET a = 1"] {
            run(&session, sql);
        }
        assert_eq!(ledger.stamp(&tables, 0), None, "the second of a chain");
        session.clear();
        assert_eq!(ledger.stamp(&tables, 0), Some(4), "the connection has ended");
    }

    #[test]
    fn who_gives_up_and_who_works_unseen_leave_it_under_way() {
        let (ledger, session, tables) = start();
        let _forgotten = session.before(&effect::of("DELETE FROM u"));
        run(&session, "DELETE FROM t");
        assert_eq!(ledger.stamp(&tables, 0), None);
        session.clear();
        assert_eq!(ledger.stamp(&tables, 0), Some(2));
        session.unseen();
        for sql in ["BEGIN", "COMMIT"] {
            run(&session, sql);
        }
        assert_eq!(ledger.everything(), None);
        session.clear();
        assert_eq!(ledger.everything(), Some(1));
    }

    #[test]
    fn names_have_a_bound_and_others_tell() {
        let (ledger, session, tables) = start();
        session.told("shop.\"t\", u");
        assert_eq!(ledger.stamp(&tables, 0), Some(2));
        (0..=MOST).for_each(|number| ledger.changed(&Target::Table(number.to_string())));
        assert!(ledger.lock().tables.len() <= MOST && ledger.everything() > Some(0));
        session.told("");
        session.listens();
        let before = ledger.everything();
        session.clear();
        assert!(ledger.everything() > before, "nobody hears any more");
    }
}
