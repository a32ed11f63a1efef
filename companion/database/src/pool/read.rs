//! Reads through the cache.
//!
//! A read names the context that it runs in, and asks for no connection: it takes one only if its answer is not there.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::Value;
use tokio_postgres::Row;

use super::sqlite::{SqliteError, Worker};
use super::target::{self, Target};
use super::{Entry, Lease, PoolError, Pools, QueryError, Stopwatch, statement};
use crate::cache::effect::Target as Changed;
use crate::cache::key::{Context, Digester, Key, Values};
use crate::cache::{Figures, Refusal, Rows, plan, sqlite, words};

/// A statement of PostgreSQL that only reads.
#[derive(Clone, Copy)]
pub struct Read<'a> {
    /// In what it runs.
    pub context: &'a Context,
    /// Its text.
    pub sql: &'a str,
    /// Its parameters and their types.
    pub values: Values<'a>,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// No connection.
    #[error(transparent)]
    Pool(#[from] Arc<PoolError>),
    /// It did not run.
    #[error(transparent)]
    Query(#[from] Arc<QueryError>),
    /// A parameter cannot be sent as what it is said to be.
    #[error("a parameter cannot be sent as its type: {0}")]
    Value(String),
}

impl From<PoolError> for ReadError {
    fn from(error: PoolError) -> Self {
        Self::Pool(Arc::new(error))
    }
}

impl From<QueryError> for ReadError {
    fn from(error: QueryError) -> Self {
        Self::Query(Arc::new(error))
    }
}

impl From<SqliteError> for ReadError {
    fn from(error: SqliteError) -> Self {
        QueryError::from(error).into()
    }
}

impl Pools {
    /// Answers a statement of PostgreSQL, from what is kept if that is as good as asking again.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(
        &self,
        tenant: &str,
        read: Read<'_>,
        correlation_id: Option<&str>,
    ) -> Result<Arc<Vec<Row>>, ReadError> {
        let entry = self.entry(tenant).ok_or(PoolError::NoDatabase)?;
        let ask = Box::pin(async {
            let lease = self.lend(tenant, correlation_id).await?;
            Ok::<_, ReadError>(Arc::new(lease.read(read.context, read.sql, read.values).await?))
        });
        let cache = &self.0.cache;
        if !cache.is_on() {
            return ask.await;
        }
        let key = match Box::pin(self.key(&entry, read, correlation_id)).await? {
            Ok(key) => key,
            Err(why) => {
                cache.refuse(why);
                return ask.await;
            }
        };
        match cache.answer(key, async { ask.await.map(Rows::Postgres) }).await? {
            Rows::Postgres(rows) => Ok(rows),
            Rows::Sqlite(_) => Err(QueryError::OtherKind.into()),
        }
    }

    /// What an answer is kept under now.
    async fn key(
        &self,
        entry: &Entry,
        read: Read<'_>,
        correlation_id: Option<&str>,
    ) -> Result<Result<Key, Refusal>, ReadError> {
        // Before the catalog is looked at: who changes it meanwhile makes this number another.
        let Some(everything) = entry.ledger.everything() else { return Ok(Err(Refusal::Changing)) };
        let of_plan = Digester::new("plan")
            .number(entry.ledger.id())
            .number(everything)
            .bytes(read.sql.as_bytes())
            .finish();
        let look = async {
            let lease = self.lend(&entry.tenant, correlation_id).await?;
            let client = lease.observer().ok_or(QueryError::OtherKind)?;
            plan::plan(client, read.sql).await.map_err(|error| match error {
                crate::Error::Database(error) => QueryError::Postgres(error).into(),
                other => ReadError::Value(other.to_string()),
            })
        };
        let plan = self.0.cache.plan(of_plan, look).await?;
        let plan = match plan.as_ref() {
            Ok(plan) => plan,
            Err(why) => return Ok(Err(*why)),
        };
        let Some(stamp) = entry.ledger.stamp(&plan.tables, everything) else {
            return Ok(Err(Refusal::Changing));
        };
        let digester = Digester::new("postgres").number(entry.number).number(everything).number(stamp);
        let digester = digester.context(read.context).bytes(read.sql.as_bytes());
        let (digester, moves) =
            digester.values(read.values).map_err(|error| ReadError::Value(error.to_string()))?;
        Ok(if moves { Err(Refusal::Time) } else { Ok(digester.finish()) })
    }

    /// Answers a statement of SQLite, from what is kept if that is as good as asking again.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_file(
        &self,
        tenant: &str,
        sql: &str,
        values: &[Value],
        correlation_id: Option<&str>,
    ) -> Result<Arc<Vec<Vec<Value>>>, ReadError> {
        let entry = self.entry(tenant).ok_or(PoolError::NoDatabase)?;
        let Target::Sqlite(path) = &entry.target else { return Err(QueryError::OtherKind.into()) };
        let path = target::file(&path.to_string_lossy(), &self.0.rules)
            .map_err(|error| PoolError::Connect(error.into()))?;
        let pair = entry.file.pair(path).await?;
        let ask = Box::pin(async {
            let (text, values) = (sql.to_owned(), values.to_vec());
            let started = Stopwatch::start();
            let rows = pair.reader.run(move |connection| sqlite::rows(connection, &text, &values)).await;
            let count = rows.as_ref().ok().and_then(|rows| u64::try_from(rows.len()).ok());
            let whose = (&*entry, correlation_id);
            self.timed(whose, started, count, || statement::sqlite(sql), || "sqlite:cache".to_owned());
            Ok::<_, ReadError>(Arc::new(rows?))
        });
        let cache = &self.0.cache;
        if !cache.is_on() {
            return ask.await;
        }
        let version = pair.watch.run(sqlite::version).await?;
        let of_file = |purpose| {
            Digester::new(purpose)
                .number(entry.number)
                .number(pair.epoch)
                .number(version)
                .bytes(sql.as_bytes())
        };
        let look = async {
            let text = sql.to_owned();
            let refusal = pair.reader.run(move |connection| sqlite::refusal(connection, &text)).await?;
            Ok::<_, ReadError>(refusal.map_or_else(|| Ok(plan::Plan { tables: Vec::new() }), Err))
        };
        let plan = cache.plan(of_file("file plan").finish(), look).await?;
        let moves = values.iter().any(|value| matches!(value, Value::Text(text) if words::moves(text)));
        if let Some(why) = plan.as_ref().as_ref().err().copied().or(moves.then_some(Refusal::Time)) {
            cache.refuse(why);
            return ask.await;
        }
        let counted = of_file("file").number(u64::try_from(values.len()).unwrap_or(u64::MAX));
        let key = values.iter().fold(counted, |digester, value| match value {
            Value::Null => digester.number(0),
            Value::Integer(number) => digester.number(1).bytes(&number.to_be_bytes()),
            Value::Real(number) => digester.number(2).bytes(&number.to_bits().to_be_bytes()),
            Value::Text(text) => digester.number(3).bytes(text.as_bytes()),
            Value::Blob(bytes) => digester.number(4).bytes(bytes),
        });
        match cache.answer(key.finish(), async { ask.await.map(Rows::Sqlite) }).await? {
            Rows::Sqlite(rows) => Ok(rows),
            Rows::Postgres(_) => Err(QueryError::OtherKind.into()),
        }
    }

    /// Forgets what depends on these tables of a tenant's database, of all tenants that have it; without names, on any. For changes by
    /// others. Tells whether the tenant has a database.
    pub fn invalidate(&self, tenant: &str, tables: &[&str]) -> bool {
        let Some(entry) = self.entry(tenant) else { return false };
        match tables {
            [] => entry.ledger.changed(&Changed::Everything),
            tables => {
                tables.iter().for_each(|name| entry.ledger.changed(&Changed::Table((*name).to_owned())))
            }
        }
        entry.file.forget();
        true
    }

    /// Lends a connection that hears what others tell of their changes ([`crate::cache::TRIGGER`]), as long as it is held. When it
    /// [ends](Lease::is_closed), what depends on the database is forgotten; then ask for another one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn listen(&self, tenant: &str) -> Result<Lease, ReadError> {
        let lease = self.lend(tenant, None).await?;
        lease.listen().await?;
        Ok(lease)
    }

    /// The cache's figures.
    #[must_use]
    pub fn cached(&self) -> Figures {
        self.0.cache.figures()
    }
}

