//! Who asks: tenant, user and client address, resolved once per stream.
//!
//! Defends against a client that names its own tenant or user. A header is believed only when the configuration says
//! which filter sets it, and that filter has left its mark on this very stream (Envoy: dynamic metadata under the
//! filter's name); otherwise the copy came from outside and is stripped. `set_by: client` believes anyone: for
//! demonstrations, and said so at start. It does not authenticate: that is the work of the filter named.

use std::net::IpAddr;

use portcullis_policy::fields::is_same_to_cgi;
use portcullis_policy::{
    ConfigErrors, Effect, Effects, Fact, Facts, Headers, ReadsAddress, Site, Tenant, User,
};
use serde::Deserialize;

use crate::allowed::Allowed;
use crate::client::Client;
use crate::matching::{compile_regex, without_port};

/// Where a name may come from. Exactly one source key is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SourceWire {
    /// A request header that the filter named in `set_by` sets.
    pub header: Option<String>,
    /// The filter that sets the header: `jwt_authn`, `ext_authz`, or a filter's full name. `client` believes anyone:
    /// for demonstrations only.
    pub set_by: Option<String>,
    /// A label of the host name, counted from 0 at the left.
    pub host_label: Option<u8>,
    /// A segment of the path, counted from 0.
    pub path_segment: Option<u8>,
    /// A claim of the token that Envoy's jwt_authn has verified (`payload_in_metadata: jwt_payload`).
    pub jwt_claim: Option<String>,
    /// An attribute of the verified client certificate's subject, like `CN` or `O`.
    pub mtls_subject: Option<String>,
    /// The same name for every request.
    pub fixed: Option<String>,
    /// The client's address (for users only).
    pub client_ip: Option<bool>,
    /// A pattern (`regex-lite` syntax) that the whole name must match.
    pub allow: Option<String>,
}

/// What happens to a name that a source gives and the configuration does not accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// Answered 403.
    #[default]
    Reject,
    /// Counted to the default tenant.
    Default,
}

/// Whose traffic it is.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TenantWire {
    /// Sources in order; the first that gives a name wins.
    pub from: Vec<SourceWire>,
    /// The tenant of requests for which no source gives a name. `null`: such requests are answered 401.
    pub default: Option<String>,
    /// What happens to a name that is not accepted.
    pub unknown: Unknown,
    /// Headers that are taken from every request, unless a source above believes them.
    pub strip: Vec<String>,
}

impl Default for TenantWire {
    fn default() -> Self {
        Self {
            from: Vec::new(),
            default: Some("public".to_owned()),
            unknown: Unknown::Reject,
            strip: vec!["x-tenant-id".to_owned()],
        }
    }
}

/// Who within the tenant.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UserWire {
    /// Sources in order; the first that gives a name wins.
    pub from: Vec<SourceWire>,
    /// Whether a request without a user is answered 401.
    pub required: bool,
    /// Headers that are taken from every request, unless a source above believes them.
    pub strip: Vec<String>,
}

impl Default for UserWire {
    fn default() -> Self {
        let client = SourceWire { client_ip: Some(true), ..SourceWire::default() };
        Self { from: vec![client], required: false, strip: vec!["x-user-id".to_owned()] }
    }
}

/// Where the client's address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AddressFrom {
    /// The other end of the connection.
    #[default]
    Connection,
    /// `x-forwarded-for`, to which the proxy itself has added the connection's address (Envoy:
    /// `use_remote_address: true`).
    XForwardedFor,
}

/// The client's address.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ClientIpWire {
    /// Where it stands.
    pub from: AddressFrom,
    /// Trusted proxies in front of this one: so many entries of `x-forwarded-for` are skipped from the right. 0 to 16.
    pub trusted_hops: u8,
}

#[derive(Debug, Clone)]
enum Source {
    Header { name: String, set_by: Mark },
    HostLabel(usize),
    PathSegment(usize),
    JwtClaim(String),
    PeerSubject(String),
    Fixed(String),
    ClientIp,
}

