//! Headers of the replies that Envoy makes before, or instead of, the module: what the configured header policy sets on
//! an empty response.
//!
//! They are asked of the same chain that the module runs, so the two cannot drift apart. Overrides by route do not apply:
//! Envoy makes such replies before it knows the route.

use portcullis_chain::{Chain, Ports, Stream};
use portcullis_policy::{Effect, Effects, Event, Headers, LocalSlots, Moment, NoFacts};
use serde_json::{Value, json};

/// What the policy measures or makes for each response, and what Envoy knows instead: its own identifier, and the time
/// in whole milliseconds, which is written as seconds by its exponent.
const PER_RESPONSE: [(&str, &str); 2] =
    [("x-request-id", "%UNIQUE_ID%"), ("x-process-time", "%DURATION%e-3")];

/// Envoy's `headers_to_add` for a module configuration. One that is not valid has no say: the module will refuse it, and
/// the default policy stands until then.
pub fn headers_to_add(config: &str) -> Value {
    let chain = Chain::from_json(config.as_bytes()).or_else(|_| Chain::from_json(b"{}"));
    let option = |(name, format): (String, String)| json!({ "append_action": "ADD_IF_ABSENT", "header": { "key": name, "value": format } });
    chain.iter().flat_map(|(chain, _)| formats(chain)).map(option).collect()
}

/// Names, and values in Envoy's format language.
fn formats(chain: &Chain) -> Vec<(String, String)> {
    let (headers, mut effects) = (Headers::default(), Effects::new());
    let mut ports = Ports { facts: &mut NoFacts, shared: &mut LocalSlots::new(0) };
    let event = Event::ResponseHeaders { headers: &headers };
    chain.on(&mut Stream::default(), &mut ports, Moment::default(), &event, &mut effects);
    let set = effects.into_iter().filter_map(|effect| match effect {
        Effect::SetResponseHeader(name, value) | Effect::AddResponseHeader(name, value) => {
            Some((name, value))
        }
        _ => None,
    });
    set.map(|(name, value)| {
        let own =
            PER_RESPONSE.iter().find(|(known, _)| *known == &*name).map(|(_, format)| (*format).to_owned());
        let format = own.unwrap_or_else(|| String::from_utf8_lossy(&value).replace('%', "%%"));
        (name.to_string(), format)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(config: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let options = headers_to_add(config);
        let pairs = options.as_array().unwrap().iter().map(|option| &option["header"]);
        pairs.map(|header| (text(&header["key"]), text(&header["value"]))).collect()
    }

    #[test]
    fn the_required_profile_is_there_whole() {
        let names: Vec<String> = added("{}").into_iter().map(|(name, _)| name).collect();
        for name in [
            "x-xss-protection",
            "x-content-type-options",
            "x-frame-options",
            "content-security-policy",
            "strict-transport-security",
            "referrer-policy",
            "permissions-policy",
            "cross-origin-embedder-policy",
            "cross-origin-opener-policy",
            "cross-origin-resource-policy",
            "x-process-time",
            "x-request-id",
        ] {
            assert!(names.iter().any(|have| have == name), "{name} in {names:?}");
        }
        assert_eq!(names.len(), 12, "{names:?}");
    }

    #[test]
    fn the_configuration_decides() {
        let config = r#"{"headers": {"profile": "none", "set": {"x-a": "100% ours"}}}"#;
        let expected =
            [("x-a", "100%% ours"), ("x-process-time", "%DURATION%e-3"), ("x-request-id", "%UNIQUE_ID%")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(added(config), expected);
        assert_eq!(added(r#"{"headers": {"mode": "off"}}"#).len(), 1);
        assert_eq!(added("not JSON"), added("{}"));
    }
}
