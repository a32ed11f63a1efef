//! Which foreign pages may read answers (CORS: WHATWG Fetch). What is not permitted here, an application cannot permit by
//! itself: its own `Access-Control-*` headers give way.

use std::rc::Rc;

use portcullis_policy::{ConfigErrors, Effect, Effects, Headers, Site, units::Span};
use serde::Deserialize;

use crate::origin::{ORIGINS, check_origins};

/// Which foreign pages may read answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CorsWire {
    /// Origins: `["https://app.example"]`; `["*"]` is everybody, for what is public.
    pub origins: Vec<String>,
    /// Methods beside GET, HEAD and POST.
    pub methods: Vec<String>,
    /// Request headers beside those that need no permission.
    pub headers: Vec<String>,
    /// Response headers that a page may read, beside the common ones.
    pub expose: Vec<String>,
    /// Whether a visitor's cookies are sent along.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight request, up to `24h`.
    pub max_age: Option<Span>,
}

/// What is said of a request's origin.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It names none.
    #[default]
    NotAsked,
    /// It may read the answer; what is told of whom.
    Permitted(Rc<[u8]>),
    /// It may not.
    Refused,
}

impl Answer {
    pub(crate) fn is_permitted(&self) -> bool {
        matches!(self, Self::Permitted(_))
    }
}

/// The compiled rules.
#[derive(Debug)]
pub struct Cors {
    pub(crate) everybody: bool,
    origins: Vec<String>,
    methods: String,
    headers: String,
    expose: String,
    credentials: bool,
    max_age: String,
}

/// Response headers that are ours to say.
const OWN: [&str; 6] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
];

impl Cors {
    pub(crate) fn compile(wire: CorsWire, site: &Site, errors: &mut ConfigErrors) -> Self {
        let everybody = wire.origins == ["*"];
        if !everybody {
            check_origins(&wire.origins, &site.key("origins"), errors);
        } else if wire.credentials {
            errors.error(
                &site.key("credentials"),
                "would let every page in the world act as its visitor",
                "name the origins, or leave credentials out",
            );
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
        let mut joined = |list: &[String], key: &str| {
            let site = site.key(key);
            if list.len() > ORIGINS {
                errors.error(&site, "has too many entries", "at most 64");
            }
            for (index, name) in
                list.iter().enumerate().filter(|(_, name)| name.is_empty() || !name.bytes().all(token))
            {
                let problem = ["`", &name.escape_default().to_string(), "` would split the header"].concat();
                errors.error(&site.index(index), problem, "write a name: letters, digits and `-`");
            }
            list.join(", ")
        };
        let methods = joined(&wire.methods, "methods");
        let (headers, expose) = (joined(&wire.headers, "headers"), joined(&wire.expose, "expose"));
        let age = wire.max_age.map_or(600, |span| span.0.as_secs());
        if age > 86_400 {
            errors.error(&site.key("max_age"), "is longer than browsers remember", "0s to 24h");
        }
        let methods = if methods.is_empty() {
            "GET, HEAD, POST".to_owned()
        } else {
            ["GET, HEAD, POST, ", &methods].concat()
        };
        Self {
            everybody,
            origins: wire.origins,
            methods,
            headers,
            expose,
            credentials: wire.credentials,
            max_age: age.to_string(),
        }
    }

    pub(crate) fn judge(&self, request: &Headers<'_>) -> Answer {
        match request.first("origin") {
            None => Answer::NotAsked,
            Some(_) if self.everybody => Answer::Permitted(b"*"[..].into()),
            Some(origin) if self.origins.iter().any(|known| known.as_bytes() == origin) => {
                Answer::Permitted(origin.into())
            }
            Some(_) => Answer::Refused,
        }
    }

    /// Whether the request is a preflight: it is answered here, and the headers of the answer are those that are not
    /// on every response.
    pub(crate) fn preflight(
        &self,
        answer: &Answer,
        request: &Headers<'_>,
    ) -> Option<Vec<(&'static str, String)>> {
        let asks = request.first(":method") == Some(b"OPTIONS")
            && request.first("access-control-request-method").is_some();
        if !asks || *answer == Answer::NotAsked {
            return None;
        }
        let mut headers =
            vec![("vary", "access-control-request-method, access-control-request-headers".to_owned())];
        if answer.is_permitted() {
            headers.push(("access-control-allow-methods", self.methods.clone()));
            headers.push(("access-control-max-age", self.max_age.clone()));
            if !self.headers.is_empty() {
                headers.push(("access-control-allow-headers", self.headers.clone()));
            }
        }
        Some(headers)
    }

    /// What every response says.
    pub(crate) fn respond(
        &self,
        answer: &Answer,
        preflight: bool,
        response: &Headers<'_>,
        effects: &mut Effects,
    ) {
        // What our own answer to a preflight says stays.
        if !preflight {
            let said = OWN.into_iter().filter(|name| response.first(name).is_some());
            effects.extend(said.map(|name| Effect::RemoveResponseHeader(name.into())));
        }
        // A cache must not show one origin the answer for another.
        if !self.everybody {
            effects.push(Effect::AddResponseHeader("vary".into(), b"origin"[..].into()));
        }
        let origin = match answer {
            Answer::Permitted(origin) => origin.clone(),
            // A cache may show this answer to whoever asks from elsewhere.
            Answer::NotAsked if self.everybody => b"*"[..].into(),
            Answer::NotAsked | Answer::Refused => return,
        };
        effects.push(Effect::SetResponseHeader("access-control-allow-origin".into(), origin));
        if self.credentials {
            effects.push(Effect::SetResponseHeader(
                "access-control-allow-credentials".into(),
                b"true"[..].into(),
            ));
        }
        if !self.expose.is_empty() {
            effects.push(Effect::SetResponseHeader(
                "access-control-expose-headers".into(),
                self.expose.as_bytes().into(),
            ));
        }
    }
}
