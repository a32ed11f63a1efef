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

/// The set that was asked for to the letter. Some of it is dated (`X-XSS-Protection`) or weak (`'unsafe-inline'`): `web`
/// is the better one, where the application allows.
pub(crate) static REQUIRED: &[Preset] = &[
    always("x-xss-protection", "1; mode=block"),
    always("x-content-type-options", "nosniff"),
    always("x-frame-options", "DENY"),
    always(
        "content-security-policy",
        "default-src 'self'; script-src 'self' 'unsafe-inline' https://js.stripe.com; \
         style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; font-src 'self' data:; \
         connect-src 'self' https://api.stripe.com; frame-src https://js.stripe.com https://hooks.stripe.com; \
         object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    ),
    always("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    always("referrer-policy", "strict-origin-when-cross-origin"),
    always(
        "permissions-policy",
        "geolocation=(), microphone=(), camera=(), payment=(self), usb=(), magnetometer=(), gyroscope=(), \
         accelerometer=(), midi=(), serial=(), bluetooth=()",
    ),
    always("cross-origin-embedder-policy", "require-corp"),
    always("cross-origin-opener-policy", "same-origin"),
    always("cross-origin-resource-policy", "same-origin"),
];

/// What suits most web applications today (OWASP Secure Headers Project, MDN): no header that browsers have dropped,
/// no embedder policy that breaks pages with foreign images, no promise to be preloaded that is hard to take back.
pub(crate) static WEB: &[Preset] = &[
    always("x-content-type-options", "nosniff"),
    always("x-frame-options", "DENY"),
    always(
        "content-security-policy",
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         upgrade-insecure-requests",
    ),
    Preset {
        name: "strict-transport-security",
        value: "max-age=31536000; includeSubDomains",
        https_only: true,
    },
    always("referrer-policy", "strict-origin-when-cross-origin"),
    always(
        "permissions-policy",
        "accelerometer=(), bluetooth=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), \
         magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=()",
    ),
    always("cross-origin-opener-policy", "same-origin"),
    always("cross-origin-resource-policy", "same-origin"),
    always("x-permitted-cross-domain-policies", "none"),
    always("origin-agent-cluster", "?1"),
];
