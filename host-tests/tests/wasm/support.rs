//! Modules, compiled once, and shorthands.

use std::{path::Path, sync::OnceLock};

use portcullis_host_tests::{
    host::{Message, Module, Options, Outcome, Process, Request, Vm},
    run,
};
use serde_json::Value;
use xtask::layout::Layout;

/// The module with the whole chain.
pub fn portcullis() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE
        .get_or_init(|| load(&Layout::of_this_checkout().module().unwrap_or_else(|error| panic!("{error}"))))
}

/// The module with the whole chain that also seals.
pub fn sealing() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        load(&Layout::of_this_checkout().seal_module().unwrap_or_else(|error| panic!("{error}")))
    })
}

/// The module that traps when it is told to.
pub fn panicking() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        load(&Layout::of_this_checkout().panic_module().unwrap_or_else(|error| panic!("{error}")))
    })
}

/// The module for hosts that forbid what is optional.
pub fn restricted() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| load(&restricted_file()))
}

/// Its file.
pub fn restricted_file() -> std::path::PathBuf {
    Layout::of_this_checkout().policy_module("restricted").unwrap_or_else(|error| panic!("{error}"))
}

/// The module with one policy.
pub fn single(policy: &str) -> Module {
    load(&Layout::of_this_checkout().policy_module(policy).unwrap_or_else(|error| panic!("{error}")))
}

fn load(file: &Path) -> Module {
    Module::load(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A worker of the whole module, set up as in our bootstrap.
pub fn worker(process: &Process, configuration: &Value) -> Vm {
    worker_with(process, &run::options(), configuration)
}

/// A worker of the whole module.
pub fn worker_with(process: &Process, options: &Options, configuration: &Value) -> Vm {
    Vm::serve(portcullis(), process, options, configuration.to_string().as_bytes())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Sends a request to an application that answers `ok`.
pub fn exchange(vm: &mut Vm, request: &Request) -> Outcome {
    vm.exchange(request, &Message::answer(200, "ok")).unwrap_or_else(|error| {
        let log: Vec<String> = vm.process().log().into_iter().map(|line| line.text).collect();
        panic!("{error}\n{}", log.join("\n"))
    })
}

/// The status that the client got.
pub fn status(outcome: &Outcome) -> Option<u16> {
    outcome.downstream.headers.as_ref().and_then(|headers| headers.status())
}

/// Sends a request and answers the status that the client got.
pub fn status_of(vm: &mut Vm, request: &Request) -> Option<u16> {
    status(&exchange(vm, request))
}

/// The texts of the log.
pub fn log(process: &Process) -> String {
    process.log().into_iter().map(|line| line.text + "\n").collect()
}
