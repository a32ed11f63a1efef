//! What the policy counts, and how it says no.

use portcullis_policy::json::Value;
use portcullis_policy::{Decision, Detail, Effect, Effects, Metric, Refusal, Verdict};

use crate::finding::{Families, Family};
use crate::inspector::Found;
use crate::rewrite::Cleaned;

macro_rules! metrics {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $help:literal;)*) => {
        $($(#[$doc])* pub const $id: Metric = Metric { name: $name, help: $help };)*
        /// All of them.
        pub const METRICS: &[Metric] = &[$($id),*];
    };
}

metrics! {
    /// Names and values that were inspected.
    INSPECTED = "portcullis_sanitize_inspected_total", "Names and values that were inspected.";
    /// Requests refused because of an attack.
    BLOCKED = "portcullis_sanitize_blocked_total", "Requests refused because of an attack.";
    /// Attacks found and let pass.
    DETECTED = "portcullis_sanitize_detected_total", "Attacks found and, in mode monitor, let pass.";
    /// Requests from which an attack was taken out.
    CLEANED = "portcullis_sanitize_cleaned_total", "Requests from which an attack was taken out.";
    /// Requests that the application was told of.
    TAGGED = "portcullis_sanitize_tagged_total", "Requests that passed with a header that tells of an attack.";
    /// Attacks of one family, blocked or not.
    SQL = "portcullis_sanitize_sql_injection_total", "Attacks of family sql-injection.";
    /// As above.
    XSS = "portcullis_sanitize_xss_total", "Attacks of family xss.";
    /// As above.
    PATH = "portcullis_sanitize_path_traversal_total", "Attacks of family path-traversal.";
    /// As above.
    COMMAND = "portcullis_sanitize_command_injection_total", "Attacks of family command-injection.";
    /// As above.
    LOOKUP = "portcullis_sanitize_jndi_lookup_total", "Attacks of family jndi-lookup.";
    /// As above.
    HEADER = "portcullis_sanitize_header_injection_total", "Attacks of family header-injection.";
    /// As above.
    ENTITY = "portcullis_sanitize_xml_entity_total", "Attacks of family xml-entity.";
    /// As above.
    CODE = "portcullis_sanitize_code_injection_total", "Attacks of family code-injection.";
    /// As above.
    NOSQL = "portcullis_sanitize_nosql_injection_total", "Attacks of family nosql-injection.";
    /// As above.
    TEMPLATE = "portcullis_sanitize_template_injection_total", "Attacks of family template-injection.";
    /// As above.
    SSRF = "portcullis_sanitize_ssrf_total", "Attacks of family ssrf.";
    /// As above.
    INCLUDE = "portcullis_sanitize_remote_file_inclusion_total", "Attacks of family remote-file-inclusion.";
    /// As above.
    REDIRECT = "portcullis_sanitize_open_redirect_total", "Attacks of family open-redirect.";
    /// As above.
    LDAP = "portcullis_sanitize_ldap_injection_total", "Attacks of family ldap-injection.";
    /// As above.
    XPATH = "portcullis_sanitize_xpath_injection_total", "Attacks of family xpath-injection.";
    /// As above.
    MAIL = "portcullis_sanitize_mail_injection_total", "Attacks of family mail-injection.";
    /// As above.
    OBJECT = "portcullis_sanitize_deserialization_total", "Attacks of family deserialization.";
    /// As above.
    PROTOTYPE = "portcullis_sanitize_prototype_pollution_total", "Attacks of family prototype-pollution.";
    /// As above.
    UPLOAD = "portcullis_sanitize_malicious_upload_total", "Attacks of family malicious-upload.";
    /// As above.
    SESSION = "portcullis_sanitize_session_fixation_total", "Attacks of family session-fixation.";
    /// As above.
    SCANNER = "portcullis_sanitize_scanner_total", "Attacks of family scanner.";
    /// As above.
    PROTOCOL = "portcullis_sanitize_protocol_anomaly_total", "Attacks of family protocol-anomaly.";
    /// As above.
    CUSTOM = "portcullis_sanitize_custom_pattern_total", "Attacks of family custom-pattern.";
    /// Bodies longer than the window.
    OVERSIZE = "portcullis_sanitize_body_oversize_total", "Bodies longer than the inspected window.";
    /// Bodies that could not be decoded.
    UNDECODABLE = "portcullis_sanitize_body_undecodable_total", "Bodies whose encoding is unknown or broken.";
}

fn family_metric(family: Family) -> &'static Metric {
    match family {
        Family::Sql => &SQL,
        Family::Xss => &XSS,
        Family::Path => &PATH,
        Family::Command => &COMMAND,
        Family::Lookup => &LOOKUP,
        Family::Header => &HEADER,
        Family::Entity => &ENTITY,
        Family::Code => &CODE,
        Family::Nosql => &NOSQL,
        Family::Template => &TEMPLATE,
        Family::Ssrf => &SSRF,
        Family::Include => &INCLUDE,
        Family::Redirect => &REDIRECT,
        Family::Ldap => &LDAP,
        Family::Xpath => &XPATH,
        Family::Mail => &MAIL,
        Family::Object => &OBJECT,
        Family::Prototype => &PROTOTYPE,
        Family::Upload => &UPLOAD,
        Family::Session => &SESSION,
        Family::Scanner => &SCANNER,
        Family::Protocol => &PROTOCOL,
        Family::Custom => &CUSTOM,
    }
}