#[derive(Debug, Clone)]
enum Mark {
    Client,
    Filter(String),
}

#[derive(Debug)]
struct Sources {
    list: Vec<(Source, Option<Allowed>)>,
    strip: Vec<String>,
}

/// The compiled identity configuration.
#[derive(Debug)]
pub struct Identity {
    tenant: Sources,
    user: Sources,
    default: Option<Tenant>,
    unknown: Unknown,
    user_required: bool,
    client_ip: ClientIpWire,
}

/// Why nobody could be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unidentified {
    /// No source gives a tenant, and there is no default.
    TenantMissing,
    /// A source gives a tenant that is not accepted.
    TenantUnknown,
    /// No source gives a user, and one is required.
    UserMissing,
}

/// The request as far as identity needs it.
pub(crate) struct Asker<'a> {
    pub headers: &'a Headers<'a>,
    pub host: &'a [u8],
    pub path: &'a [u8],
}

/// Who asks.
pub(crate) struct Resolved {
    pub tenant: Result<Tenant, Unidentified>,
    pub user: Option<User>,
    pub client_ip: Option<IpAddr>,
}

impl Identity {
    pub(crate) fn compile(
        tenant: TenantWire,
        user: UserWire,
        client_ip: ClientIpWire,
        errors: &mut ConfigErrors,
    ) -> Self {
        let root = Site::root();
        let site = root.key("tenant");
        let default = tenant.default.and_then(|name| {
            let tenant = Tenant::new(name.as_bytes());
            if tenant.is_none() {
                errors.error(
                    &site.key("default"),
                    format!("`{name}` cannot name a tenant"),
                    "1 to 50 visible ASCII characters",
                );
            }
            tenant
        });
        if tenant.unknown == Unknown::Default && default.is_none() {
            errors.error(&site.key("unknown"), "`default` needs a default tenant", "set tenant.default");
        }
        if client_ip.trusted_hops > 16 {
            errors.error(&root.key("client_ip").key("trusted_hops"), "is too many", "0 to 16");
        }
        let tenant_sources = Sources::compile(tenant.from, tenant.strip, &site, false, errors);
        let user_sources = Sources::compile(user.from, user.strip, &root.key("user"), true, errors);
        Self {
            tenant: tenant_sources,
            user: user_sources,
            default,
            unknown: tenant.unknown,
            user_required: user.required,
            client_ip,
        }
    }

    /// The tenant of streams that were never resolved.
    pub(crate) fn fallback_tenant(&self) -> Tenant {
        self.default.clone().unwrap_or_else(Tenant::public)
    }

    /// Resolves who asks, and strips identity headers that nobody vouches for. The client's address costs a host call: it is
    /// asked for if somebody reads it, or if nothing else names the user.
    pub(crate) fn resolve(
        &self,
        asker: &Asker<'_>,
        facts: &mut dyn Facts,
        reads: ReadsAddress,
        effects: &mut Effects,
    ) -> Resolved {
        let mut client = Client::new(self.client_ip);
        if reads == ReadsAddress::Always {
            client.address(asker.headers, facts);
        }
        let tenant = match self.tenant.name(asker, &mut client, facts, effects) {
            Name::Is(bytes) => Tenant::new(&bytes).ok_or(Unidentified::TenantUnknown),
            Name::Refused => Err(Unidentified::TenantUnknown),
            Name::Missing => self.default.clone().ok_or(Unidentified::TenantMissing),
        };
        let tenant = match (tenant, self.unknown, &self.default) {
            (Err(Unidentified::TenantUnknown), Unknown::Default, Some(default)) => Ok(default.clone()),
            (tenant, ..) => tenant,
        };
        let user = match self.user.name(asker, &mut client, facts, effects) {
            Name::Is(bytes) => User::new(&bytes),
            Name::Refused | Name::Missing => None,
        };
        if user.is_none() && reads == ReadsAddress::OfUnnamed {
            client.address(asker.headers, facts);
        }
        let tenant = match (&user, self.user_required) {
            (None, true) => tenant.and(Err(Unidentified::UserMissing)),
            _ => tenant,
        };
        Resolved { tenant, user, client_ip: client.known.flatten() }
    }
}

