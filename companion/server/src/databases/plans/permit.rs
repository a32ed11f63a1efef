//! What a tenant's policy lets be built without anybody's approval: a pure decision.

use super::Step;
use crate::policies::DatabasePolicy;

const MEGABYTE: u64 = 1024 * 1024;

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The hour of the day, UTC.
    pub hour: u32,
    /// Bytes of indexes that were built through the companion and stand.
    pub standing: u64,
}

/// Divides steps into those that are permitted and the rest, each of which says why.
#[must_use]
pub fn divide(policy: &DatabasePolicy, moment: Moment, steps: Vec<Step>) -> (Vec<Step>, Vec<Step>) {
    let mut standing = moment.standing;
    let (mut permitted, mut rest) = (Vec::new(), Vec::new());
    for mut step in steps {
        step.not_permitted = refusal(policy, Moment { standing, ..moment }, &step);
        if step.not_permitted.is_none() {
            standing = standing.saturating_add(step.size_bytes);
            permitted.push(step);
        } else {
            rest.push(step);
        }
    }
    (permitted, rest)
}

/// Why an index may not be built without an approval.
fn refusal(policy: &DatabasePolicy, moment: Moment, step: &Step) -> Option<String> {
    if !policy.auto_apply {
        return Some(
            "database.auto_apply is off: indexes are advised, and built when they are approved".into(),
        );
    }
    if let Some(kind) = step.kinds.iter().find(|kind| !allows(policy, kind)) {
        return Some(format!("database.allow_{kind} is off"));
    }
    let most = |megabytes: u32| u64::from(megabytes).saturating_mul(MEGABYTE);
    let size = step.size_bytes.div_ceil(MEGABYTE);
    if step.size_bytes > most(policy.max_index_megabytes) {
        let most = policy.max_index_megabytes;
        return Some(format!("it takes {size} MB; database.max_index_megabytes is {most}"));
    }
    if moment.standing.saturating_add(step.size_bytes) > most(policy.budget_megabytes) {
        let (standing, most) = (moment.standing.div_ceil(MEGABYTE), policy.budget_megabytes);
        return Some(format!(
            "it takes {size} MB and {standing} MB stand or are to be built; database.budget_megabytes is {most}"
        ));
    }
    let tax = step.write_tax * 100.0;
    // A figure that is none permits nothing.
    if tax.is_nan() || tax > f64::from(policy.max_write_tax_percent) {
        let most = policy.max_write_tax_percent;
        return Some(format!(
            "a row that is written becomes {tax:.0} % dearer; database.max_write_tax_percent is {most}"
        ));
    }
    if !within(policy.window_start_hour, policy.window_end_hour, moment.hour) {
        return Some(format!(
            "it is {} o'clock UTC; the window is from {} to {}",
            moment.hour, policy.window_start_hour, policy.window_end_hour
        ));
    }
    None
}

fn allows(policy: &DatabasePolicy, kind: &str) -> bool {
    match kind {
        "btree" => policy.allow_btree,
        "partial" => policy.allow_partial,
        "expression" => policy.allow_expression,
        "covering" => policy.allow_covering,
        "brin" => policy.allow_brin,
        _ => false,
    }
}

fn within(start: u32, end: u32, hour: u32) -> bool {
    if start < end { (start..end).contains(&hour) } else { hour >= start || hour < end }
}

#[cfg(test)]
mod tests {
    use super::super::Confidence;
    use super::*;

    fn step(kinds: &[&str], megabytes: u64, write_tax: f64) -> Step {
        Step {
            index: "public.i".into(),
            table: "public.t".into(),
            create: "CREATE INDEX CONCURRENTLY i ON public.t (a)".into(),
            drop: "DROP INDEX CONCURRENTLY public.i".into(),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            size_bytes: megabytes * MEGABYTE,
            built_bytes: None,
            cost_before: 100.0,
            cost_after: 1.0,
            saves: 0.9,
            write_tax,
            reasons: Vec::new(),
            confidence: Confidence { by: "planner".into(), explanation: String::new(), interval: None },
            not_permitted: None,
            state: "planned".into(),
            reason: None,
        }
    }

    fn policy() -> DatabasePolicy {
        DatabasePolicy {
            auto_apply: true,
            allow_brin: false,
            max_index_megabytes: 10,
            budget_megabytes: 15,
            max_write_tax_percent: 50,
            window_start_hour: 22,
            window_end_hour: 4,
            ..DatabasePolicy::default()
        }
    }

    fn refused(policy: &DatabasePolicy, hour: u32, step: Step) -> Option<String> {
        let (_, rest) = divide(policy, Moment { hour, standing: 0 }, vec![step]);
        rest.into_iter().next().and_then(|step| step.not_permitted)
    }

    #[test]
    fn each_bound_has_a_near_miss() {
        let off = DatabasePolicy { auto_apply: false, ..policy() };
        let plain = || step(&["btree"], 10, 0.5);
        assert_eq!(refused(&policy(), 23, plain()), None);
        for (policy, hour, step, said) in [
            (&off, 23, plain(), "auto_apply is off"),
            (&DatabasePolicy::default(), 12, plain(), "auto_apply is off"),
            (&policy(), 23, step(&["brin"], 1, 0.0), "allow_brin"),
            (&policy(), 23, step(&["btree", "unheard of"], 1, 0.0), "unheard of"),
            (&policy(), 23, step(&["btree"], 11, 0.5), "max_index_megabytes is 10"),
            (&policy(), 23, step(&["btree"], 10, 0.51), "max_write_tax_percent is 50"),
            (&policy(), 23, step(&["btree"], 10, f64::NAN), "max_write_tax_percent"),
            (&policy(), 4, plain(), "the window is from 22 to 4"),
            (&policy(), 21, plain(), "the window is from 22 to 4"),
        ] {
            let why = refused(policy, hour, step).unwrap_or_default();
            assert!(why.contains(said), "{said}: {why}");
        }
        assert!([22, 23, 0, 3].iter().all(|hour| within(22, 4, *hour)));
        assert!((0..24).all(|hour| within(0, 24, hour)) && !within(2, 5, 5) && within(2, 5, 2));
    }

    #[test]
    fn the_budget_is_for_all_together() {
        let steps = || vec![step(&["btree"], 9, 0.1), step(&["partial"], 7, 0.1), step(&["btree"], 6, 0.1)];
        let (permitted, rest) = divide(&policy(), Moment { hour: 0, standing: 0 }, steps());
        assert_eq!((permitted.len(), rest.len()), (2, 1));
        assert!(rest[0].not_permitted.as_deref().unwrap().contains("9 MB stand"), "{rest:?}");
        let standing = Moment { hour: 0, standing: 15 * MEGABYTE };
        assert_eq!(divide(&policy(), standing, steps()).0.len(), 0);
    }
}
