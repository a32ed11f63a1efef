//! What a process that holds keys forbids itself: to leave its memory behind in a core dump, and to be read by others of the
//! same user (`ptrace`, `/proc/PID/mem`, `/proc/PID/environ`), where the system can forbid it.
//!
//! Not defended against: root, a memory dump of the machine, swap. Swap is switched off or encrypted by who runs the machine.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids it, for good. Tells what the system did not grant; the companion serves all the same.
pub fn forbid_dumps() -> Result<(), rustix::io::Errno> {
    let limit = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // Beyond the limit: a core that is piped to a program is not bounded by it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).and(limit)
}
