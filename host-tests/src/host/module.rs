//! A compiled module.

use std::path::Path;

use wasmtime::{Config, Engine, InstancePre, Linker, Val};

use super::{error::HostError, imports, state::State};

/// A module, compiled once and started as often as wanted, by any thread.
#[derive(Clone)]
pub struct Module {
    pub(crate) engine: Engine,
    pub(crate) ready: InstancePre<State>,
}

const WASI: &str = "wasi_snapshot_preview1";
/// WASI's "not supported".
const NOSYS: i32 = 52;

impl Module {
    /// Compiles a module.
    ///
    /// # Errors
    /// When it is not a module, or needs a function that is neither WASI's nor the ABI's.
    pub fn compile(bytes: &[u8]) -> Result<Self, HostError> {
        let mut config = Config::new();
        config.consume_fuel(true);
        let engine = Engine::new(&config).map_err(|error| HostError::Compile(format!("{error:#}")))?;
        let module = wasmtime::Module::new(&engine, bytes)
            .map_err(|error| HostError::Compile(format!("{error:#}")))?;
        let linked = |error: wasmtime::Error| HostError::Link(format!("{error:#}"));
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker).map_err(linked)?;
        // What proxies do not offer of WASI: a module may import it, and is told.
        linker.allow_shadowing(false);
        for import in module.imports() {
            let Some(function) = import.ty().func().cloned() else { continue };
            if import.module() == WASI {
                // An error is a function that is there already.
                let _ = linker.func_new(WASI, import.name(), function, |_, _, results| {
                    results.iter_mut().for_each(|result| *result = Val::I32(NOSYS));
                    Ok(())
                });
            }
        }
        let ready = linker.instantiate_pre(&module).map_err(linked)?;
        Ok(Self { engine, ready })
    }

    /// Reads and compiles a file.
    ///
    /// # Errors
    /// When it cannot be read or compiled.
    pub fn load(file: &Path) -> Result<Self, HostError> {
        let bytes =
            std::fs::read(file).map_err(|error| HostError::Read(format!("{}: {error}", file.display())))?;
        Self::compile(&bytes)
    }
}
