//! The rate-limit policy.
