//! The rules, on plain data.

use super::{Facts, size};

const MB: u64 = 1024 * 1024;
const GB: u64 = 1024 * MB;

/// A setting that should have another value.
pub(super) struct Wish {
    pub name: &'static str,
    pub value: String,
    pub reason: String,
}

pub(super) fn wanted(facts: &Facts) -> Vec<Wish> {
    let mut wishes = Wishes { facts, all: Vec::new() };
    wishes.memory();
    wishes.wal();
    wishes.disk();
    wishes.processors();
    wishes.sight();
    wishes.safety();
    wishes.all
}

struct Wishes<'f> {
    facts: &'f Facts,
    all: Vec<Wish>,
}

impl Wishes<'_> {
    fn now(&self, name: &str) -> Option<f64> {
        self.facts.settings.iter().find(|setting| setting.name == name).map(|setting| setting.value)
    }

    fn shown(&self, name: &str) -> &str {
        self.facts.settings.iter().find(|setting| setting.name == name).map_or("", |setting| &setting.shown)
    }

    fn wish(&mut self, name: &'static str, value: String, reason: String) {
        self.all.push(Wish { name, value, reason });
    }

    /// A size that should be about so many bytes: within a third it is left alone.
    #[expect(clippy::cast_precision_loss, reason = "bytes")]
    fn about(&mut self, name: &'static str, bytes: u64, reason: String) {
        let bytes = bytes / MB * MB;
        let Some(now) = self.now(name) else { return };
        if bytes > 0 && (now / bytes as f64).ln().abs() > 0.3 {
            self.wish(name, format!("{}MB", bytes / MB), reason);
        }
    }

    /// At least so many bytes.
    #[expect(clippy::cast_precision_loss, reason = "bytes")]
    fn at_least(&mut self, name: &'static str, bytes: u64, reason: String) {
        if self.now(name).is_some_and(|now| now < bytes as f64) {
            self.about(name, bytes, reason);
        }
    }

    fn memory(&mut self) {
        let memory = self.facts.memory;
        if memory == 0 {
            return;
        }
        // More than all data is of no use, and a quarter leaves the system its own cache.
        let room = (self.facts.bytes.saturating_mul(5) / 4).max(128 * MB);
        let buffers = (memory / 4).min(room).min(32 * GB);
        let hits = self.facts.hits * 100.0;
        self.about(
            "shared_buffers",
            buffers,
            format!("a quarter of {} of memory, no more than the data ({}) has use for; memory answers {hits:.1} % of the reads", size(memory), size(self.facts.bytes)),
        );
        self.about(
            "effective_cache_size",
            memory / 4 * 3,
            "what PostgreSQL and the system together may hold in memory: the planner then believes in indexes".into(),
        );
        self.about(
            "maintenance_work_mem",
            (memory / 16).clamp(64 * MB, 2 * GB),
            "index builds and vacuum sort in memory; few run at once".into(),
        );
        // A statement may use it for several sorts and hashes at once.
        let sessions = u64::from(self.facts.sessions.max(8));
        let work = ((memory - buffers.min(memory)) / 2 / (sessions * 3)).clamp(4 * MB, 256 * MB);
        let spilled = self.facts.spills > 0;
        let reason = if spilled {
            format!(
                "{} spilled to {} files; {sessions} sessions at once have room for so much",
                size(self.facts.spilled),
                self.facts.spills
            )
        } else {
            format!("{sessions} sessions at once have room for so much; nothing has spilled yet")
        };
        if spilled {
            self.at_least("work_mem", work, reason);
        } else if self.now("work_mem").is_some_and(|now| now / 1_048_576.0 > 4.0 * (work / MB) as f64) {
            self.about(
                "work_mem",
                work,
                format!("{reason}, and with all sessions sorting memory would run out"),
            );
        }
    }

    fn wal(&mut self) {
        let Facts { requested_checkpoints: requested, timed_checkpoints: timed, .. } = *self.facts;
        if requested > timed.max(3) {
            let now = self.now("max_wal_size").unwrap_or(0.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
            let twice = (now * 2.0) as u64;
            self.at_least(
                "max_wal_size",
                twice.clamp(2 * GB, 32 * GB),
                format!("{requested} checkpoints came early because WAL was full, {timed} were due"),
            );
        }
        if self.facts.version < 140_000
            && self.now("checkpoint_completion_target").is_some_and(|now| now < 0.8)
        {
            self.wish(
                "checkpoint_completion_target",
                "0.9".into(),
                "checkpoints are spread over their time".into(),
            );
        }
        if self.facts.version >= 150_000 && self.shown("wal_compression") == "off" && self.facts.cpus > 1 {
            self.wish(
                "wal_compression",
                "pglz".into(),
                "full pages after a checkpoint are most of WAL, and shrink to a fraction".into(),
            );
        }
    }

    fn disk(&mut self) {
        if !self.facts.solid {
            return;
        }
        if self.now("random_page_cost").is_some_and(|now| now > 1.5) {
            self.wish(
                "random_page_cost",
                "1.1".into(),
                "the disk has no heads to move; 4 makes the planner avoid indexes".into(),
            );
        }
        if self.facts.version < 180_000 && self.now("effective_io_concurrency").is_some_and(|now| now < 100.0)
        {
            self.wish(
                "effective_io_concurrency",
                "200".into(),
                "the disk answers many requests at once".into(),
            );
        }
    }

    fn processors(&mut self) {
        let cpus = self.facts.cpus;
        if cpus == 0 {
            return;
        }
        let small = self.facts.mean_ms.is_some_and(|mean| mean < 20.0);
        let reason = |what: &str| format!("{cpus} CPUs; {what}");
        if self.now("max_worker_processes").is_some_and(|now| now < f64::from(cpus)) {
            self.wish(
                "max_worker_processes",
                cpus.max(8).to_string(),
                reason("background workers need a process each"),
            );
        }
        if self.now("max_parallel_workers").is_some_and(|now| now > f64::from(cpus.max(1)) * 1.5) {
            self.wish("max_parallel_workers", cpus.to_string(), reason("more workers than CPUs only wait"));
        }
        if small && self.now("max_parallel_workers_per_gather").is_some_and(|now| now > f64::from(cpus) / 2.0)
        {
            self.wish(
                "max_parallel_workers_per_gather",
                (cpus / 2).to_string(),
                reason("statements are short, and a parallel one takes CPUs from others"),
            );
        }
        if small && self.shown("jit") == "on" {
            let mean = self.facts.mean_ms.unwrap_or_default();
            self.wish(
                "jit",
                "off".into(),
                format!("statements take {mean:.1} ms on average: compiling costs more than it saves"),
            );
        }
    }

    fn sight(&mut self) {
        if self.shown("track_io_timing") == "off" {
            self.wish(
                "track_io_timing",
                "on".into(),
                "tells reading from computing in plans and statistics".into(),
            );
        }
        if self.now("log_min_duration_statement").is_some_and(|now| now < 0.0) {
            self.wish(
                "log_min_duration_statement",
                "1000".into(),
                "statements over a second are logged".into(),
            );
        }
        if self.now("log_lock_waits").is_some() && self.shown("log_lock_waits") == "off" {
            self.wish(
                "log_lock_waits",
                "on".into(),
                "who waits for a lock for over a second is logged".into(),
            );
        }
    }

    /// What was switched off at the price of data, and what leaves the door open for a session that forgot its transaction.
    fn safety(&mut self) {
        for (name, loss) in [
            ("fsync", "a crash of the machine destroys the database"),
            ("full_page_writes", "a torn page destroys the table"),
            (
                "autovacuum",
                "tables grow, statistics age, and in the end the server stops to save its row numbers",
            ),
        ] {
            if self.shown(name) == "off" {
                self.wish(name, "on".into(), format!("off: {loss}"));
            }
        }
        if self.now("idle_in_transaction_session_timeout").is_some_and(|now| now <= 0.0) {
            self.wish(
                "idle_in_transaction_session_timeout",
                "10min".into(),
                "a session that forgot its transaction keeps vacuum and index builds waiting for ever".into(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Scope, Setting, Takes, advise};
    use super::*;

    fn facts(settings: &[(&str, &str, f64, &str)]) -> Facts {
        let setting = |(name, shown, value, context): &(&str, &str, f64, &str)| Setting {
            name: (*name).into(),
            shown: (*shown).into(),
            value: *value,
            context: (*context).into(),
            altered: *name == "work_mem",
        };
        Facts {
            version: 150_018,
            database: "shop".into(),
            memory: 16 * GB,
            cpus: 4,
            machine: "test".into(),
            solid: true,
            settings: settings.iter().map(setting).collect(),
            bytes: 100 * GB,
            sessions: 40,
            hits: 0.9,
            mean_ms: Some(3.0),
            ..Facts::default()
        }
    }

    const MIB: f64 = 1_048_576.0;

    #[test]
    fn a_fresh_server_gets_what_its_machine_has() {
        let mut facts = facts(&[
            ("shared_buffers", "128MB", 128.0 * MIB, "postmaster"),
            ("effective_cache_size", "4GB", 4096.0 * MIB, "user"),
            ("work_mem", "4MB", 4.0 * MIB, "user"),
            ("random_page_cost", "4", 4.0, "user"),
            ("jit", "on", 1.0, "user"),
            ("fsync", "off", 0.0, "sighup"),
        ]);
        facts.spills = 7;
        facts.spilled = 3 * GB;
        let advice = advise(&facts, Scope::Cluster);
        let of = |name: &str| advice.iter().find(|one| one.name == name).unwrap();
        assert_eq!(
            (of("shared_buffers").new.as_str(), of("shared_buffers").takes),
            ("4096MB", Takes::Restart)
        );
        assert_eq!(of("effective_cache_size").new, "12288MB");
        assert_eq!(of("work_mem").new, "51MB");
        assert_eq!(of("work_mem").undo, "ALTER SYSTEM SET work_mem = '4MB';", "what was set is set again");
        assert_eq!(of("random_page_cost").undo, "ALTER SYSTEM RESET random_page_cost;");
        assert_eq!((of("jit").new.as_str(), of("fsync").new.as_str()), ("off", "on"));
        assert_eq!(of("fsync").takes, Takes::Reload);
    }

    #[test]
    fn a_tenant_touches_nothing_that_is_the_servers() {
        let facts = facts(&[
            ("shared_buffers", "128MB", 128.0 * MIB, "postmaster"),
            ("fsync", "off", 0.0, "sighup"),
            ("random_page_cost", "4", 4.0, "user"),
        ]);
        let advice = advise(&facts, Scope::Database);
        let names: Vec<&str> = advice.iter().map(|one| one.set.as_str()).collect();
        assert_eq!(names, ["ALTER DATABASE shop SET random_page_cost = '1.1';"]);
    }

    #[test]
    fn what_is_well_is_left_alone() {
        let facts = facts(&[
            ("shared_buffers", "4GB", 4096.0 * MIB, "postmaster"),
            ("effective_cache_size", "11GB", 11264.0 * MIB, "user"),
            ("work_mem", "16MB", 16.0 * MIB, "user"),
            ("random_page_cost", "1.1", 1.1, "user"),
            ("jit", "off", 0.0, "user"),
            ("fsync", "on", 1.0, "sighup"),
        ]);
        assert_eq!(advise(&facts, Scope::Cluster), []);
    }

    #[test]
    fn a_small_database_or_machine_gives_no_nonsense() {
        for memory in [0, 1, 64 * MB, 1024 * GB] {
            for bytes in [0, 8 * MB, u64::MAX / 8] {
                let facts = Facts {
                    memory,
                    bytes,
                    sessions: 0,
                    cpus: 0,
                    ..facts(&[("shared_buffers", "128MB", 128.0 * MIB, "postmaster")])
                };
                for one in advise(&facts, Scope::Cluster) {
                    assert!(!one.new.starts_with("0") && memory >= 64 * MB, "{one:?}");
                }
            }
        }
    }
}
