//! A VM: one instance of a module, with its root context.

use std::{collections::BTreeMap, time::Duration};

use wasmtime::{Instance, Memory, Store, StoreLimitsBuilder, WasmParams, WasmResults};

use super::{
    error::{HostError, Trap},
    headers::HeaderMap,
    module::Module,
    process::Process,
    state::{Call, Message, Options, State},
    trace::Trace,
};

/// The root context's number.
pub(crate) const ROOT: u32 = 1;
/// Room in front of what a module's callbacks burn at start.
const EVERYTHING: u64 = u64::MAX / 2;

/// One instance of a module. A trap ends it: start another one on the same [`Process`].
pub struct Vm {
    pub(crate) store: Store<State>,
    instance: Instance,
    pub(crate) next_stream: u32,
    fuel: u64,
    dead: bool,
}

/// How a call to another service ended.
#[derive(Debug, Clone)]
pub enum CallAnswer {
    /// With this answer.
    Answered(Message),
    /// Without one.
    Failed,
}

impl CallAnswer {
    /// An answer of nothing but a status. Envoy itself answers 503 when no connection can be made, 504 after the
    /// timeout.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let headers = HeaderMap::new().with(":status", status.to_string());
        Self::Answered(Message { headers: Some(headers), complete: true, ..Message::default() })
    }
}

impl Vm {
    /// Starts a module: its root context is made and told that the VM starts.
    ///
    /// # Errors
    /// When it traps or does not want to start.
    pub fn start(module: &Module, process: &Process, options: &Options) -> Result<Self, HostError> {
        let state = State {
            process: process.clone(),
            number: process.next_vm(),
            options: options.clone(),
            trace: Trace::default(),
            limits: StoreLimitsBuilder::new().memory_size(options.memory_bytes).build(),
            memory: None,
            allocate: None,
            streams: BTreeMap::new(),
            current: ROOT,
            configuration: Vec::new(),
            tick: None,
            done: false,
            calls: Vec::new(),
            in_flight: Vec::new(),
            next_token: 0,
            answer: Message::default(),
        };
        let mut store = Store::new(&module.engine, state);
        store.limiter(|state| &mut state.limits);
        // A store without fuel cannot run at all; each callback sets its own.
        store.set_fuel(EVERYTHING).map_err(|error| HostError::Link(format!("{error:#}")))?;
        let linked = |error: wasmtime::Error| HostError::Link(format!("{error:#}"));
        let instance = module.ready.instantiate(&mut store).map_err(linked)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        let allocate = ["proxy_on_memory_allocate", "malloc"];
        store.data_mut().allocate =
            allocate.iter().find_map(|name| instance.get_typed_func(&mut store, name).ok());
        let mut vm = Self { store, instance, next_stream: ROOT, fuel: 0, dead: false };
        vm.call::<(), ()>("_initialize", ())?;
        vm.call::<(u32, u32), ()>("proxy_on_context_create", (ROOT, 0))?;
        if vm.call::<(u32, u32), u32>("proxy_on_vm_start", (ROOT, 0))? == Some(0) {
            return Err(vm.refused("proxy_on_vm_start"));
        }
        Ok(vm)
    }

    /// Starts a module and configures it.
    ///
    /// # Errors
    /// When it traps, does not want to start, or refuses the configuration.
    pub fn serve(
        module: &Module,
        process: &Process,
        options: &Options,
        configuration: &[u8],
    ) -> Result<Self, HostError> {
        let mut vm = Self::start(module, process, options)?;
        if vm.configure(configuration)? { Ok(vm) } else { Err(vm.refused("proxy_on_configure")) }
    }

    fn refused(&self, callback: &'static str) -> HostError {
        let number = self.store.data().number;
        let lines = self.process().log().into_iter().filter(|line| line.vm == number && line.level >= 3);
        let log: Vec<String> = lines.map(|line| line.text).collect();
        HostError::Refused { callback, log: log.join("\n") }
    }

    /// Gives the module a configuration, the first or a new one; whether it takes it.
    ///
    /// # Errors
    /// When it traps.
    pub fn configure(&mut self, configuration: &[u8]) -> Result<bool, HostError> {
        let size = u32::try_from(configuration.len()).unwrap_or(u32::MAX);
        self.store.data_mut().configuration = configuration.to_vec();
        self.store.data_mut().current = ROOT;
        let taken = self.call::<(u32, u32), u32>("proxy_on_configure", (ROOT, size))?;
        Ok(taken != Some(0))
    }