/// The connections to a file that are the cache's own.
pub(super) struct Pair {
    epoch: u64,
    watch: Worker,
    reader: Worker,
}

/// They are opened when somebody reads, and end after a minute in which nobody has.
#[derive(Default)]
pub(super) struct File(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    pair: Option<Arc<Pair>>,
    rests: u32,
}

/// Rests, about a second each, until unused connections end.
const LIFE: u32 = 60;

impl File {
    async fn pair(&self, path: std::path::PathBuf) -> Result<Arc<Pair>, SqliteError> {
        if let Some(pair) = self.open() {
            return Ok(pair);
        }
        let (watch, reader) = (Worker::open(path.clone()).await?, Worker::open(path).await?);
        for worker in [&watch, &reader] {
            worker.run(sqlite::only_reads).await?;
        }
        let pair = Arc::new(Pair { epoch: sqlite::epoch(), watch, reader });
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Two may have come at once; the first stays.
        Ok(Arc::clone(idle.pair.get_or_insert(pair)))
    }

    fn open(&self) -> Option<Arc<Pair>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.rests = 0;
        idle.pair.clone()
    }

    /// Ends them if nobody has used them for long.
    pub fn rest(&self) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.rests = idle.rests.saturating_add(1);
        if idle.rests > LIFE {
            idle.pair = None;
        }
    }

    /// Others take their place: nothing that was kept is found.
    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pair = None;
    }
}
