//! The module's memory, as host calls reach it.

use wasmtime::{AsContext, AsContextMut, Caller, Memory};

use super::{
    process::Process,
    state::State,
    status::{Done, Fault, Status},
};

/// The module that made a host call.
pub(crate) struct Guest<'a, 'b>(&'a mut Caller<'b, State>);

impl<'a, 'b> Guest<'a, 'b> {
    /// Notes the call; answers with a status if the host does not offer it.
    pub fn enter(caller: &'a mut Caller<'b, State>, call: &'static str) -> Result<Self, Status> {
        let state = caller.data_mut();
        state.trace.note(call);
        match state.options.profile.refuses(call) {
            Some(status) => Err(status),
            None => Ok(Self(caller)),
        }
    }

    pub fn state(&mut self) -> &mut State {
        self.0.data_mut()
    }

    pub fn process(&self) -> Process {
        self.0.data().process.clone()
    }

    fn memory(&self) -> Result<Memory, Status> {
        self.0.data().memory.ok_or(Status::InvalidMemoryAccess)
    }

    /// Copies bytes out of the module.
    pub fn bytes(&self, at: u32, size: u32) -> Result<Vec<u8>, Status> {
        let end = at.checked_add(size).ok_or(Status::InvalidMemoryAccess)?;
        let memory = self.memory()?;
        let found = memory.data(self.0.as_context()).get(at as usize..end as usize);
        found.map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)
    }

    /// Copies bytes into the module.
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Status> {
        let memory = self.memory()?;
        memory.write(self.0.as_context_mut(), at as usize, bytes).map_err(|_| Status::InvalidMemoryAccess)
    }

    pub fn write_u32(&mut self, at: u32, value: u32) -> Result<(), Status> {
        self.write(at, &value.to_le_bytes())
    }

    pub fn write_u64(&mut self, at: u32, value: u64) -> Result<(), Status> {
        self.write(at, &value.to_le_bytes())
    }

    /// A number out of the module.
    pub fn read_u32(&self, at: u32) -> Result<u32, Status> {
        let bytes = self.bytes(at, 4)?;
        let four = <[u8; 4]>::try_from(bytes).map_err(|_| Status::InvalidMemoryAccess)?;
        Ok(u32::from_le_bytes(four))
    }

    /// Gives bytes to the module in memory of its own allocator.
    pub fn give(&mut self, bytes: &[u8], data: u32, size: u32) -> Done {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        let at = if length == 0 { 0 } else { self.allocate(length)? };
        if length > 0 {
            self.write(at, bytes)?;
        }
        self.write_u32(data, at)?;
        self.write_u32(size, length)?;
        Ok(())
    }

    fn allocate(&mut self, size: u32) -> Result<u32, Fault> {
        let allocate = self.0.data().allocate.clone().ok_or(Status::InvalidMemoryAccess)?;
        match allocate.call(self.0.as_context_mut(), size) {
            Ok(0) => Err(Status::InvalidMemoryAccess.into()),
            Ok(at) => Ok(at),
            Err(trap) => Err(Fault::Trap(trap)),
        }
    }
}
