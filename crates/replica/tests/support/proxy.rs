//! A proxy between a node and its database, that loses connections and holds up bytes when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

#[derive(Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    /// Nothing is let through, and nothing said.
    stalls: AtomicBool,
    /// New connections are closed at once.
    refuses: AtomicBool,
    ends: AtomicBool,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn start(to: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let thread = spawn({
            let shared = Arc::clone(&shared);
            move || {
                for from in listener.incoming().flatten() {
                    if shared.ends.load(Ordering::Acquire) {
                        return;
                    }
                    if shared.refuses.load(Ordering::Acquire) {
                        continue;
                    }
                    let Ok(to) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                    from.set_nodelay(true).unwrap();
                    to.set_nodelay(true).unwrap();
                    let ends = [from.try_clone().unwrap(), to.try_clone().unwrap()];
                    shared.open.lock().unwrap().extend(ends);
                    pass(&shared, from.try_clone().unwrap(), to.try_clone().unwrap());
                    pass(&shared, to, from);
                }
            }
        });
        Proxy { port, shared, thread: Some(thread) }
    }

    /// Loses all connections, in the middle of whatever is said.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::Release);
    }

    pub fn stall(&self, stalls: bool) {
        self.shared.stalls.store(stalls, Ordering::Release);
    }
}

fn pass(shared: &Arc<Shared>, mut from: TcpStream, mut to: TcpStream) {
    let shared = Arc::clone(shared);
    spawn(move || {
        let mut bytes = [0; 10_000];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            while shared.stalls.load(Ordering::Acquire) && !shared.ends.load(Ordering::Acquire) {
                sleep(Duration::from_millis(5));
            }
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
