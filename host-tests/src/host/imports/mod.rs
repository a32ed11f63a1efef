//! The host's functions.

mod calls;
mod headers;
mod stream;
mod wasi;

use wasmtime::{Caller, Linker};

use super::{
    guest::Guest,
    state::State,
    status::{Done, Fault, Status},
};

/// Links every function of the ABI.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    headers::link(linker)?;
    stream::link(linker)?;
    calls::link(linker)?;
    wasi::link(linker)
}

/// Runs one host call: notes it, refuses it where the profile says so, and turns its outcome into a status.
fn host_call(
    caller: &mut Caller<'_, State>,
    name: &'static str,
    work: impl FnOnce(&mut Guest<'_, '_>) -> Done,
) -> wasmtime::Result<u32> {
    if caller.data().options.profile.forbids(name) {
        return Err(wasmtime::Error::msg(format!("{name}: this host forbids it")));
    }
    let mut guest = match Guest::enter(caller, name) {
        Ok(guest) => guest,
        Err(status) => return Ok(status as u32),
    };
    match work(&mut guest) {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Fatal(why)) => Err(wasmtime::Error::msg(format!("{name}: {why}"))),
        Err(Fault::Trap(trap)) => Err(trap),
    }
}

/// Links functions of module `env`: name, guest, arguments, body.
macro_rules! functions {
    ($linker:ident; $($name:ident($guest:ident $(, $argument:ident: $type:ty)*) $body:block)*) => {$(
        $linker.func_wrap(
            "env",
            stringify!($name),
            |mut caller: wasmtime::Caller<'_, super::State> $(, $argument: $type)*| -> wasmtime::Result<u32> {
                super::host_call(&mut caller, stringify!($name), |$guest| $body)
            },
        )?;
    )*};
}
use functions;
