//! Where browsers send what they notice: violations of policies (CSP3, 5; Reporting API), and failed connections
//! (Network Error Logging).

use std::collections::BTreeMap;

use portcullis_policy::{ConfigErrors, Site, json::Value, units::Span};
use serde::Deserialize;

/// Where browsers send reports.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReportingWire {
    /// Endpoints by name: `{"default": "https://app.example/.well-known/reports"}`, or a path on the page's own host.
    pub endpoints: BTreeMap<String, String>,
    /// The endpoint that takes violations of the Content-Security-Policy, the enforced and the report-only one.
    pub csp: Option<String>,
    /// Asks browsers to report failed connections too (NEL) for so long, to the endpoint `csp` names or the first: it must
    /// be an `https://` URL. Over HTTPS alone.
    pub nel: Option<Span>,
}

/// Endpoints. More: a configuration error.
const ENDPOINTS: usize = 16;

/// What comes of it.
#[derive(Debug, Default)]
pub(crate) struct Reporting {
    /// Directives for a Content-Security-Policy.
    pub csp: Vec<(String, String)>,
    /// Headers: name, value, whether over HTTPS alone.
    pub headers: Vec<(&'static str, String, bool)>,
}

pub(crate) fn compile(wire: &ReportingWire, site: &Site, errors: &mut ConfigErrors) -> Reporting {
    let mut reporting = Reporting::default();
    let here = site.key("endpoints");
    if wire.endpoints.len() > ENDPOINTS {
        errors.error(&here, "has too many names", "at most 16");
    }
    let mut list = Vec::new();
    for (name, url) in &wire.endpoints {
        let site = here.key(name);
        let key =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(key) {
            errors.error(&site, "is not a name", "a lower-case letter, then letters, digits, `_` and `-`");
        }
        let plain =
            url.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b';' | b','));
        if !plain || !(url.starts_with("https://") || url.starts_with('/')) {
            errors.error(
                &site,
                "is not a URL that takes reports",
                "write https://... or a path, without `;`, `,` and quotation marks",
            );
        }
        list.push([name, "=\"", url, "\""].concat());
    }
    if !list.is_empty() {
        reporting.headers.push(("reporting-endpoints", list.join(", "), false));
    }
    let named = wire.csp.as_ref().or_else(|| wire.endpoints.keys().next());
    let endpoint = named.and_then(|name| wire.endpoints.get(name).map(|url| (name, url)));
    if let Some(name) = &wire.csp {
        match endpoint {
            // Browsers that know `report-to` do not look at `report-uri`; Firefox and Safari know it alone.
            Some((name, url)) => {
                reporting.csp.push(("report-uri".to_owned(), url.clone()));
                reporting.csp.push(("report-to".to_owned(), name.clone()));
            }
            None => errors.error(
                &site.key("csp"),
                ["`", &name.escape_default().to_string(), "` is not an endpoint"].concat(),
                "add it to `endpoints`",
            ),
        }
    }
    if let Some(age) = wire.nel {
        match endpoint.filter(|(_, url)| url.starts_with("https://")) {
            Some((name, url)) => {
                let (name, url) =
                    (Value::from(name.as_str()).to_string(), Value::from(url.as_str()).to_string());
                let age = age.0.as_secs().to_string();
                let group =
                    ["{\"group\":", &name, ",\"max_age\":", &age, ",\"endpoints\":[{\"url\":", &url, "}]}"];
                let nel = ["{\"report_to\":", &name, ",\"max_age\":", &age, ",\"include_subdomains\":true}"];
                reporting.headers.push(("report-to", group.concat(), true));
                reporting.headers.push(("nel", nel.concat(), true));
            }
            None => errors.error(
                &site.key("nel"),
                "has no endpoint with an https:// URL",
                "add one to `endpoints`",
            ),
        }
    }
    reporting
}
