//! The metrics of a process: one registry for all of its VMs, as Envoy's.

use std::collections::BTreeMap;

use super::status::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug)]
struct Metric {
    name: String,
    kind: Kind,
    value: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    list: Vec<Metric>,
}

impl Metrics {
    /// The metric's number; the same name and kind give the same.
    pub fn define(&mut self, kind: u32, name: &[u8]) -> Result<u32, Status> {
        let kind = match kind {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            2 => Kind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let at = self.list.iter().position(|metric| metric.kind == kind && metric.name == name);
        let at = at.unwrap_or_else(|| {
            self.list.push(Metric { name, kind, value: 0 });
            self.list.len() - 1
        });
        u32::try_from(at).map_err(|_| Status::InternalFailure)
    }

    fn metric(&mut self, number: u32) -> Result<&mut Metric, Status> {
        self.list.get_mut(number as usize).ok_or(Status::NotFound)
    }

    pub fn increment(&mut self, number: u32, by: i64) -> Result<(), Status> {
        let metric = self.metric(number)?;
        match metric.kind {
            // A counter never falls.
            Kind::Counter if by < 0 => return Err(Status::BadArgument),
            Kind::Histogram => return Err(Status::BadArgument),
            Kind::Counter | Kind::Gauge => metric.value = metric.value.saturating_add_signed(by),
        }
        Ok(())
    }

    pub fn record(&mut self, number: u32, value: u64) -> Result<(), Status> {
        let metric = self.metric(number)?;
        match metric.kind {
            Kind::Counter => metric.value = metric.value.saturating_add(value),
            Kind::Gauge | Kind::Histogram => metric.value = value,
        }
        Ok(())
    }

    pub fn value(&mut self, number: u32) -> Result<u64, Status> {
        let metric = self.metric(number)?;
        if metric.kind == Kind::Histogram { Err(Status::BadArgument) } else { Ok(metric.value) }
    }

    pub fn all(&self) -> BTreeMap<String, u64> {
        self.list.iter().map(|metric| (metric.name.clone(), metric.value)).collect()
    }
}
