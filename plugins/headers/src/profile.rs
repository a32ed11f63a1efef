//! The sets of headers to start from.

/// A header of a profile.
pub(crate) struct Preset {
    pub name: &'static str,
    pub value: &'static str,
    pub https_only: bool,
}

const fn always(name: &'static str, value: &'static str) -> Preset {
    Preset { name, value, https_only: false }
}

/// Over plain HTTP browsers ignore it (RFC 6797, 7.2).
const fn https(name: &'static str, value: &'static str) -> Preset {
    Preset { name, value, https_only: true }
}

/// What a profile consists of.
pub(crate) struct Base {
    pub headers: &'static [Preset],
    /// Directives and their sources.
    pub csp: &'static [(&'static str, &'static str)],
    /// Features and who may use them; nobody where that is empty.
    pub permissions: &'static [(&'static str, &'static str)],
    /// Whether cookies are hardened.
    pub cookies: bool,
    /// Whether headers that browsers have dropped are removed.
    pub obsolete: bool,
}

/// Nothing.
pub(crate) static NONE: Base =
    Base { headers: &[], csp: &[], permissions: &[], cookies: false, obsolete: false };

/// The set that was asked for to the letter. Some of it is dated (`X-XSS-Protection`) or weak (`'unsafe-inline'`): `web`
/// is the better one, where the application allows.
pub(crate) static REQUIRED: Base = Base {
    headers: &[
        always("x-xss-protection", "1; mode=block"),
        always("x-content-type-options", "nosniff"),
        always("x-frame-options", "DENY"),
        always("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        always("referrer-policy", "strict-origin-when-cross-origin"),
        always("cross-origin-embedder-policy", "require-corp"),
        always("cross-origin-opener-policy", "same-origin"),
        always("cross-origin-resource-policy", "same-origin"),
    ],
    csp: &[
        ("default-src", "'self'"),
        ("script-src", "'self' 'unsafe-inline' https://js.stripe.com"),
        ("style-src", "'self' 'unsafe-inline'"),
        ("img-src", "'self' data: https:"),
        ("font-src", "'self' data:"),
        ("connect-src", "'self' https://api.stripe.com"),
        ("frame-src", "https://js.stripe.com https://hooks.stripe.com"),
        ("object-src", "'none'"),
        ("base-uri", "'self'"),
        ("form-action", "'self'"),
        ("frame-ancestors", "'none'"),
    ],
    permissions: &[
        ("geolocation", ""),
        ("microphone", ""),
        ("camera", ""),
        ("payment", "self"),
        ("usb", ""),
        ("magnetometer", ""),
        ("gyroscope", ""),
        ("accelerometer", ""),
        ("midi", ""),
        ("serial", ""),
        ("bluetooth", ""),
    ],
    cookies: false,
    obsolete: false,
};

/// What suits most web applications today (OWASP Secure Headers Project, MDN): no header that browsers have dropped,
/// no embedder policy that breaks pages with foreign images, no promise to be preloaded that is hard to take back.
pub(crate) static WEB: Base = Base {
    headers: &[
        always("x-content-type-options", "nosniff"),
        always("x-frame-options", "DENY"),
        https("strict-transport-security", "max-age=31536000; includeSubDomains"),
        always("referrer-policy", "strict-origin-when-cross-origin"),
        always("cross-origin-opener-policy", "same-origin"),
        always("cross-origin-resource-policy", "same-origin"),
        always("x-permitted-cross-domain-policies", "none"),
        always("origin-agent-cluster", "?1"),
    ],
    csp: &[
        ("default-src", "'self'"),
        ("script-src", "'self' 'nonce-{nonce}'"),
        ("style-src", "'self'"),
        ("img-src", "'self' data:"),
        ("font-src", "'self'"),
        ("connect-src", "'self'"),
        ("object-src", "'none'"),
        ("base-uri", "'none'"),
        ("form-action", "'self'"),
        ("frame-ancestors", "'none'"),
        ("upgrade-insecure-requests", ""),
    ],
    permissions: FEW,
    cookies: true,
    obsolete: true,
};

/// What answers programs and shows nothing: a browser that opens such an answer runs, loads and frames nothing, and
/// no cache keeps it (OWASP REST Security Cheat Sheet).
pub(crate) static API: Base = Base {
    headers: &[
        always("x-content-type-options", "nosniff"),
        always("x-frame-options", "DENY"),
        https("strict-transport-security", "max-age=31536000; includeSubDomains"),
        always("referrer-policy", "no-referrer"),
        always("cross-origin-opener-policy", "same-origin"),
        always("cross-origin-resource-policy", "same-origin"),
        always("x-permitted-cross-domain-policies", "none"),
        always("x-dns-prefetch-control", "off"),
        always("cache-control", "no-store, max-age=0"),
    ],
    csp: &[
        ("default-src", "'none'"),
        ("base-uri", "'none'"),
        ("form-action", "'none'"),
        ("frame-ancestors", "'none'"),
        ("sandbox", ""),
    ],
    permissions: ALL,
    cookies: true,
    obsolete: true,
};

/// All that browsers offer, for an application that was written for it: what OWASP's validator expects (with
/// `clear_site_data` on the logout route), and what Mozilla's Observatory gives points for.
pub(crate) static STRICT: Base = Base {
    headers: &[
        always("x-content-type-options", "nosniff"),
        always("x-frame-options", "DENY"),
        https("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        always("referrer-policy", "no-referrer"),
        always("cross-origin-embedder-policy", "require-corp"),
        always("cross-origin-opener-policy", "same-origin"),
        always("cross-origin-resource-policy", "same-origin"),
        always("x-permitted-cross-domain-policies", "none"),
        always("x-dns-prefetch-control", "off"),
        always("origin-agent-cluster", "?1"),
        always("cache-control", "no-store, max-age=0"),
    ],
    csp: &[
        ("default-src", "'none'"),
        ("script-src", "'self' 'nonce-{nonce}' 'strict-dynamic'"),
        ("style-src", "'self'"),
        ("img-src", "'self'"),
        ("font-src", "'self'"),
        ("connect-src", "'self'"),
        ("manifest-src", "'self'"),
        ("object-src", "'none'"),
        ("base-uri", "'none'"),
        ("form-action", "'self'"),
        ("frame-ancestors", "'none'"),
        ("require-trusted-types-for", "'script'"),
        ("upgrade-insecure-requests", ""),
    ],
    permissions: ALL,
    cookies: true,
    obsolete: true,
};

const FEW: &[(&str, &str)] = &[
    ("accelerometer", ""),
    ("bluetooth", ""),
    ("camera", ""),
    ("display-capture", ""),
    ("geolocation", ""),
    ("gyroscope", ""),
    ("hid", ""),
    ("magnetometer", ""),
    ("microphone", ""),
    ("midi", ""),
    ("payment", ""),
    ("serial", ""),
    ("usb", ""),
];

/// What OWASP's validator looks for, and two that are newer.
const ALL: &[(&str, &str)] = &[
    ("accelerometer", ""),
    ("autoplay", ""),
    ("bluetooth", ""),
    ("browsing-topics", ""),
    ("camera", ""),
    ("clipboard-read", ""),
    ("clipboard-write", ""),
    ("cross-origin-isolated", ""),
    ("display-capture", ""),
    ("encrypted-media", ""),
    ("fullscreen", ""),
    ("gamepad", ""),
    ("geolocation", ""),
    ("gyroscope", ""),
    ("hid", ""),
    ("idle-detection", ""),
    ("interest-cohort", ""),
    ("keyboard-map", ""),
    ("magnetometer", ""),
    ("microphone", ""),
    ("midi", ""),
    ("payment", ""),
    ("picture-in-picture", ""),
    ("publickey-credentials-get", ""),
    ("screen-wake-lock", ""),
    ("serial", ""),
    ("sync-xhr", ""),
    ("unload", ""),
    ("usb", ""),
    ("web-share", ""),
    ("xr-spatial-tracking", ""),
];

/// Headers that browsers have dropped or that do harm: `HPKP` can lock visitors out, `X-XSS-Protection` opened holes of
/// its own. Sorted.
pub(crate) static OBSOLETE: &[&str] =
    &["expect-ct", "feature-policy", "public-key-pins", "public-key-pins-report-only", "x-xss-protection"];
