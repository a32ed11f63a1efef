//! Who may have a connection next: places for all tenants together, lent fairly.
//!
//! A tenant gets what it asks for while there is plenty. The last tenth of all places is kept for tenants that have none: so that a busy
//! one cannot make a quiet one wait for a whole statement. When a place becomes free, it goes to the waiting tenant that has
//! fewest, and among equals to who has waited longest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Who may wait of one tenant; one more is refused at once.
pub const MAX_WAITING: usize = 1000;

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// None became free in time.
    Timeout,
    /// [`MAX_WAITING`] wait already.
    Crowded,
}

/// A tenant's line.
#[derive(Default)]
struct Line {
    in_use: usize,
    most: usize,
    waiting: VecDeque<(u64, oneshot::Sender<Slot>)>,
}

#[derive(Default)]
struct State {
    free: usize,
    reserve: usize,
    arrivals: u64,
    lines: HashMap<Arc<str>, Line>,
}

impl State {
    /// Whether somebody who has `in_use` of `most` may have one more.
    fn lends(&self, in_use: usize, most: usize) -> bool {
        let left = if in_use == 0 { self.free } else { self.free.saturating_sub(self.reserve) };
        in_use < most && left > 0
    }

    /// The tenant whose turn it is.
    fn next(&self) -> Option<Arc<str>> {
        let turn = |line: &Line| line.waiting.front().map(|(arrival, _)| (line.in_use, *arrival));
        let ready = self.lines.iter().filter(|(_, line)| self.lends(line.in_use, line.most));
        let first = ready.filter_map(|(name, line)| Some((turn(line)?, name))).min_by_key(|(turn, _)| *turn);
        first.map(|(_, name)| Arc::clone(name))
    }
}

/// The places.
pub struct Gate(Mutex<State>);

/// A place; it is free again when this is dropped.
pub struct Slot {
    gate: Arc<Gate>,
    tenant: Arc<str>,
    held: bool,
}

impl Gate {
    /// With so many places.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self(Mutex::new(State { free: places, reserve: places / 10, ..State::default() }))
    }

    /// Waits at most `patience` for a place of `tenant`, which may have `most`.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn enter(
        self: &Arc<Self>,
        tenant: &Arc<str>,
        most: usize,
        patience: Duration,
    ) -> Result<Slot, Refused> {
        let turn = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.arrivals = state.arrivals.saturating_add(1);
            let arrival = state.arrivals;
            let line = state.lines.entry(Arc::clone(tenant)).or_default();
            line.most = most;
            let (in_use, crowd) = (line.in_use, line.waiting.len());
            if crowd == 0 && state.lends(in_use, most) {
                return Ok(self.hand_out(&mut state, tenant));
            }
            if crowd >= MAX_WAITING {
                return Err(Refused::Crowded);
            }
            let (sender, turn) = oneshot::channel();
            if let Some(line) = state.lines.get_mut(tenant) {
                // Who gave up does not stand in the way of who comes.
                line.waiting.retain(|(_, sender)| !sender.is_closed());
                line.waiting.push_back((arrival, sender));
            }
            turn
        };
        match tokio::time::timeout(patience, turn).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Refused::Timeout),
        }
    }

    /// How many a tenant has, and how many of it wait.
    #[must_use]
    pub fn of(&self, tenant: &str) -> (usize, usize) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.get(tenant).map_or((0, 0), |line| {
            (line.in_use, line.waiting.iter().filter(|(_, sender)| !sender.is_closed()).count())
        })
    }

    /// Forgets a tenant that has nothing; who waits is refused.
    pub fn forget(&self, tenant: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = state.lines.get_mut(tenant) {
            line.waiting.clear();
            if line.in_use == 0 {
                state.lines.remove(tenant);
            }
        }
    }

    /// Takes a place that is there.
    fn hand_out(self: &Arc<Self>, state: &mut State, tenant: &Arc<str>) -> Slot {
        state.free = state.free.saturating_sub(1);
        if let Some(line) = state.lines.get_mut(tenant) {
            line.in_use = line.in_use.saturating_add(1);
        }
        Slot { gate: Arc::clone(self), tenant: Arc::clone(tenant), held: true }
    }

    /// Gives a place back, under the lock.
    fn take_back(state: &mut State, tenant: &str) {
        state.free = state.free.saturating_add(1);
        if let Some(line) = state.lines.get_mut(tenant) {
            line.in_use = line.in_use.saturating_sub(1);
            // Tenants come and go; what is empty is made anew.
            if line.in_use == 0 && line.waiting.is_empty() {
                state.lines.remove(tenant);
            }
        }
    }

    fn release(self: &Arc<Self>, tenant: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self::take_back(&mut state, tenant);
        while let Some(next) = state.next() {
            let waiting = state.lines.get_mut(&next).and_then(|line| line.waiting.pop_front());
            let Some((_, sender)) = waiting else { break };
            let slot = self.hand_out(&mut state, &next);
            if let Err(mut refused) = sender.send(slot) {
                // Who asked has gone. Dropping the place would take the lock that is held here.
                refused.held = false;
                Self::take_back(&mut state, &next);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.held {
            self.gate.release(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    async fn take(gate: &Arc<Gate>, tenant: &str, count: usize) -> Vec<Slot> {
        let tenant = tenant.into();
        let mut slots = Vec::new();
        for _ in 0..count {
            slots.extend(gate.enter(&tenant, 100, SOON).await);
        }
        slots
    }

    #[tokio::test]
    async fn the_last_tenth_is_for_those_who_have_none() {
        let gate = Arc::new(Gate::new(20));
        let busy = take(&gate, "busy", 30).await;
        assert_eq!(busy.len(), 18);
        assert_eq!(take(&gate, "quiet", 3).await.len(), 1, "the first of them");
        drop(busy);
        assert_eq!(take(&gate, "quiet", 30).await.len(), 18);
    }

    #[tokio::test]
    async fn a_free_place_goes_to_who_has_fewest() {
        let gate = Arc::new(Gate::new(4));
        let mut busy = take(&gate, "busy", 4).await;
        let wait = |tenant: &'static str| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                gate.enter(&tenant.into(), 100, Duration::from_secs(20)).await.map_err(|_| tenant)
            })
        };
        let first = wait("busy");
        while gate.of("busy").1 == 0 {
            tokio::task::yield_now().await;
        }
        let second = wait("quiet");
        while gate.of("quiet").1 == 0 {
            tokio::task::yield_now().await;
        }
        busy.pop();
        let quiet = second.await.unwrap().unwrap();
        assert!(!first.is_finished());
        drop(quiet);
        assert!(first.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind() {
        let gate = Arc::new(Gate::new(2));
        let held = take(&gate, "a", 2).await;
        assert_eq!(gate.enter(&"a".into(), 100, SOON).await.err(), Some(Refused::Timeout));
        assert_eq!(gate.enter(&"b".into(), 0, SOON).await.err(), Some(Refused::Timeout), "it may have none");
        let gone = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(&"c".into(), 100, Duration::from_secs(60)).await.is_ok() }
        });
        while gate.of("c").1 == 0 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.is_err());
        drop(held);
        assert_eq!(take(&gate, "d", 2).await.len(), 2);
        assert_eq!((gate.of("a"), gate.of("c")), ((0, 0), (0, 0)));
    }
}