    /// The period that the module asked ticks for.
    #[must_use]
    pub fn tick_period(&self) -> Option<Duration> {
        self.store.data().tick
    }

    /// One tick, at the present virtual time. Nothing happens if the module asked for none.
    ///
    /// # Errors
    /// When it traps.
    pub fn tick(&mut self) -> Result<(), HostError> {
        if self.store.data().tick.is_none() {
            return Ok(());
        }
        self.store.data_mut().current = ROOT;
        self.call::<u32, ()>("proxy_on_tick", ROOT)?;
        self.settle()
    }

    /// Tells the module that the proxy wants the VM to end. False: it asks for time, for which the proxy gives it ticks
    /// and answers until [`Self::is_done`].
    ///
    /// # Errors
    /// When it traps.
    pub fn finish(&mut self) -> Result<bool, HostError> {
        self.store.data_mut().current = ROOT;
        let done = self.call::<u32, u32>("proxy_on_done", ROOT)? != Some(0);
        self.store.data_mut().done |= done;
        if done {
            self.call::<u32, ()>("proxy_on_delete", ROOT)?;
        }
        Ok(done)
    }

    /// Whether the module needs no more time to end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.store.data().done
    }

    /// The calls to other services since this was last asked, oldest first. Each wants an [`Self::answer`].
    pub fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.store.data_mut().calls)
    }

    /// Ends a call to another service.
    ///
    /// # Errors
    /// When there is no such call, or the module traps.
    pub fn answer(&mut self, token: u32, answer: CallAnswer) -> Result<(), HostError> {
        let state = self.store.data_mut();
        let Some(at) = state.in_flight.iter().position(|known| *known == token) else {
            return Err(HostError::Unknown(format!("call {token}")));
        };
        state.in_flight.swap_remove(at);
        state.current = ROOT;
        state.answer = match answer {
            CallAnswer::Answered(message) => message,
            CallAnswer::Failed => Message::default(),
        };
        let count = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let headers = count(state.answer.headers.as_ref().map_or(0, HeaderMap::len));
        let trailers = count(state.answer.trailers.as_ref().map_or(0, HeaderMap::len));
        let body = count(state.answer.body.len());
        let arguments = (ROOT, token, headers, body, trailers);
        self.call::<(u32, u32, u32, u32, u32), ()>("proxy_on_http_call_response", arguments)?;
        self.store.data_mut().answer = Message::default();
        self.settle()
    }

    /// Which host calls were made since this was last asked.
    pub fn take_trace(&mut self) -> Trace {
        std::mem::take(&mut self.store.data_mut().trace)
    }

    /// Fuel burned since this was last asked: about one per WebAssembly instruction.
    pub fn take_fuel(&mut self) -> u64 {
        std::mem::take(&mut self.fuel)
    }

    /// The size of the module's memory. It never shrinks.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory: Memory| memory.data_size(&self.store))
    }

    /// The process it runs in.
    #[must_use]
    pub fn process(&self) -> Process {
        self.store.data().process.clone()
    }

    /// Whether it has trapped.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Calls a function of the module; `None` if it does not export it.
    pub(crate) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &'static str,
        parameters: P,
    ) -> Result<Option<R>, HostError> {
        if self.dead {
            return Err(HostError::Dead);
        }
        let Some(function) = self.instance.get_func(&mut self.store, name) else { return Ok(None) };
        let function = function
            .typed::<P, R>(&self.store)
            .map_err(|error| HostError::Link(format!("{name}: {error:#}")))?;
        let most = self.store.data().options.fuel;
        let fuelled = self.store.set_fuel(most);
        let outcome = fuelled.and_then(|()| function.call(&mut self.store, parameters));
        let left = self.store.get_fuel().unwrap_or(0);
        self.fuel = self.fuel.saturating_add(most.saturating_sub(left));
        outcome.map(Some).map_err(|error| {
            self.dead = true;
            HostError::Trapped { callback: name, cause: Trap::from(&error) }
        })
    }
}
