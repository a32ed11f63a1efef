//! The audit policy.
