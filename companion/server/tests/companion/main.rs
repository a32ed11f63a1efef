//! A whole companion on real sockets: deliveries, answers, refusals, ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod access;
mod api;
mod bad_input;
mod commands;
mod dashboard;
mod database;
mod databases;
mod description;
mod edge;
mod events;
mod export;
mod ext_authz;
mod functions;
mod grpc;
mod ingest;
mod inspect;
mod key_service;
mod keys;
mod limits;
mod load;
mod logs;
mod monitoring;
mod outage;
mod people;
mod plans;
mod policies;
mod push;
mod reports;
mod sessions;
mod storage;
mod support;
mod tenants;
mod trail;