enum Name {
    Is(Vec<u8>),
    Refused,
    Missing,
}

impl Sources {
    fn compile(
        wires: Vec<SourceWire>,
        strip: Vec<String>,
        site: &Site,
        for_user: bool,
        errors: &mut ConfigErrors,
    ) -> Self {
        let from = site.key("from");
        let list: Vec<_> = wires
            .into_iter()
            .enumerate()
            .filter_map(|(i, wire)| Source::compile(wire, &from.index(i), for_user, errors))
            .collect();
        let strip = strip.into_iter().map(|name| name.to_ascii_lowercase());
        let strip = strip
            .filter(|name| {
                !list.iter().any(|(s, _)| matches!(s, Source::Header { name: known, .. } if known == name))
            })
            .collect();
        Self { list, strip }
    }

    /// Strips names that only an application takes for one that is believed or stripped: `X_User_Id` beside `x-user-id`.
    fn strip_lookalikes(&self, headers: &Headers<'_>, effects: &mut Effects) {
        let believed = self.list.iter().filter_map(|(source, _)| match source {
            Source::Header { name, .. } => Some(name),
            _ => None,
        });
        for known in believed.chain(&self.strip) {
            let known = known.as_bytes();
            let alike = |name: &[u8]| {
                name.len() == known.len() && !name.eq_ignore_ascii_case(known) && is_same_to_cgi(name, known)
            };
            for (name, _) in headers.iter().filter(|(name, _)| alike(name)) {
                if let Ok(name) = std::str::from_utf8(name) {
                    effects.push(Effect::RemoveRequestHeader(name.into()));
                }
            }
        }
    }

    fn name(
        &self,
        asker: &Asker<'_>,
        client: &mut Client,
        facts: &mut dyn Facts,
        effects: &mut Effects,
    ) -> Name {
        for name in &self.strip {
            if asker.headers.first(name).is_some() {
                effects.push(Effect::RemoveRequestHeader(name.as_str().into()));
            }
        }
        self.strip_lookalikes(asker.headers, effects);
        let mut answer = Name::Missing;
        for (source, allow) in &self.list {
            // All headers are looked at, so that each that nobody vouches for is stripped.
            if !matches!((source, &answer), (Source::Header { .. }, _) | (_, Name::Missing)) {
                continue;
            }
            let found = source.value(asker, client, facts, effects);
            if let (Name::Missing, Some(bytes)) = (&answer, found) {
                answer = match allow {
                    // Two values: whoever reads the other one would see another name.
                    _ if source.is_ambiguous(asker.headers) => Name::Refused,
                    Some(allowed) if !allowed.holds(&bytes) => Name::Refused,
                    _ => Name::Is(bytes),
                };
            }
        }
        answer
    }
}

impl Source {
    fn compile(
        wire: SourceWire,
        site: &Site,
        for_user: bool,
        errors: &mut ConfigErrors,
    ) -> Option<(Self, Option<Allowed>)> {
        let allow = wire.allow.as_deref().and_then(|text| compile_regex(text, &site.key("allow"), errors));
        let allow = allow.map(Allowed::new);
        let mut sources = Vec::new();
        if let Some(name) = wire.header {
            sources.push(Self::header(&name, wire.set_by.as_deref(), site, errors)?);
        } else if wire.set_by.is_some() {
            errors.error(&site.key("set_by"), "belongs to a header", "add `header`, or remove it");
        }
        sources.extend(wire.host_label.map(|n| Self::HostLabel(usize::from(n))));
        sources.extend(wire.path_segment.map(|n| Self::PathSegment(usize::from(n))));
        sources.extend(wire.jwt_claim.map(Self::JwtClaim));
        sources.extend(wire.mtls_subject.map(Self::PeerSubject));
        sources.extend(wire.fixed.map(Self::Fixed));
        if wire.client_ip == Some(true) {
            if !for_user {
                errors.error(&site.key("client_ip"), "does not name a tenant", "use it under user.from");
            }
            sources.push(Self::ClientIp);
        }
        let count = sources.len();
        match (sources.pop(), count) {
            (Some(source), 1) => Some((source, allow)),
            _ => {
                errors.error(
                    site,
                    format!("names {count} sources"),
                    "exactly one of header, host_label, path_segment, jwt_claim, mtls_subject, fixed, client_ip",
                );
                None
            }
        }
    }

