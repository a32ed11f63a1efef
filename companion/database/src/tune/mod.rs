//! PostgreSQL's settings: which should be others, why, and what it takes.
//!
//! [`facts`] reads the machine, the server and what it has counted; [`rules`] is pure and knows the rules. Nothing is changed: the advice is SQL, with
//! the old value to return to. A cgroup's limits count, not the machine's. Settings that are cluster-wide touch every tenant of the server;
//! for one tenant there is [`Scope::Database`], which takes only what a session may set.
//!
//! What it does not know: what else runs on the machine, and how fast the disk is. It asks for neither more than memory has nor for durability to
//! be given up: `fsync`, `full_page_writes` and `synchronous_commit` are never touched, other than to be switched on.
//!
//! Sources: the PostgreSQL manual, chapters 20 and 30.5; `src/backend/utils/misc/guc_tables.c`.

mod facts;
mod rules;

use std::fmt::Write;

use serde::Serialize;

pub use facts::{facts, size};

use crate::catalog::quoted;

/// What advice rests on.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// `server_version_num`.
    pub version: u32,
    /// The database.
    pub database: String,
    /// Bytes of memory that the server may use.
    pub memory: u64,
    /// CPUs that it may use.
    pub cpus: u32,
    /// Where memory and CPUs are known from.
    pub machine: String,
    /// The disk has no heads to move.
    pub solid: bool,
    /// Settings by name.
    pub settings: Vec<Setting>,
    /// Bytes of all databases.
    pub bytes: u64,
    /// Most client sessions seen at once while it was looked, and at least those there are.
    pub sessions: u32,
    /// Since the statistics were reset: seconds,
    pub seconds: f64,
    /// bytes that sorts and hashes spilled,
    pub spilled: u64,
    /// files that they spilled into,
    pub spills: u64,
    /// checkpoints that were due,
    pub timed_checkpoints: u64,
    /// and those that came early because WAL was full.
    pub requested_checkpoints: u64,
    /// Share of block reads that memory answered.
    pub hits: f64,
    /// Mean milliseconds of a statement, where statements are counted.
    pub mean_ms: Option<f64>,
}

/// A setting as the server has it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, as `SHOW` writes it.
    pub shown: String,
    /// Its value in the base unit: bytes, or as it is.
    pub value: f64,
    /// `postmaster`, `sighup`, `user`, ...
    pub context: String,
    /// Set with ALTER SYSTEM already.
    pub altered: bool,
}

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole server: `ALTER SYSTEM`.
    Cluster,
    /// One database: `ALTER DATABASE ... SET`.
    Database,
}

/// A setting that should be another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Its name.
    pub name: String,
    /// Its value now.
    pub old: String,
    /// Its value then.
    pub new: String,
    /// Why.
    pub reason: String,
    /// What it takes.
    pub takes: Takes,
    /// The statement.
    pub set: String,
    /// The statement that takes it back.
    pub undo: String,
}

/// When a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// New sessions have it.
    Session,
    /// `SELECT pg_reload_conf()`.
    Reload,
    /// The server must be started anew.
    Restart,
}

/// What should be another.
#[must_use]
pub fn advise(facts: &Facts, scope: Scope) -> Vec<Advice> {
    let wanted = rules::wanted(facts);
    let mut all = Vec::new();
    for rules::Wish { name, value, reason } in wanted {
        let Some(setting) = facts.settings.iter().find(|setting| setting.name == name) else { continue };
        let takes = match setting.context.as_str() {
            "postmaster" => Takes::Restart,
            "sighup" => Takes::Reload,
            _ => Takes::Session,
        };
        let mine = matches!(setting.context.as_str(), "user" | "superuser");
        if scope == Scope::Database && !mine {
            continue;
        }
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let (set, undo) = match scope {
            Scope::Cluster => (
                format!("ALTER SYSTEM SET {name} = {};", literal(&value)),
                if setting.altered {
                    format!("ALTER SYSTEM SET {name} = {};", literal(&setting.shown))
                } else {
                    format!("ALTER SYSTEM RESET {name};")
                },
            ),
            Scope::Database => {
                let database = quoted(&facts.database);
                (
                    format!("ALTER DATABASE {database} SET {name} = {};", literal(&value)),
                    format!("ALTER DATABASE {database} RESET {name};"),
                )
            }
        };
        // What a session may set is read again on a reload where it is the server's.
        let takes = if scope == Scope::Cluster && takes == Takes::Session { Takes::Reload } else { takes };
        all.push(Advice {
            name: name.to_owned(),
            old: setting.shown.clone(),
            new: value,
            reason,
            takes,
            set,
            undo,
        });
    }
    all
}

/// The advice as SQL.
#[must_use]
pub fn sql(facts: &Facts, advice: &[Advice]) -> String {
    let mut text = format!(
        "-- Settings for {} ({}): {} CPUs, {} of memory. Nothing was changed.\n",
        facts.database,
        facts.machine,
        facts.cpus,
        size(facts.memory)
    );
    for one in advice {
        let takes = match one.takes {
            Takes::Session => "new sessions have it",
            Takes::Reload => "reload",
            Takes::Restart => "restart",
        };
        let _ = writeln!(text, "\n-- {} now, {takes}: {}\n{}", one.old, one.reason, one.set);
    }
    if advice.iter().any(|one| one.takes == Takes::Reload) {
        text.push_str("\nSELECT pg_reload_conf();\n");
    }
    if advice.is_empty() {
        text.push_str("-- All settings are as they should be.\n");
    } else {
        text.push_str("\n-- To return to what was:\n");
        for one in advice {
            let _ = writeln!(text, "--   {}", one.undo);
        }
    }
    text
}
