//! How the companion and what it runs on fare: the machine's figures, durations of the last minutes, and a score of them.
//!
//! Nothing here asks or answers over HTTP; [`crate::api`] does.

pub mod machine;
pub mod score;
pub mod window;