    fn header(name: &str, set_by: Option<&str>, site: &Site, errors: &mut ConfigErrors) -> Option<Self> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            errors.error(
                &site.key("header"),
                format!("{name:?} is not a header name"),
                "letters, digits and `-`",
            );
            return None;
        }
        let set_by = match set_by {
            None => {
                errors.error(
                    &site.key("set_by"),
                    "is missing: a client could name itself in this header",
                    "name the filter that sets it, like `jwt_authn` or `ext_authz`",
                );
                return None;
            }
            Some("client") => {
                errors.warning(
                    &site.key("set_by"),
                    format!("`client` believes whatever a client writes into `{name}`"),
                    "for demonstrations only; name the filter that sets it, like `jwt_authn`",
                );
                Mark::Client
            }
            Some(filter) if filter.contains('.') => Mark::Filter(filter.to_owned()),
            Some(filter) => Mark::Filter(format!("envoy.filters.http.{filter}")),
        };
        Some(Self::Header { name: name.to_ascii_lowercase(), set_by })
    }

    fn is_ambiguous(&self, headers: &Headers<'_>) -> bool {
        matches!(self, Self::Header { name, .. } if headers.all(name).nth(1).is_some())
    }

    fn value(
        &self,
        asker: &Asker<'_>,
        client: &mut Client,
        facts: &mut dyn Facts,
        effects: &mut Effects,
    ) -> Option<Vec<u8>> {
        let bytes = match self {
            Self::Header { name, set_by } => {
                let value = asker.headers.first(name)?;
                let believed = match set_by {
                    Mark::Client => true,
                    Mark::Filter(filter) => facts.fact(Fact::FilterMark(filter)).is_some(),
                };
                if !believed {
                    effects.push(Effect::RemoveRequestHeader(name.as_str().into()));
                    return None;
                }
                value.trim_ascii().to_vec()
            }
            Self::HostLabel(n) => {
                without_port(asker.host).split(|b| *b == b'.').nth(*n)?.to_ascii_lowercase()
            }
            Self::PathSegment(n) => asker.path.split(|b| *b == b'/').skip(1).nth(*n)?.to_vec(),
            Self::JwtClaim(claim) => facts.fact(Fact::JwtClaim(claim))?,
            Self::PeerSubject(attribute) => subject_attribute(&facts.fact(Fact::PeerSubject)?, attribute)?,
            Self::Fixed(name) => name.clone().into_bytes(),
            Self::ClientIp => client.address(asker.headers, facts)?.to_string().into_bytes(),
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// The value of an attribute in an RFC 2253 subject like `CN=app,O=acme`. Escaped characters refuse the whole.
fn subject_attribute(subject: &[u8], attribute: &str) -> Option<Vec<u8>> {
    if subject.contains(&b'\\') || subject.contains(&b'"') {
        return None;
    }
    subject.split(|b| *b == b',').find_map(|part| {
        let mut halves = part.trim_ascii().splitn(2, |b| *b == b'=');
        let key = halves.next()?;
        key.eq_ignore_ascii_case(attribute.as_bytes()).then(|| halves.next().unwrap_or_default().to_vec())
    })
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
