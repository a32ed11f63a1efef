//! Whether a server may throw counts away: an evicted count is a full limit again.

use redis::aio::MultiplexedConnection;

use super::connection::RedisError;

/// What a server does when its memory is full. All our keys have an end, so that every policy but `noeviction` may take them.
pub struct Eviction {
    /// In bytes; 0 for none.
    maximum: u64,
    policy: String,
    /// How many it has evicted since it began.
    pub keys: u64,
}

impl Eviction {
    /// # Errors
    /// It may take counts.
    pub fn check(&self) -> Result<(), RedisError> {
        match self.maximum == 0 || self.policy == "noeviction" {
            true => Ok(()),
            false => Err(RedisError::Unsafe(format!(
                "its maxmemory-policy is {}; set noeviction, or give the limits a Redis of their own",
                self.policy
            ))),
        }
    }
}

/// Asks for it.
///
/// # Errors
/// The server does not answer.
pub async fn eviction(connection: &mut MultiplexedConnection) -> Result<Eviction, redis::RedisError> {
    let mut info = String::new();
    for section in ["memory", "stats"] {
        info += &redis::cmd("INFO").arg(section).query_async::<String>(connection).await?;
    }
    let field = |name: &str| {
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
        info.lines().find_map(value).unwrap_or_default()
    };
    Ok(Eviction {
        maximum: field("maxmemory").parse().unwrap_or(0),
        policy: field("maxmemory_policy"),
        keys: field("evicted_keys").parse().unwrap_or(0),
    })
}
