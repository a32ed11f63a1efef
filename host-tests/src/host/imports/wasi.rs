//! WASI preview 1, as far as proxies offer it: output becomes log lines, clocks are virtual, randomness follows the seed,
//! there is no file system.

use wasmtime::{Caller, Linker};

use super::super::{
    guest::Guest,
    state::State,
    status::{Done, Fault, Status},
};

const MODULE: &str = "wasi_snapshot_preview1";
/// Error numbers of WASI.
const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOSYS: u32 = 52;

fn wasi_call(
    caller: &mut Caller<'_, State>,
    name: &'static str,
    work: impl FnOnce(&mut Guest<'_, '_>) -> Done,
) -> u32 {
    match Guest::enter(caller, name) {
        // A denied call answers "not supported".
        Err(_) => NOSYS,
        Ok(mut guest) => match work(&mut guest) {
            Ok(()) => SUCCESS,
            Err(Fault::Status(Status::InvalidMemoryAccess)) => FAULT,
            Err(Fault::Status(Status::NotFound)) => BADF,
            Err(_) => INVAL,
        },
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, State>, fd: u32, list: u32, count: u32, done: u32| {
            wasi_call(&mut caller, "fd_write", |guest| fd_write(guest, fd, list, count, done))
        },
    )?;
    linker.func_wrap(MODULE, "random_get", |mut caller: Caller<'_, State>, at: u32, size: u32| {
        wasi_call(&mut caller, "random_get", |guest| {
            let process = guest.process();
            let drawn = std::iter::repeat_with(|| process.random().to_le_bytes());
            let bytes: Vec<u8> = drawn.flatten().take(size as usize).collect();
            Ok(guest.write(at, &bytes)?)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |mut caller: Caller<'_, State>, clock: u32, _: u64, time: u32| {
            wasi_call(&mut caller, "clock_time_get", |guest| {
                let process = guest.process();
                let now = match clock {
                    0 => process.wall_ns(),
                    1 => process.monotonic_ns(),
                    _ => return Err(Status::BadArgument.into()),
                };
                Ok(guest.write_u64(time, now)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        |mut caller: Caller<'_, State>, count: u32, size: u32| {
            wasi_call(&mut caller, "environ_sizes_get", |guest| {
                let variables = environment(guest.state());
                guest.write_u32(count, u32::try_from(variables.len()).unwrap_or(0))?;
                let bytes: usize = variables.iter().map(Vec::len).sum();
                Ok(guest.write_u32(size, u32::try_from(bytes).unwrap_or(0))?)
            })
        },
    )?;
    linker.func_wrap(MODULE, "environ_get", |mut caller: Caller<'_, State>, pointers: u32, bytes: u32| {
        wasi_call(&mut caller, "environ_get", |guest| {
            let (mut pointer, mut at) = (pointers, bytes);
            for variable in environment(guest.state()) {
                guest.write_u32(pointer, at)?;
                guest.write(at, &variable)?;
                pointer = pointer.saturating_add(4);
                at = at.saturating_add(u32::try_from(variable.len()).unwrap_or(0));
            }
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Caller<'_, State>, count: u32, size: u32| {
        wasi_call(&mut caller, "args_sizes_get", |guest| {
            guest.write_u32(count, 0)?;
            Ok(guest.write_u32(size, 0)?)
        })
    })?;
    linker.func_wrap(MODULE, "args_get", |mut caller: Caller<'_, State>, _: u32, _: u32| {
        wasi_call(&mut caller, "args_get", |_| Ok(()))
    })?;
    linker.func_wrap(MODULE, "sched_yield", |mut caller: Caller<'_, State>| {
        wasi_call(&mut caller, "sched_yield", |_| Ok(()))
    })?;
    linker.func_wrap(MODULE, "fd_prestat_get", |mut caller: Caller<'_, State>, _: u32, _: u32| {
        // No folder is open: this is how a start-up finds out.
        wasi_call(&mut caller, "fd_prestat_get", |_| Err(Status::NotFound.into()))
    })?;
    linker.func_wrap(
        MODULE,
        "proc_exit",
        |mut caller: Caller<'_, State>, code: u32| -> wasmtime::Result<()> {
            caller.data_mut().trace.note("proc_exit");
            Err(wasmtime::Error::msg(format!("the module exited with {code}")))
        },
    )?;
    Ok(())
}

fn environment(state: &State) -> Vec<Vec<u8>> {
    state.options.environment.iter().map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

fn fd_write(guest: &mut Guest<'_, '_>, fd: u32, list: u32, count: u32, done: u32) -> Done {
    let level = match fd {
        1 => 2,
        2 => 4,
        _ => return Err(Status::NotFound.into()),
    };
    let mut text = Vec::new();
    for number in 0..count.min(1024) {
        let entry = list.saturating_add(number.saturating_mul(8));
        let (at, size) = (guest.read_u32(entry)?, guest.read_u32(entry.saturating_add(4))?);
        text.extend(guest.bytes(at, size)?);
    }
    guest.write_u32(done, u32::try_from(text.len()).unwrap_or(u32::MAX))?;
    let number = guest.state().number;
    guest.process().write_log(number, level, text.trim_ascii_end());
    Ok(())
}
