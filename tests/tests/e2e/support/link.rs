//! A stretch of network between two ends, which a test can cut and mend.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

#[derive(Default)]
struct Cable {
    cut: Mutex<bool>,
    mended: Condvar,
}

impl Cable {
    fn wait_until_whole(&self) {
        let cut = self.cut.lock().unwrap();
        drop(self.mended.wait_while(cut, |cut| *cut).unwrap());
    }
}

/// A listener whose connections lead to another one. While it is cut nothing passes and nobody is told, as when a cable
/// is pulled; once it is mended what was sent meanwhile arrives, late.
pub struct Link {
    port: u16,
    cable: Arc<Cable>,
}

impl Link {
    /// Leads to that address; ends with the process.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let cable = Arc::<Cable>::default();
        let shared = Arc::clone(&cable);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let cable = Arc::clone(&shared);
                thread::spawn(move || {
                    cable.wait_until_whole();
                    // Nobody there: the near end is closed, as a refused connection is.
                    let Ok(far) = TcpStream::connect(target) else { return };
                    for stream in [&near, &far] {
                        stream.set_nodelay(true).unwrap();
                    }
                    let (from, to, other) =
                        (near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::clone(&cable));
                    thread::spawn(move || carry(from, to, &other));
                    carry(far, near, &cable);
                });
            }
        });
        Self { port, cable }
    }

    /// Where it begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing passes.
    pub fn cut(&self) {
        *self.cable.cut.lock().unwrap() = true;
    }

    /// Everything passes again.
    pub fn mend(&self) {
        *self.cable.cut.lock().unwrap() = false;
        self.cable.mended.notify_all();
    }
}

/// Carries bytes one way until an end is closed; then the other end is, too.
fn carry(mut from: TcpStream, mut to: TcpStream, cable: &Cable) {
    let mut piece = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut piece) {
        cable.wait_until_whole();
        if count == 0 || to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // It may be closed already.
        drop(stream.shutdown(Shutdown::Both));
    }
}
