//! The sanitize policy.
