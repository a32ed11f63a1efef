//! Indexes that exist for this session alone: hypopg.

use std::collections::HashMap;
use std::fmt::Write;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::descent::{self, Loops};
use super::{Outcome, Planned, cost_of, explain, inverted};
use crate::Error;
use crate::candidate::{Candidate, Method};
use crate::catalog::{Catalog, Costs};
use crate::sql::Access;

pub(super) struct Session<'c> {
    client: &'c Client,
    version: u32,
    costs: Costs,
    /// Candidates that exist now, with their numbers at the server.
    live: HashMap<usize, u32>,
}

impl<'c> Session<'c> {
    pub fn new(client: &'c Client, catalog: &Catalog) -> Self {
        Self { client, version: catalog.version, costs: catalog.costs, live: HashMap::new() }
    }

    /// Tries each candidate, in batches that are halved where one is refused.
    pub async fn admissible(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, Error> {
        self.reset().await?;
        let mut good = Vec::new();
        let mut batches = vec![candidates];
        while let Some(batch) = batches.pop() {
            let mut statement = String::new();
            for candidate in &batch {
                let _ = write!(statement, "{};", create(candidate));
            }
            statement.push_str("SELECT hypopg_reset()");
            match self.client.simple_query(&statement).await {
                Ok(_) => good.extend(batch),
                Err(error) if error.is_closed() => return Err(error.into()),
                Err(error) if batch.len() <= 1 => {
                    for candidate in &batch {
                        tracing::debug!(index = candidate.definition(), %error, "the server would not build it");
                    }
                    self.reset().await?;
                }
                Err(_) => {
                    self.reset().await?;
                    let mut first = batch;
                    let second = first.split_off(first.len() / 2);
                    batches.extend([first, second]);
                }
            }
        }
        Ok(good)
    }

    pub async fn reset(&mut self) -> Result<(), Error> {
        self.live.clear();
        self.client.simple_query("SELECT hypopg_reset()").await?;
        Ok(())
    }

    pub async fn cost(
        &mut self,
        planned: &Planned,
        candidates: &[Candidate],
        sizes: &[f64],
        set: &[usize],
    ) -> Result<Outcome, Error> {
        match self.ask(planned, candidates, set).await {
            Ok(lines) => self.read(&lines, &planned.analysis.accesses, candidates, sizes, set),
            Err(error) => {
                // What was built before the error is not known.
                if !self.client.is_closed() {
                    let clean =
                        format!("{}DEALLOCATE ALL", if self.client.is_closed() { "" } else { "ROLLBACK;" });
                    drop(self.client.simple_query(&clean).await);
                    self.reset().await?;
                }
                Err(error)
            }
        }
    }

    async fn ask(
        &mut self,
        planned: &Planned,
        candidates: &[Candidate],
        set: &[usize],
    ) -> Result<Vec<String>, Error> {
        let mut statement = String::new();
        // Indexes on other tables change nothing for this statement, and may stay.
        let on_its_tables = |index: &usize| {
            let table = candidates.get(*index).map(|candidate| candidate.table.oid);
            planned.analysis.accesses.iter().any(|access| Some(access.table.oid) == table)
        };
        let live = self.live.keys().copied();
        let gone: Vec<usize> =
            live.filter(|index| set.binary_search(index).is_err() && on_its_tables(index)).collect();
        for index in &gone {
            if let Some(number) = self.live.remove(index) {
                let _ = write!(statement, "SELECT hypopg_drop_index({number});");
            }
        }
        let known = |index: &usize| candidates.get(*index).is_some_and(|one| one.method != Method::Gin);
        let fresh: Vec<usize> =
            set.iter().copied().filter(known).filter(|index| !self.live.contains_key(index)).collect();
        for candidate in fresh.iter().filter_map(|index| candidates.get(*index)) {
            let _ = write!(statement, "{};", create(candidate));
        }
        statement.push_str(&explain(&planned.query, self.version, "FORMAT TEXT"));
        let messages = self.client.simple_query(&statement).await?;
        let mut rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let mut rows = rows.by_ref().skip(gone.len());
        for index in &fresh {
            let number = rows.next().and_then(|text| text.parse().ok()).ok_or(Error::Unexpected("hypopg"))?;
            self.live.insert(*index, number);
        }
        Ok(rows.map(str::to_owned).collect())
    }

    /// What a plan costs, and which of the indexes it uses.
    fn read(
        &self,
        lines: &[String],
        accesses: &[Access],
        candidates: &[Candidate],
        sizes: &[f64],
        set: &[usize],
    ) -> Result<Outcome, Error> {
        let by_number: HashMap<u32, usize> =
            set.iter().filter_map(|index| Some((*self.live.get(index)?, *index))).collect();
        let mut cost = None;
        let mut used = Vec::new();
        let (mut loops, mut descents) = (Loops::default(), 0.0);
        for line in lines {
            if cost.is_none() {
                cost = cost_of(line);
            }
            let times = loops.of(line);
            for index in numbers(line).filter_map(|number| by_number.get(&number).copied()) {
                if candidates.get(index).is_some_and(|one| one.method == Method::Btree) {
                    descents += times * descent::operators(sizes.get(index).copied().unwrap_or(0.0));
                }
                used.push(index);
            }
        }
        used.sort_unstable();
        used.dedup();
        let cost = cost.ok_or(Error::Unexpected("EXPLAIN"))?;
        let whole = cost + descents * self.costs.operator;
        let mut outcome = Outcome { cost: whole, used, writes: written(lines) };
        let inverted: Vec<(usize, &Candidate)> = set
            .iter()
            .filter_map(|index| Some((*index, candidates.get(*index)?)))
            .filter(|(_, candidate)| candidate.method == Method::Gin)
            .collect();
        if !inverted.is_empty() {
            let scans = lines.iter().filter_map(|line| inverted::scan_of(line)).collect();
            for (index, saved) in inverted::savings(&self.costs, accesses, scans, &inverted) {
                outcome.cost = (outcome.cost - saved).max(whole * 1e-6);
                outcome.used.push(index);
            }
            outcome.used.sort_unstable();
        }
        Ok(outcome)
    }
}

fn create(candidate: &Candidate) -> String {
    let definition = candidate.create("hypothetical", false).replace('\'', "''");
    format!("SELECT indexrelid FROM hypopg_create_index('{definition}')")
}

/// Rows that a plan writes: those that its first node hands to that which writes.
fn written(lines: &[String]) -> f64 {
    let writes =
        |line: &String| ["Insert on ", "Update on ", "Delete on "].iter().any(|verb| line.starts_with(verb));
    if !lines.first().is_some_and(writes) {
        return 0.0;
    }
    let below = lines.iter().skip(1).find(|line| line.contains("(cost="));
    below.and_then(|line| rows_of(line)).unwrap_or(0.0)
}

fn rows_of(line: &str) -> Option<f64> {
    line.split_once(" rows=")?.1.split(' ').next()?.parse().ok()
}

/// The numbers in names that hypopg gives: `<13604>btree_tasks_tenant_id`.
fn numbers(line: &str) -> impl Iterator<Item = u32> {
    line.split('<').skip(1).filter_map(|part| part.split_once('>')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read() {
        let line = "  ->  Index Scan using \"<13604>btree_tasks_tenant_id\" on tasks  (cost=0.42..8.44 rows=1 width=4)";
        assert_eq!(cost_of(line), Some(8.44));
        assert_eq!(numbers(line).collect::<Vec<_>>(), [13604]);
        let plan = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let update = "Update on a  (cost=0.00..8.44 rows=0 width=0)\n  Update on a1 a_1\n  ->  Seq Scan on a1  (cost=0.00..8.44 rows=12 width=4)";
        assert!((written(&plan(update)) - 12.0).abs() < 1e-9);
        assert!(written(&plan(line)).abs() < 1e-9 && written(&[]).abs() < 1e-9);
        assert_eq!(cost_of("Filter: (a < 3)"), None);
        assert_eq!(numbers("a < 3 AND b <> 4 <5> <x>").collect::<Vec<_>>(), [5]);
    }
}
