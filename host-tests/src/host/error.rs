//! What can go wrong between host and module.

/// Why a VM could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The bytes are not a module that this host can run.
    #[error("the module does not compile: {0}")]
    Compile(String),
    /// The module's file cannot be read.
    #[error("{0}")]
    Read(String),
    /// It needs a function that this host does not have.
    #[error("the module cannot be started: {0}")]
    Link(String),
    /// It trapped; the VM is of no use any more.
    #[error("{callback} trapped: {cause}")]
    Trapped {
        /// The callback that ran.
        callback: &'static str,
        /// Why.
        cause: Trap,
    },
    /// It trapped before.
    #[error("the VM has trapped before")]
    Dead,
    /// The module does not want to start, or refuses its configuration.
    #[error("{callback} was answered with false:\n{log}")]
    Refused {
        /// Which callback.
        callback: &'static str,
        /// What the module has logged.
        log: String,
    },
    /// There is no such stream or call.
    #[error("there is no {0}")]
    Unknown(String),
}

/// Why a module was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trap {
    /// It burned all the fuel that one callback may.
    Fuel,
    /// It panicked, or did what WebAssembly forbids.
    Code(String),
    /// The host stopped it.
    Host(String),
}

impl std::fmt::Display for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fuel => f.write_str("out of fuel"),
            Self::Code(text) | Self::Host(text) => f.write_str(text),
        }
    }
}

impl From<&wasmtime::Error> for Trap {
    fn from(error: &wasmtime::Error) -> Self {
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::OutOfFuel) => Self::Fuel,
            Some(trap) => Self::Code(trap.to_string()),
            None => Self::Host(error.root_cause().to_string()),
        }
    }
}
