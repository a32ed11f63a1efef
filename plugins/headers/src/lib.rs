//! The headers policy.
