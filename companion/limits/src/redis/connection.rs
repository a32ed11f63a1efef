//! The connection: verified before its first use, dropped with its first failure.

use std::{
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};

use super::{
    Question, SCRIPT,
    eviction::{Eviction, eviction},
};
use crate::{
    engine::{LEVELS, Totals},
    journal::Clock,
    key::Name,
    quota::Quota,
    step::{Grant, Spent},
    wire::Checked,
};

/// The longest wait for an answer.
const ANSWER: Duration = Duration::from_millis(250);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_millis(500);
/// After a failure nobody waits again for so long.
const REST_NS: u64 = 200_000_000;
/// How far Redis's clock may be ahead of what ours says: longer is a step.
const STEP_US: u64 = 50_000;
/// Where the marker stands.
const MARKER: &str = "pcl:marker";
/// Replaces the marker unless another companion was faster.
const MARK: &str = "if (redis.call('GET', KEYS[1]) or '') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end \
                    return redis.call('GET', KEYS[1])";

/// Why nothing was counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// The address.
    #[error("REDIS_URL: {0}; write redis://HOST:PORT, redis://:PASSWORD@HOST:PORT or redis+unix:///PATH")]
    Url(String),
    /// It does not answer.
    #[error("Redis does not answer: {0}")]
    Away(String),
    /// It answers something else.
    #[error("Redis answered what was not asked for: {0}")]
    Answer(String),
    /// It may drop counts while they are in use.
    #[error("Redis may evict counts, and each would be a full limit again: {0}")]
    Unsafe(String),
    /// What was seen of it could not be kept.
    #[error("the generation of Redis cannot be remembered: {0}")]
    Memory(String),
}

impl From<redis::RedisError> for RedisError {
    fn from(error: redis::RedisError) -> Self {
        Self::Away(error.to_string())
    }
}

/// An answer of [`Memory`], later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// What outlives this process: the generation that was last seen in Redis. When it does not answer, nothing is granted.
pub trait Memory: Send + Sync {
    /// It, if there was any.
    fn recall(&self) -> Later<'_, Option<String>>;
    /// Keeps it.
    fn remember(&self, generation: String) -> Later<'_, ()>;
}

/// What is known of the server.
#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// When the state was lost, by Redis's clock.
    lost_us: u64,
    /// A moment by Redis's clock, and by ours.
    moment: Option<(u64, u64)>,
    /// The server's process, and how many keys it had evicted.
    evicted: Option<(String, u64)>,
    rest_until_ns: u64,
    cause: Option<RedisError>,
}

/// Limits that are counted in Redis.
pub struct Redis {
    client: Client,
    script: Script,
    memory: Box<dyn Memory>,
    clock: Clock,
    state: Mutex<State>,
    /// One task at a time connects.
    connecting: tokio::sync::Mutex<()>,
    granted: AtomicU64,
    spent: AtomicU64,
    returned: AtomicU64,
    expired: AtomicU64,
    direct: AtomicU64,
}

