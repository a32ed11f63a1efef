//! What make cannot say well: building the modules, running the whole of Portcullis, keeping the repository tidy.
//!
//! It is a library too, so that end-to-end tests run exactly what `make run` runs: see [`stack::Stack`].
//!
//! - [`layout`] knows where things lie, and what to do when one is missing;
//! - [`ports`], [`process`], [`http`], [`secrets`] and [`clock`] are small and know nothing of Portcullis;
//! - [`bootstrap`] renders `envoy/bootstrap.yaml`, [`local_reply`] what Envoy's own replies carry;
//! - [`stack`] starts, watches and stops the companion, the upstream and Envoy;
//! - [`postgres`] starts a database server of one's own, [`pgbouncer`] and [`prometheus`] are found, [`browser`]
//!   starts a browser, for tests;
//! - [`upstream`] is the demonstration application behind Envoy;
//! - [`reference`] renders the configuration's schema for people, `families` what sanitize knows;
//! - [`commands`] are the subcommands behind the Makefile.
//!
//! It is a developer's tool: it does not daemonize for production, and restarts nothing by itself.

pub mod bootstrap;
pub mod browser;
pub mod clock;
pub mod commands;
mod families;
pub mod http;
pub mod layout;
pub mod local_reply;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod reference;
pub mod secrets;
pub mod stack;
pub mod upstream;