/// Notes an attack that passes otherwise than it came.
fn passed(found: &Found, metric: &'static Metric, further: Vec<Detail>, effects: &mut Effects) {
    effects.push(Effect::Count(metric, 1));
    effects.push(Effect::Count(family_metric(found.finding.family), 1));
    let mut details = found.details();
    details.extend(further);
    effects.push(Effect::Decide(Decision {
        policy: "sanitize",
        verdict: Verdict::Monitor,
        event_type: "ATTACK_DETECTED",
        reason: found.finding.family.code(),
        details,
    }));
}

/// Notes what was taken out of a request.
pub(crate) fn cleaned(found: &Found, cleaned: &Cleaned, effects: &mut Effects) {
    let names = cleaned.names.join(", ");
    let further =
        vec![("action", "cleaned".into()), ("cleaned", names.into()), ("values", cleaned.values.into())];
    passed(found, &CLEANED, further, effects);
}

/// Notes what the application is told.
pub(crate) fn tagged(found: &Found, tag: &str, effects: &mut Effects) {
    passed(found, &TAGGED, vec![("action", "tagged".into()), ("tag", tag.into())], effects);
}

/// The value of the header that tells the application what was found: a dictionary (RFC 9651).
pub(crate) fn tag(score: u8, families: Families) -> String {
    let found = Family::ALL.into_iter().filter(|family| families.contains(*family));
    let codes: Vec<&str> = found.map(Family::code).collect();
    format!("score={score}, families=({})", codes.join(" "))
}

/// Decides on what was found. `instead`: why it is refused, where something else was configured.
pub(crate) fn attack(found: &Found, instead: Option<&'static str>, effects: &mut Effects) {
    let reason = found.finding.family.code();
    let (verdict, event_type, metric) = if found.enforced {
        (Verdict::Deny, "ATTACK_BLOCKED", &BLOCKED)
    } else {
        (Verdict::Monitor, "ATTACK_DETECTED", &DETECTED)
    };
    effects.push(Effect::Count(metric, 1));
    effects.push(Effect::Count(family_metric(found.finding.family), 1));
    let mut details = found.details();
    details.extend(instead.map(|why| ("blocked_because", Value::from(why))));
    effects.push(Effect::Decide(Decision { policy: "sanitize", verdict, event_type, reason, details }));
    if found.enforced {
        effects.push(Effect::Refuse(Refusal {
            status: 403,
            problem: "urn:portcullis:problem:request-blocked",
            title: "Request blocked",
            reason,
            headers: Vec::new(),
        }));
    }
}

/// Why a body could not be inspected as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uninspected {
    Oversize,
    Undecodable,
}

/// Counts a body that could not be inspected as a whole; where that is not allowed, decides on it. `enforce`: refuses it.
pub(crate) fn uninspected(why: Uninspected, allowed: bool, enforce: bool, effects: &mut Effects) {
    let (metric, status, problem, title, reason) = match why {
        Uninspected::Oversize => {
            (&OVERSIZE, 413, "urn:portcullis:problem:body-too-large", "Content too large", "body-too-large")
        }
        Uninspected::Undecodable => (
            &UNDECODABLE,
            415,
            "urn:portcullis:problem:body-undecodable",
            "Content encoding not supported",
            "body-undecodable",
        ),
    };
    effects.push(Effect::Count(metric, 1));
    if allowed {
        return;
    }
    let verdict = if enforce { Verdict::Deny } else { Verdict::Monitor };
    let details = vec![("place", Value::from("body"))];
    effects.push(Effect::Decide(Decision {
        policy: "sanitize",
        verdict,
        event_type: "REQUEST",
        reason,
        details,
    }));
    if enforce {
        effects.push(Effect::Refuse(Refusal { status, problem, title, reason, headers: Vec::new() }));
    }
}
