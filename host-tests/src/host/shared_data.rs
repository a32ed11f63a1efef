//! Shared data and shared queues of a process, with Envoy's semantics.

use std::collections::{BTreeMap, VecDeque};

use super::status::Status;

/// What all VMs of a process see. As in Envoy, nothing is ever deleted.
#[derive(Debug, Default)]
pub struct SharedData {
    entries: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    next_version: u32,
}

impl SharedData {
    /// A value and its version.
    ///
    /// # Errors
    /// [`Status::NotFound`] when nothing was stored.
    pub fn load(&self, key: &[u8]) -> Result<(&[u8], u32), Status> {
        self.entries.get(key).map(|(value, version)| (value.as_slice(), *version)).ok_or(Status::NotFound)
    }

    /// Stores. Version 0 stores in any case; any other must be that of the stored value, and is not looked at when
    /// nothing is stored.
    ///
    /// # Errors
    /// [`Status::CasMismatch`] when somebody else stored first.
    pub fn store(&mut self, key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
        if version != 0
            && let Some((_, current)) = self.entries.get(key)
            && *current != version
        {
            return Err(Status::CasMismatch);
        }
        self.put(key, value);
        Ok(())
    }

    /// Stores as `ngx_wasm_module` does: the version must be that of the stored value, and 0 when nothing is stored.
    ///
    /// # Errors
    /// [`Status::CasMismatch`] when it is not.
    pub fn store_exactly(&mut self, key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
        if self.entries.get(key).map_or(0, |(_, current)| *current) != version {
            return Err(Status::CasMismatch);
        }
        self.put(key, value);
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        // Versions are common to all keys and start at 1.
        self.next_version = self.next_version.wrapping_add(1).max(1);
        self.entries.insert(key.to_vec(), (value.to_vec(), self.next_version));
    }

    /// All keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.entries.keys().map(Vec::as_slice)
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|(key, (value, _))| key.len() + value.len()).sum()
    }
}

/// Queues by name, without bound, as in Envoy.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    list: Vec<(Vec<u8>, VecDeque<Vec<u8>>)>,
}

impl Queues {
    /// The queue's number, made if it does not exist.
    pub fn register(&mut self, name: &[u8]) -> u32 {
        if let Ok(number) = self.resolve(name) {
            return number;
        }
        self.list.push((name.to_vec(), VecDeque::new()));
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    pub fn resolve(&self, name: &[u8]) -> Result<u32, Status> {
        let at = self.list.iter().position(|(known, _)| known == name).ok_or(Status::NotFound)?;
        u32::try_from(at.saturating_add(1)).map_err(|_| Status::NotFound)
    }

    fn queue(&mut self, number: u32) -> Result<&mut VecDeque<Vec<u8>>, Status> {
        let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1)).ok_or(Status::NotFound)?;
        self.list.get_mut(at).map(|(_, queue)| queue).ok_or(Status::NotFound)
    }

    pub fn enqueue(&mut self, number: u32, item: Vec<u8>) -> Result<(), Status> {
        self.queue(number)?.push_back(item);
        Ok(())
    }

    pub fn dequeue(&mut self, number: u32) -> Result<Vec<u8>, Status> {
        self.queue(number)?.pop_front().ok_or(Status::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_in_envoy() {
        let mut data = SharedData::default();
        assert_eq!(data.load(b"k"), Err(Status::NotFound));
        assert_eq!(data.store(b"k", b"1", 77), Ok(()), "a version on a missing key is not looked at");
        let (_, first) = data.load(b"k").unwrap();
        assert_eq!(data.store(b"k", b"2", 77), Err(Status::CasMismatch));
        assert_eq!(data.store(b"k", b"2", first), Ok(()));
        assert_eq!(data.store(b"k", b"3", first), Err(Status::CasMismatch));
        assert_eq!(data.store(b"k", b"4", 0), Ok(()), "0 stores in any case");
        assert_eq!(data.load(b"k").map(|(value, _)| value), Ok(&b"4"[..]));
        assert_eq!((data.keys().len(), data.bytes()), (1, 2));
    }

    #[test]
    fn versions_as_in_nginx() {
        let mut data = SharedData::default();
        assert_eq!(data.store_exactly(b"k", b"1", 77), Err(Status::CasMismatch), "nothing has version 77");
        assert_eq!(data.store_exactly(b"k", b"1", 0), Ok(()));
        assert_eq!(data.store_exactly(b"k", b"2", 0), Err(Status::CasMismatch), "it exists");
        let (_, first) = data.load(b"k").unwrap();
        assert_eq!(data.store_exactly(b"k", b"2", first), Ok(()));
        assert_eq!(data.load(b"k").map(|(value, _)| value), Ok(&b"2"[..]));
    }

    #[test]
    fn queues_are_first_in_first_out() {
        let mut queues = Queues::default();
        assert_eq!(queues.resolve(b"q"), Err(Status::NotFound));
        let number = queues.register(b"q");
        assert_eq!((queues.register(b"q"), queues.resolve(b"q")), (number, Ok(number)));
        queues.enqueue(number, b"1".to_vec()).unwrap();
        queues.enqueue(number, b"2".to_vec()).unwrap();
        assert_eq!(queues.dequeue(number).as_deref(), Ok(&b"1"[..]));
        assert_eq!(queues.dequeue(number).as_deref(), Ok(&b"2"[..]));
        assert_eq!(queues.dequeue(number), Err(Status::Empty));
        assert_eq!(queues.dequeue(0), Err(Status::NotFound));
    }
}
