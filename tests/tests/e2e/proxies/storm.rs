//! More requests than a limit admits, from all sides, for a while.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use xtask::clock::Deadline;

use super::{Fleet, LIMIT, WINDOW};
use crate::support::{
    application::Application,
    client::{Connection, Request},
};

/// Connections to each proxy, each with a user of its own.
const CONNECTIONS: usize = 4;
/// After a request that was not admitted, and before another try to connect.
const PAUSE: Duration = Duration::from_millis(4);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests that reached the application.
    pub admitted: u32,
    /// The most that may have.
    pub most: u32,
    /// Answered 429.
    pub refused: u32,
    /// Answered 503, because no token could be had.
    pub unleased: u32,
    /// Connections that could not be made, or broke.
    pub broken: u32,
}

impl Tally {
    /// Percent of what might have been admitted, and was not.
    pub fn missed(&self) -> f64 {
        100.0 * (1.0 - f64::from(self.admitted) / f64::from(self.most))
    }

    /// Says what was seen, and asserts the promise.
    pub fn keeps(&self, what: &str, most_missed: f64) {
        println!(
            "{what}: {} of {} admitted, {:.1} % missed; {self:?}",
            self.admitted,
            self.most,
            self.missed()
        );
        assert!(self.admitted <= self.most, "{what}: over-admission: {self:?}");
        assert!(self.missed() <= most_missed, "{what}: {:.1} % were not admitted: {self:?}", self.missed());
    }
}

/// How many requests a limit admits within some time, at most.
pub fn most(limit: u32, window: Duration, elapsed: Duration) -> u32 {
    let refilled = (u128::from(limit) * elapsed.as_nanos()).div_ceil(window.as_nanos());
    limit + u32::try_from(refilled).unwrap()
}

/// Sends a tenant's requests to all addresses while something happens, and for `after` when it has.
pub fn storm(to: &[SocketAddr], tenant: &str, after: Duration, meanwhile: impl FnOnce()) -> Tally {
    let over = AtomicBool::new(false);
    let over = &over;
    let mut sum = Tally::default();
    thread::scope(|scope| {
        let threads: Vec<_> = to
            .iter()
            .flat_map(|to| (0..CONNECTIONS).map(move |user| (*to, user)))
            .map(|(to, user)| scope.spawn(move || one(to, tenant, user, over)))
            .collect();
        // It ends even if what happens fails.
        let end = End(over);
        meanwhile();
        thread::sleep(after);
        drop(end);
        for thread in threads {
            let tally = thread.join().unwrap();
            sum.refused += tally.refused;
            sum.unleased += tally.unleased;
            sum.broken += tally.broken;
        }
    });
    sum
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn one(to: SocketAddr, tenant: &str, user: usize, over: &AtomicBool) -> Tally {
    let request = Request::get("/").header("x-tenant-id", tenant).header("x-user-id", format!("user-{user}"));
    let (mut tally, mut connection) = (Tally::default(), None);
    while !over.load(Ordering::SeqCst) {
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::try_open(to),
        };
        let Ok(mut open) = open else {
            tally.broken += 1;
            thread::sleep(PAUSE);
            continue;
        };
        match open.exchange(&request).map(|answer| (answer.status, answer.reason())) {
            Ok((200, _)) => {}
            Ok((429, _)) => tally.refused += 1,
            Ok((503, Some(reason))) if reason == "rate-limit-unavailable" => tally.unleased += 1,
            Ok((status, reason)) => panic!("answered {status}, {reason:?}"),
            Err(_) => {
                tally.broken += 1;
                continue;
            }
        }
        connection = Some(open);
        thread::sleep(PAUSE);
    }
    tally
}

/// How many requests of a tenant have reached the application since this was last asked.
pub fn arrived(application: &Application, tenant: &str) -> u32 {
    let seen = application.take_seen();
    let own = seen.iter().filter(|seen| seen.header("x-tenant-id") == Some(tenant.as_bytes()));
    u32::try_from(own.count()).unwrap()
}

impl Fleet {
    /// A storm on a tenant's limit, counted where it matters: at the application.
    pub fn storm(
        &mut self,
        proxies: usize,
        tenant: &str,
        after: Duration,
        meanwhile: impl FnOnce(&mut Self),
    ) -> Tally {
        let whole = Deadline::after(Duration::MAX);
        let to = self.public(proxies);
        let tally = storm(&to, tenant, after, || meanwhile(self));
        let most = most(LIMIT, WINDOW, whole.elapsed());
        Tally { admitted: arrived(&self.application, tenant), most, ..tally }
    }
}
