//! The companion of Portcullis: takes the modules' audit records, keeps them, and answers for them.
//!
//! Two listeners with nothing in common but the store: [`ingest`] for modules, [`api`] for people and
//! programs. [`storage`] is the seam to the database. [`companion`] puts the parts together; the binary adds
//! the command line ([`cli`], [`commands`]). A program may run it within itself, and call [`functions`].

pub mod alerts;
pub mod api;
pub mod bouncer;
pub mod business;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod companion;
pub mod databases;
pub mod event;
pub mod export;
pub mod functions;
pub mod hardening;
pub mod http;
pub mod ingest;
pub mod inspect;
pub mod keys;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod monitoring;
pub mod password;
pub mod policies;
pub mod secret;
pub mod sessions;
pub mod settings;
pub mod storage;
pub mod tenant;
pub mod token;
pub mod trail;
pub mod units;
