//! What a request costs, and which requests count.

use portcullis_policy::{ConfigErrors, Site};

use super::wire::{CostWire, CountWire, CountWord, StatusWire};
use crate::rule::{Count, Price, Told};

/// Statuses or classes of `on_status`. More: a configuration error.
const STATUSES: usize = 32;

/// The price; 1 when none is written.
pub(super) fn price(wire: Option<CostWire>, burst: u32, site: &Site, errors: &mut ConfigErrors) -> Price {
    let told = match wire {
        None => return Price::Fixed(1),
        Some(CostWire::Fixed(cost)) => {
            let number = u32::try_from(cost).ok().filter(|cost| (1..=burst).contains(cost));
            if number.is_none() {
                let remedy = format!("must be 1 to the burst of {burst}: more would never be admitted");
                errors.error(site, cost.to_string(), remedy);
            }
            return Price::Fixed(number.unwrap_or(1));
        }
        Some(CostWire::Told(told)) => told,
    };
    let mut bounded = |value: Option<u64>, key: &str, otherwise: u32| {
        let value = value.unwrap_or(u64::from(otherwise));
        let number = u32::try_from(value).ok().filter(|value| *value <= burst);
        if number.is_none() {
            let remedy = format!("must be 0 to the burst of {burst}: more would never be admitted");
            errors.error(&site.key(key), value.to_string(), remedy);
        }
        number.unwrap_or(otherwise)
    };
    let (default, most) = (bounded(told.default, "default", 1), bounded(told.most, "most", burst));
    let read = |header: String| Told { header: header.to_ascii_lowercase(), default, most };
    match (told.request_header, told.response_header) {
        (Some(header), None) if !header.is_empty() => Price::Request(read(header)),
        (None, Some(header)) if !header.is_empty() => Price::Response(read(header)),
        _ => {
            let remedy = "write either `request_header` or `response_header`";
            errors.error(site, "must name one header", remedy);
            Price::Fixed(1)
        }
    }
}

/// Which requests count; all when nothing is written.
pub(super) fn count(wire: Option<CountWire>, site: &Site, errors: &mut ConfigErrors) -> Count {
    match wire {
        None | Some(CountWire::Word(CountWord::Always)) => Count::Always,
        Some(CountWire::Word(CountWord::OnFailure)) => Count::On(vec![(400, 599)]),
        Some(CountWire::Status(wire)) => Count::On(statuses(&wire.on_status, &site.key("on_status"), errors)),
    }
}

/// Statuses and classes of them as ranges.
pub(in crate::config) fn statuses(
    wires: &[StatusWire],
    site: &Site,
    errors: &mut ConfigErrors,
) -> Vec<(u16, u16)> {
    if wires.is_empty() || wires.len() > STATUSES {
        errors.error(site, format!("has {} statuses", wires.len()), format!("1 to {STATUSES}"));
        return Vec::new();
    }
    let mut ranges = Vec::new();
    for (index, wire) in wires.iter().enumerate() {
        let range = match wire {
            StatusWire::One(status) => (100..=599).contains(status).then_some((*status, *status)),
            StatusWire::Class(class) => match class.as_bytes() {
                [digit @ b'1'..=b'5', b'x', b'x'] => {
                    let first = u16::from(digit - b'0') * 100;
                    Some((first, first + 99))
                }
                _ => None,
            },
        };
        match range {
            Some(range) => ranges.push(range),
            None => {
                let problem = match wire {
                    StatusWire::One(status) => format!("{status} is not a status"),
                    StatusWire::Class(class) => format!("{class:?} is not a class of statuses"),
                };
                errors.error(&site.index(index), problem, "write one like 401, or a class like \"4xx\"");
            }
        }
    }
    ranges
}