impl Redis {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`RedisError::Url`].
    pub fn new(url: &str, memory: Box<dyn Memory>, clock: Clock) -> Result<Self, RedisError> {
        // The URL itself is never repeated: it may hold a password.
        let client = Client::open(url).map_err(|_| RedisError::Url("not an address of Redis".to_owned()))?;
        Ok(Self {
            client,
            script: Script::new(SCRIPT),
            memory,
            clock,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            granted: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            direct: AtomicU64::new(0),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the asks of one process, in order. What failed may have been debited, and was granted to nobody.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn lease(&self, asks: &[Checked<'_>]) -> Result<Vec<Grant>, RedisError> {
        let mut grants = vec![Grant::default(); asks.len()];
        let mut left: Vec<usize> = (0..asks.len()).collect();
        // One call a tenant; asks of a module mostly are of few.
        while let Some(tenant) = left.first().and_then(|at| asks.get(*at)).map(|asked| asked.name.tenant) {
            let of = |at: &usize| asks.get(*at).is_some_and(|asked| asked.name.tenant == tenant);
            let (these, others): (Vec<usize>, Vec<usize>) = left.iter().partition(|at| of(at));
            left = others;
            let mut question = Question::new("ask", tenant);
            these.iter().filter_map(|at| asks.get(*at)).for_each(|asked| question.ask(asked));
            let answer = self.call(&question).await?;
            for (at, row) in these.into_iter().zip(answer.chunks_exact(4)) {
                let (Some(place), Some(asked)) = (grants.get_mut(at), asks.get(at)) else { continue };
                *place = grant(row, &asked.quota)
                    .ok_or_else(|| RedisError::Answer(format!("{} numbers", row.len())))?;
                self.granted.fetch_add(u64::from(place.granted), Ordering::Relaxed);
            }
        }
        Ok(grants)
    }

    /// Spends on all levels, or on none. All must be of one tenant.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn spend(&self, levels: &[(Name<'_>, Quota, u32)]) -> Result<(bool, Vec<Spent>), RedisError> {
        let Some((first, ..)) = levels.first().filter(|_| levels.len() <= LEVELS) else {
            return Ok((true, Vec::new()));
        };
        let mut question = Question::new("spend", first.tenant);
        for (name, quota, hits) in levels {
            question.level(name, quota);
            question.arguments.push(hits.to_string());
        }
        let answer = self.call(&question).await?;
        let said: Vec<Spent> = answer
            .chunks_exact(3)
            .filter_map(|row| match *row {
                [room, remaining, wait_us] => Some(Spent {
                    allowed: room == 1,
                    remaining,
                    retry_after_ns: wait_us.saturating_mul(1000),
                }),
                _ => None,
            })
            .collect();
        if said.len() != levels.len() {
            return Err(RedisError::Answer(format!("{} levels of {}", said.len(), levels.len())));
        }
        let allowed = said.iter().all(|spent| spent.allowed);
        if allowed {
            let hits = levels.iter().map(|(.., hits)| u64::from(*hits)).sum();
            self.direct.fetch_add(hits, Ordering::Relaxed);
        }
        Ok((allowed, said))
    }

    /// What happened to tokens that this companion handled.
    pub fn totals(&self) -> Totals {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            granted: of(&self.granted),
            spent: of(&self.spent),
            returned: of(&self.returned),
            expired: of(&self.expired),
            direct: of(&self.direct),
            ..Totals::default()
        }
    }

    /// Whether Redis has lost state that was in use.
    pub fn has_lost(&self) -> bool {
        self.state().lost_us > 0
    }

    /// Whether Redis answers now and keeps what it is given, and why not.
    ///
    /// # Errors
    /// [`RedisError::Away`], [`RedisError::Unsafe`].
    pub async fn probe(&self) -> Result<(), RedisError> {
        let mut connection = self.connection().await?;
        let memory = eviction(&mut connection).await.map_err(|error| self.failed(&error))?;
        memory.check().map_err(|error| self.rest(error))
    }

    async fn call(&self, question: &Question) -> Result<Vec<u64>, RedisError> {
        let mut connection = self.connection().await?;
        let mut new = false;
        loop {
            let (status, numbers) =
                self.run(&mut connection, question, new).await.map_err(|error| self.failed(&error))?;
            if let Some(now_us) = numbers.first() {
                self.observe(*now_us);
            }
            if status == "OK" {
                let counts = [&self.spent, &self.returned, &self.expired];
                for (counter, count) in counts.into_iter().zip(numbers.iter().skip(1)) {
                    counter.fetch_add(*count, Ordering::Relaxed);
                }
                return Ok(numbers.into_iter().skip(4).collect());
            }
            if new {
                return Err(RedisError::Answer(status));
            }
            // A tenant without a marker is new, or was lost with everything else.
            self.verify(&mut connection).await?;
            new = true;
        }
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        question: &Question,
        new: bool,
    ) -> Result<(String, Vec<u64>), redis::RedisError> {
        let (latest, lost_us) = {
            let state = self.state();
            (state.moment.map_or(0, |moment| self.latest(moment)), state.lost_us)
        };
        let mut call = self.script.prepare_invoke();
        question.keys.iter().for_each(|key| {
            call.key(key);
        });
        call.arg(question.mode).arg(latest).arg(u8::from(new)).arg(lost_us).arg(question.life_ms);
        question.arguments.iter().for_each(|argument| {
            call.arg(argument);
        });
        let mut values: Vec<redis::Value> = call.invoke_async(connection).await?;
        let status = if values.is_empty() { redis::Value::Nil } else { values.remove(0) };
        let numbers = values.into_iter().map(redis::from_redis_value::<u64>).collect::<Result<_, _>>()?;
        Ok((redis::from_redis_value(status)?, numbers))
    }

    /// The latest that it can be by Redis's clock, given a moment by both.
    fn latest(&self, (redis_us, ours_ns): (u64, u64)) -> u64 {
        let passed_us = (self.clock)().saturating_sub(ours_ns) / 1000;
        redis_us.saturating_add(passed_us).saturating_add(passed_us / 1000).saturating_add(STEP_US)
    }

    /// Follows Redis's clock as long as it does not step.
    fn observe(&self, redis_us: u64) {
        let ours_ns = (self.clock)();
        let mut state = self.state();
        let steps = state.moment.is_some_and(|moment| redis_us >= self.latest(moment));
        if !steps {
            // A clock that went back is followed at once when it comes forward again: the later moment stays.
            let earlier = state.moment.is_some_and(|(known, at)| {
                redis_us < known.saturating_add(ours_ns.saturating_sub(at) / 1000).saturating_sub(STEP_US)
            });
            if !earlier {
                state.moment = Some((redis_us, ours_ns));
            }
        }
    }

    fn failed(&self, error: &redis::RedisError) -> RedisError {
        self.rest(RedisError::Away(error.to_string()))
    }

    /// Lets go of the connection; until another one is tried, this is the answer.
    fn rest(&self, cause: RedisError) -> RedisError {
        let mut state = self.state();
        state.connection = None;
        state.rest_until_ns = (self.clock)().saturating_add(REST_NS);
        state.cause = Some(cause.clone());
        cause
    }

    /// A connection that has been verified; at once, or the cause of the last failure while it rests.
    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let known = || {
            let state = self.state();
            match &state.connection {
                Some(connection) => Ok(Some(connection.clone())),
                None if (self.clock)() < state.rest_until_ns => match &state.cause {
                    Some(cause) => Err(cause.clone()),
                    None => Ok(None),
                },
                None => Ok(None),
            }
        };
        if let Some(connection) = known()? {
            return Ok(connection);
        }
        let _turn = self.connecting.lock().await;
        if let Some(connection) = known()? {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let opened =
            tokio::time::timeout(CONNECT, self.client.get_multiplexed_async_connection_with_config(&config));
        let mut connection = match opened.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.failed(&error)),
            Err(_) => {
                let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in 500 ms");
                return Err(self.failed(&late.into()));
            }
        };
        self.verify(&mut connection).await?;
        self.state().connection = Some(connection.clone());
        Ok(connection)
    }

    /// Finds out whether Redis still has what it had, before anything is granted.
    async fn verify(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let seen = self.inspect(connection).await.map_err(|error| self.failed(&error))?;
        seen.eviction.check().map_err(|error| self.rest(error))?;
        let evicted = {
            let now = (seen.run.clone(), seen.eviction.keys);
            let before = self.state().evicted.replace(now);
            before.is_some_and(|(run, keys)| run == seen.run && keys < seen.eviction.keys)
        };
        let known = self.memory.recall().await.map_err(RedisError::Memory)?;
        let (generation, run, lost_us) = parts(&seen.marker);
        let lost = match &known {
            // Gone, although it was in use.
            Some(_) if seen.marker.is_empty() => true,
            // Gone, and begun anew by a companion that did not know.
            Some(known) if known != generation && lost_us == 0 => true,
            // It evicted keys while it was let to: ours may be among them.
            Some(_) if evicted => true,
            // Another process than the one that wrote, and it may have lost what it confirmed.
            _ => !seen.marker.is_empty() && run != seen.run && !seen.durable,
        };
        let fresh = format!("{:032x}", fold(&seen.run, seen.now_us));
        let wanted = match (seen.marker.is_empty(), lost) {
            (true, true) => format!("{fresh}:{}:{}", seen.run, seen.now_us),
            (true, false) => format!("{fresh}:{}:0", seen.run),
            (false, true) => format!("{generation}:{}:{}", seen.run, seen.now_us),
            (false, false) => format!("{generation}:{}:{lost_us}", seen.run),
        };
        let mut marker = seen.marker.clone();
        if marker != wanted {
            let stands: Result<String, _> =
                Script::new(MARK).key(MARKER).arg(&seen.marker).arg(&wanted).invoke_async(connection).await;
            marker = stands.map_err(|error| self.failed(&error))?;
        }
        let (generation, _, lost_us) = parts(&marker);
        if known.as_deref() != Some(generation) {
            self.memory.remember(generation.to_owned()).await.map_err(RedisError::Memory)?;
        }
        let mut state = self.state();
        state.lost_us = lost_us;
        if state.moment.is_none() {
            state.moment = Some((seen.now_us, (self.clock)()));
        }
        Ok(())
    }

    async fn inspect(&self, connection: &mut MultiplexedConnection) -> Result<Seen, redis::RedisError> {
        let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
        let run =
            info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().to_owned();
        let eviction = eviction(connection).await?;
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
        let marker: Option<String> = redis::cmd("GET").arg(MARKER).query_async(connection).await?;
        // Where CONFIG is forbidden, the worse is assumed.
        let setting = async |connection: &mut MultiplexedConnection, name: &str| {
            let pair: Result<Vec<String>, _> =
                redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await;
            pair.ok().and_then(|pair| pair.get(1).cloned()).unwrap_or_default()
        };
        let durable = setting(connection, "appendonly").await == "yes"
            && setting(connection, "appendfsync").await == "always";
        let now_us = seconds.saturating_mul(1_000_000).saturating_add(micros);
        Ok(Seen { run, now_us, marker: marker.unwrap_or_default(), durable, eviction })
    }
}

