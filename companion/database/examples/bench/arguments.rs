//! What make passes in the environment.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use portcullis_database::advise::Prove;
use portcullis_database::workload::{self, Query};
use xtask::layout::Layout;

pub struct Arguments {
    pub folder: PathBuf,
    pub url: Option<String>,
    pub budget: f64,
    pub skip: BTreeSet<String>,
    pub prove: Prove,
    /// Candidates whose sizes are compared with what is built.
    pub sizes: usize,
}

impl Arguments {
    /// From the environment, as make passes it.
    pub fn read(layout: &Layout) -> Result<Self> {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let megabytes = given("BUDGET").unwrap_or_else(|| "2MB".into());
        let number = megabytes.trim_end_matches("MB").parse::<f64>();
        Ok(Self {
            folder: given("WORKLOAD")
                .map_or_else(|| layout.root().join("companion/database/tests/booking"), PathBuf::from),
            url: given("URL"),
            budget: number.context("BUDGET=105MB")? * 1_048_576.0,
            skip: given("SKIP").unwrap_or_default().split(',').map(str::to_owned).collect(),
            prove: match given("PROVE").as_deref() {
                None | Some("auto") => Prove::Auto,
                Some("always") => Prove::Always,
                Some("never") => Prove::Never,
                Some(other) => bail!("PROVE={other}: auto, always or never"),
            },
            sizes: given("SIZES").map_or(Ok(0), |number| number.parse()).context("SIZES=200")?,
        })
    }

    pub fn queries(&self) -> Result<Vec<Query>> {
        let (queries, weights) = (self.folder.join("queries"), self.folder.join("weights.json"));
        let statements = self.folder.join("statements.sql");
        let mut read = if queries.is_dir() || !statements.is_file() {
            let folder = if queries.is_dir() { &queries } else { &self.folder };
            workload::read(folder, weights.is_file().then_some(weights.as_path()))?
        } else {
            let text = std::fs::read_to_string(&statements)?;
            let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
            parts
                .enumerate()
                .map(|(number, part)| Query::new(&format!("{:02}", number + 1), part, 1.0))
                .collect()
        };
        read.retain(|query| !self.skip.contains(&query.name));
        Ok(read)
    }

    pub fn writes(&self) -> Result<Vec<Query>> {
        let folder = self.folder.join("writes");
        if folder.is_dir() { Ok(workload::read(&folder, None)?) } else { Ok(Vec::new()) }
    }
}
