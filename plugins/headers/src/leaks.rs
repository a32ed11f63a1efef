//! Response headers that tell which software runs, in which version, on which machine.
//!
//! The names are those that servers, frameworks, content systems and tracing tools are known to send; OWASP's Secure
//! Headers Project keeps such a list. In lower case, sorted.

/// Sorted, for binary search; `tests` hold it to that.
pub(crate) static LEAKS: &[&str] = &[
    "$wsep",
    "host-header",
    "k-proxy-request",
    "liferay-portal",
    "micro-service",
    "oraclecommercecloud-version",
    "pega-host",
    "powered-by",
    "product",
    "server",
    "server-version",
    "sourcemap",
    "via-backend",
    "x-app-server",
    "x-app-version",
    "x-application-context",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "x-atmosphere-error",
    "x-atmosphere-first-request",
    "x-atmosphere-tracking-id",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-backend",
    "x-backend-server",
    "x-backside-transport",
    "x-beserver",
    "x-calculatedbetarget",
    "x-cf-powered-by",
    "x-cms",
    "x-cocoon-version",
    "x-content-encoded-by",
    "x-debug-token",
    "x-debug-token-link",
    "x-diaginfo",
    "x-drupal-cache",
    "x-drupal-dynamic-cache",
    "x-dtagentid",
    "x-dthealthcheck",
    "x-dtinjectedservlet",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-dst-host",
    "x-envoy-upstream-service-time",
    "x-feserver",
    "x-framework",
    "x-generated-by",
    "x-generator",
    "x-jenkins",
    "x-jenkins-session",
    "x-jitsi-release",
    "x-joomla-version",
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
    "x-litespeed-cache",
    "x-litespeed-cache-control",
    "x-litespeed-purge",
    "x-litespeed-tag",
    "x-litespeed-vary",
    "x-mod-pagespeed",
    "x-nextjs-cache",
    "x-nextjs-matched-path",
    "x-nextjs-page",
    "x-nextjs-redirect",
    "x-node",
    "x-old-content-length",
    "x-oneagent-js-injection",
    "x-owa-version",
    "x-page-speed",
    "x-php-version",
    "x-pingback",
    "x-powered-by",
    "x-powered-by-plesk",
    "x-powered-cms",
    "x-redirect-by",
    "x-runtime",
    "x-ruxit-js-agent",
    "x-server",
    "x-server-name",
    "x-server-powered-by",
    "x-sourcefiles",
    "x-sourcemap",
    "x-turbo-charged-by",
    "x-umbraco-version",
    "x-upstream",
    "x-varnish",
    "x-varnish-backend",
    "x-varnish-server",
    "x-version",
];

/// Bytes of the longest of them.
const LONGEST: usize = 33;

/// The letters (and `$`, as bit 0) with which they begin: most names of a response are told apart by that.
const BEGINNINGS: u32 = {
    let (mut bits, mut at) = (0, 0);
    while at < LEAKS.len() {
        #[expect(
            clippy::indexing_slicing,
            reason = "evaluated by the compiler, which stops where it is wrong"
        )]
        let first = LEAKS[at].as_bytes()[0];
        bits |= beginning(first);
        at += 1;
    }
    bits
};

const fn beginning(byte: u8) -> u32 {
    match byte {
        b'$' => 1,
        b'a'..=b'z' | b'A'..=b'Z' => 1 << (byte & 31),
        _ => 0,
    }
}

/// Whether a name, in any case, is one of them.
pub(crate) fn is_leak(name: &[u8]) -> bool {
    let Some(first) = name.first().filter(|_| name.len() <= LONGEST) else { return false };
    if beginning(*first) & BEGINNINGS == 0 {
        return false;
    }
    let listed = |name: &[u8]| LEAKS.binary_search_by(|known| known.as_bytes().cmp(name)).is_ok();
    // HTTP/2 and proxies have names in lower case already.
    listed(name) || (name.iter().any(u8::is_ascii_uppercase) && listed(&name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_its_neighbours_are_not() {
        assert_eq!(LEAKS.iter().map(|name| name.len()).max(), Some(LONGEST));
        for name in LEAKS {
            assert!(is_leak(name.as_bytes()) && is_leak(name.to_ascii_uppercase().as_bytes()), "{name}");
            for other in [format!("{name}x"), name[1..].to_owned(), format!("a{name}")] {
                assert_eq!(is_leak(other.as_bytes()), LEAKS.contains(&other.as_str()), "{other}");
            }
        }
        for name in [&b""[..], b":status", b"content-type", b"set-cookie", b"date", b"\xff", &[b'x'; 500]] {
            assert!(!is_leak(name));
        }
    }
}