/// What a new connection shows.
struct Seen {
    run: String,
    now_us: u64,
    marker: String,
    durable: bool,
    eviction: Eviction,
}

/// Generation, process and time of loss.
fn parts(marker: &str) -> (&str, &str, u64) {
    let mut parts = marker.splitn(3, ':');
    let (generation, run) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    (generation, run, parts.next().and_then(|at| at.parse().ok()).unwrap_or(0))
}

/// A generation must differ from every other; the server's own random name of its process and the time do that.
fn fold(run: &str, now_us: u64) -> u128 {
    run.bytes().fold(u128::from(now_us), |sum, byte| {
        sum.wrapping_mul(0x100_0000_01b3).wrapping_add(u128::from(byte))
    })
}

fn grant(row: &[u64], quota: &Quota) -> Option<Grant> {
    let [keep, granted, remaining, wait_us] = *row else { return None };
    Some(Grant {
        keep: u32::try_from(keep).ok()?,
        granted: u32::try_from(granted).ok()?,
        expires_ms: quota.lease_ms(),
        retry_after_ns: wait_us.saturating_mul(1000),
        remaining,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Nothing;

    impl Memory for Nothing {
        fn recall(&self) -> Later<'_, Option<String>> {
            Box::pin(async { Ok(None) })
        }

        fn remember(&self, _: String) -> Later<'_, ()> {
            Box::pin(async { Ok(()) })
        }
    }

    #[test]
    fn a_step_forward_is_not_followed_and_a_step_back_only_waits() {
        let time = Arc::new(AtomicU64::new(0));
        let ours = Arc::clone(&time);
        let clock: Clock = Arc::new(move || ours.load(Ordering::SeqCst));
        let redis = Redis::new("redis://127.0.0.1:1", Box::new(Nothing), clock).unwrap();
        const HOUR_US: u64 = 3_600_000_000;
        let start = 1_000 * HOUR_US;
        let latest = || redis.latest(redis.state().moment.unwrap());
        let passes = |us: u64| time.fetch_add(us * 1000, Ordering::SeqCst);
        redis.observe(start);
        assert_eq!(latest(), start + STEP_US);
        passes(1_000_000);
        redis.observe(start + 1_000_900);
        // An hour ahead in a second: time goes on as ours does.
        redis.observe(start + HOUR_US);
        passes(1_000_000);
        assert!(latest() < start + 2_000_900 + 2 * STEP_US, "{}", latest());
        // An hour back: the server's own time is the earlier one, and rules; when it is right again it is followed.
        redis.observe(start - HOUR_US);
        passes(1_000_000);
        redis.observe(start + 3_000_000);
        assert!(latest() >= start + 3_000_000 && latest() < start + 3_000_000 + 2 * STEP_US);
    }

    #[test]
    fn an_address_that_is_none_is_told_without_its_password() {
        let clock: Clock = Arc::new(|| 0);
        let error = Redis::new("http://:hunter2@host", Box::new(Nothing), clock).err().unwrap().to_string();
        assert!(error.starts_with("REDIS_URL: ") && error.contains("write redis://"), "{error}");
        assert!(!error.contains("hunter2"));
    }
}
