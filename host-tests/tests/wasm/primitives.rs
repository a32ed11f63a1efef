//! The cryptographic primitives against published vectors, as a module: code for 32 bits is other code than what a native test runs.

use wasmtime::{Caller, Config, Engine, Extern, Linker, Module, OptLevel, Store, Val};
use xtask::layout::Layout;

const WASI: &str = "wasi_snapshot_preview1";
const SUCCESS: i32 = 0;
/// WASI's "not supported".
const NOSYS: i32 = 52;

/// What the program has printed, and its exit code.
#[derive(Default)]
struct Run {
    printed: Vec<u8>,
    code: Option<i32>,
}

/// Runs a WASI program that reads nothing.
fn run(bytes: &[u8]) -> Run {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed);
    let engine = Engine::new(&config).unwrap();
    let module = Module::new(&engine, bytes).unwrap();
    let mut linker: Linker<Run> = Linker::new(&engine);
    linker.func_wrap(WASI, "fd_write", fd_write).unwrap();
    for sizes in ["environ_sizes_get", "args_sizes_get"] {
        let none = |mut caller: Caller<'_, Run>, count: i32, size: i32| {
            for at in [count, size] {
                write(&mut caller, at, &[0; 4]);
            }
            SUCCESS
        };
        linker.func_wrap(WASI, sizes, none).unwrap();
    }
    for list in ["environ_get", "args_get"] {
        linker.func_wrap(WASI, list, |_: Caller<'_, Run>, _: i32, _: i32| SUCCESS).unwrap();
    }
    // Only hash tables draw from it.
    let random = |mut caller: Caller<'_, Run>, at: i32, size: i32| {
        write(&mut caller, at, &vec![7; usize::try_from(size).unwrap()]);
        SUCCESS
    };
    linker.func_wrap(WASI, "random_get", random).unwrap();
    let exit = |mut caller: Caller<'_, Run>, code: i32| -> wasmtime::Result<()> {
        caller.data_mut().code = Some(code);
        Err(wasmtime::Error::msg("exit"))
    };
    linker.func_wrap(WASI, "proc_exit", exit).unwrap();
    for import in module.imports() {
        let Some(function) = import.ty().func().cloned() else { continue };
        // An error is a function that is there already.
        let _ = linker.func_new(WASI, import.name(), function, |_, _, results| {
            results.iter_mut().for_each(|result| *result = Val::I32(NOSYS));
            Ok(())
        });
    }
    let mut store = Store::new(&engine, Run::default());
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
    let ended = start.call(&mut store, ());
    let mut run = store.into_data();
    match (ended, run.code) {
        (Ok(()), _) => run.code = Some(0),
        (Err(_), Some(_)) => {}
        (Err(error), None) => panic!("{error:#}: {}", String::from_utf8_lossy(&run.printed)),
    }
    run
}

fn memory(caller: &mut Caller<'_, Run>) -> wasmtime::Memory {
    caller.get_export("memory").and_then(Extern::into_memory).unwrap()
}

fn write(caller: &mut Caller<'_, Run>, at: i32, bytes: &[u8]) {
    memory(caller).write(caller, usize::try_from(at).unwrap(), bytes).unwrap();
}

fn fd_write(mut caller: Caller<'_, Run>, _: i32, list: i32, count: i32, done: i32) -> i32 {
    let memory = memory(&mut caller);
    let data = memory.data(&caller);
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap()) as usize;
    let mut text = Vec::new();
    for number in 0..usize::try_from(count).unwrap() {
        let entry = usize::try_from(list).unwrap() + number * 8;
        text.extend_from_slice(&data[word(entry)..word(entry) + word(entry + 4)]);
    }
    write(&mut caller, done, &u32::try_from(text.len()).unwrap().to_le_bytes());
    caller.data_mut().printed.extend(text);
    SUCCESS
}

#[test]
fn every_vector_is_met_as_natively() {
    let module = Layout::of_this_checkout().primitives_module().unwrap();
    let run = run(&std::fs::read(module).unwrap());
    let printed = String::from_utf8(run.printed).unwrap();
    println!("{printed}");
    assert_eq!(run.code, Some(0), "{printed}");
    let native = portcullis_primitives::all().unwrap();
    let expected: String = native.iter().map(|outcome| format!("{outcome}\n")).collect();
    assert_eq!(printed, expected, "as many cases as natively");
    assert!(!printed.contains(" 0 passed") && printed.lines().count() == native.len(), "{printed}");
}
