//! The chain in this process.

use anyhow::{Result, anyhow};
use portcullis_replay::{Guard, Known, Request};

use super::{Judge, Outcome};

/// Makes judges of a configuration. What is only noted (mode `monitor`) passes, as it does in a proxy.
pub fn judge(configuration: &[u8]) -> impl Fn() -> Result<Box<dyn Judge>> + Sync {
    move || match Guard::new(configuration, Known::default()) {
        Ok((guard, _)) => Ok(Box::new(Native(guard)) as Box<dyn Judge>),
        Err(errors) => Err(anyhow!("{errors}")),
    }
}

struct Native(Guard);

impl Judge for Native {
    fn judge(&mut self, request: &Request) -> Outcome {
        match self.0.judge(request).refusal {
            Some(refusal) => Outcome::Blocked(refusal.reason.to_owned()),
            None => Outcome::Passed,
        }
    }
}
