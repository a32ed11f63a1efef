//! Why something cannot be sealed, and what a client is told.

/// Why something cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The tenant has no key in the configuration.
    NoKey,
    /// The host gives no randomness that is fit for keys.
    NoRandomness,
    /// A part of the request has left already.
    NotHeld,
    /// Beyond `body_max_bytes`.
    BodyTooLarge,
    /// Beyond `value_max_bytes`.
    ValueTooLarge,
    /// Beyond `values_max`.
    TooMany,
    /// It is not the JSON or form that it claims to be.
    Unreadable,
    /// A body of another type, charset or encoding.
    MediaType,
}

impl Cause {
    /// Status, reason and title of the refusal.
    pub const fn answer(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::NoKey => (503, "seal-key-missing", "The request's fields cannot be protected"),
            Self::NoRandomness => {
                (503, "seal-randomness-missing", "The request's fields cannot be protected")
            }
            Self::NotHeld => (503, "seal-body-not-held", "The request's fields cannot be protected"),
            Self::BodyTooLarge => (413, "seal-body-too-large", "Body too large to be protected"),
            Self::ValueTooLarge => (413, "seal-value-too-large", "Value too large to be protected"),
            Self::TooMany => (413, "seal-too-many-values", "Too many values to be protected"),
            Self::Unreadable => (400, "seal-body-unreadable", "Body is not what it claims to be"),
            Self::MediaType => (415, "seal-body-type", "Body of a type that cannot be protected"),
        }
    }
}
