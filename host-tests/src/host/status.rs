//! Status numbers of the ABI.

/// What a host call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// There is no such thing.
    NotFound = 1,
    /// An argument that the host cannot use.
    BadArgument = 2,
    /// A serialized map that cannot be read.
    ParseFailure = 4,
    /// Pointer or size beyond the module's memory.
    InvalidMemoryAccess = 6,
    /// Nothing waits.
    Empty = 7,
    /// Somebody else stored first.
    CasMismatch = 8,
    /// Denied, or failed inside the host.
    InternalFailure = 10,
    /// This host does not offer the call.
    Unimplemented = 12,
}

/// How a host call ends when it does not succeed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The module is told.
    Status(Status),
    /// The module is stopped: it did what would take a real proxy down.
    Fatal(String),
    /// The module's allocator trapped.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

pub(crate) type Done = Result<(), Fault>;
