//! Ports: which are free, who holds one that is not, and choosing one for a test.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    sync::Mutex,
};

use anyhow::{Result, bail};

/// Ports for tests come from here: below what Linux gives to outgoing connections (32768 and up), so that none is
/// taken by chance between the choice and its use.
const CHOSEN_FROM: std::ops::Range<u16> = 18_000..32_000;

/// Ports already given away by this process.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that the operator may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The number.
    pub port: u16,
    /// The variable that sets it, like `ENVOY_PORT`.
    pub variable: &'static str,
    /// What will listen there.
    pub what: &'static str,
}

impl Wanted {
    /// Checks that nothing listens there.
    ///
    /// # Errors
    /// When the port is taken: names the port, its variable, who holds it as far as can be seen, and the remedy.
    pub fn check(&self) -> Result<()> {
        let Self { port, variable, what } = *self;
        let Err(error) = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) else {
            return Ok(());
        };
        let remedy = format!("choose another with {variable}=");
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                let by = holder(port).map_or_else(String::new, |holder| format!(" by {holder}"));
                bail!(
                    "port {port} for {what} is taken{by}: stop what listens there, or {remedy}{}",
                    port.wrapping_add(1)
                )
            }
            std::io::ErrorKind::PermissionDenied => {
                bail!("port {port} for {what} is reserved for root: {remedy}{}", port.saturating_add(8000))
            }
            _ => bail!("port {port} for {what} cannot be used ({error}): {remedy}"),
        }
    }
}

/// Checks that no two are the same and all are free.
///
/// # Errors
/// As [`Wanted::check`], and when two are the same.
pub fn check_all(wanted: &[Wanted]) -> Result<()> {
    for (index, one) in wanted.iter().enumerate() {
        if let Some(other) = wanted.iter().skip(index.saturating_add(1)).find(|other| other.port == one.port)
        {
            bail!("{} and {} are both {}: give each its own", one.variable, other.variable, one.port);
        }
        one.check()?;
    }
    Ok(())
}

/// A free port, not given away before by this process.
///
/// # Errors
/// When there is none.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let span = CHOSEN_FROM.end.saturating_sub(CHOSEN_FROM.start);
    // Processes that run at the same time start at different places.
    let start = u16::try_from(u32::from(random()?).wrapping_rem(u32::from(span)))?;
    for step in 0..span {
        let offset = (u32::from(start).wrapping_add(u32::from(step))).wrapping_rem(u32::from(span));
        let port = CHOSEN_FROM.start.saturating_add(u16::try_from(offset)?);
        let unused = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok();
        if unused && given.insert(port) {
            return Ok(port);
        }
    }
    bail!("no port between {} and {} is free", CHOSEN_FROM.start, CHOSEN_FROM.end)
}

fn random() -> Result<u16> {
    let hex = crate::secrets::Secret::random()?;
    Ok(u16::from_str_radix(hex.reveal().get(..4).unwrap_or("0"), 16)?)
}

/// Who listens on a port, like `nginx (pid 812)`; `None` when the system does not tell (another user's process).
pub fn holder(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening_inode(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        // `self` and its like are other names of processes that stand there under their numbers.
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(handles) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = handles
            .flatten()
            .filter_map(|handle| fs::read_link(handle.path()).ok())
            .any(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()));
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {})", name.trim(), process.file_name().to_string_lossy()));
        }
    }
    None
}

/// The socket's inode in a line of `/proc/net/tcp`, when the line is about a listener on that port.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let local_port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (local_port == port && *state == LISTEN).then(|| (*inode).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_port_variable_holder_and_remedy() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let error = Wanted { port, variable: "ENVOY_PORT", what: "Envoy" }.check().unwrap_err().to_string();
        let pid = std::process::id();
        for part in [
            format!("port {port} "),
            format!("(pid {pid})"),
            "ENVOY_PORT=".to_owned(),
            "stop what".to_owned(),
        ] {
            assert!(error.contains(&part), "{part} not in {error}");
        }
        assert_eq!(error.lines().count(), 1);
        drop(held);
        Wanted { port, variable: "ENVOY_PORT", what: "Envoy" }.check().unwrap();
    }

    #[test]
    fn two_of_the_same_are_refused() {
        let port = free().unwrap();
        let one = Wanted { port, variable: "ENVOY_PORT", what: "Envoy" };
        let two = Wanted { port, variable: "ADMIN_PORT", what: "Envoy's administration" };
        let error = check_all(&[one, two]).unwrap_err().to_string();
        assert!(error.contains("ENVOY_PORT and ADMIN_PORT are both"), "{error}");
        check_all(&[one]).unwrap();
    }

    #[test]
    fn free_ports_are_never_given_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| CHOSEN_FROM.contains(port)));
    }

    #[test]
    fn only_listeners_count() {
        let line = "   0: 0100007F:2710 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0";
        assert_eq!(listening_inode(line, 10_000).as_deref(), Some("4711"));
        assert_eq!(listening_inode(line, 10_001), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 10_000), None);
        assert_eq!(listening_inode("sl local_address", 10_000), None);
    }
}
