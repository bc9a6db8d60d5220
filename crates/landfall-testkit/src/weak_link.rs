//! A bad link: a TCP proxy on loopback that closes, resets or stalls each connection after a number of bytes.
//! It counts the bytes and the faults, so that a test can check that a fault occurred, and its cost.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// The fault of a link. Bytes are counted per connection and direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// Both ends see the connection close (FIN) after this number of bytes.
    Closes(u64),
    /// Both ends see the connection reset (RST) after this number of bytes.
    Resets(u64),
    /// After this number of bytes nothing is read any more: the sender's socket buffers fill, and it blocks.
    Blocks(u64),
    /// After this number of bytes everything is read and dropped, as by a middlebox that has forgotten the
    /// connection: the sender sees no fault.
    Swallows(u64),
    /// About ten bytes a second pass after this number of bytes.
    Crawls(u64),
    /// This number of bytes passes per second, and the connection is good otherwise.
    IsSlow(u64),
}

/// Interval at which a crawling connection passes one byte, and a slow one its share of a second.
const PAUSE: Duration = Duration::from_millis(100);

impl Weakness {
    /// Returns the number of bytes that pass before the fault.
    fn limit(self) -> u64 {
        match self {
            Weakness::Closes(limit)
            | Weakness::Resets(limit)
            | Weakness::Blocks(limit)
            | Weakness::Swallows(limit)
            | Weakness::Crawls(limit) => limit,
            Weakness::IsSlow(_) => 0,
        }
    }
}

/// A bad link to a server, until it is dropped.
#[derive(Debug)]
pub struct WeakLink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    weakness: Weakness,
    /// Number of connections with the fault; later ones are good.
    weak_connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    /// Number of connections on which the fault occurred.
    faults: AtomicU64,
    stop: AtomicBool,
}

impl WeakLink {
    /// Starts a link to a server on which the first `weak_connections` connections are bad.
    ///
    /// # Panics
    /// Panics if there is no free port.
    #[must_use]
    pub fn start(target: SocketAddr, weakness: Weakness, weak_connections: u64) -> WeakLink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            weakness,
            weak_connections: AtomicU64::new(weak_connections),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                // The client must see that the server is gone.
                let Ok(server) = TcpStream::connect(accepting.target) else {
                    continue;
                };
                accepting.relay(&client, &server);
            }
        });
        WeakLink { address, shared }
    }

    /// Starts a good link to a server, which only counts.
    ///
    /// # Panics
    /// As in [`WeakLink::start`].
    #[must_use]
    pub fn counting(target: SocketAddr) -> WeakLink {
        WeakLink::start(target, Weakness::Closes(u64::MAX), 0)
    }

    /// Returns the address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of bytes from clients to the server.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes from the server to clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.to_client.load(Ordering::SeqCst)
    }

    /// Returns the number of connections on which the fault occurred: a test whose fault did not occur proves
    /// nothing.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Drop for WeakLink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; an error means that it has ended already.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

impl Shared {
    fn relay(self: &Arc<Shared>, client: &TcpStream, server: &TcpStream) {
        let counted_down = self
            .weak_connections
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let is_weak = counted_down.is_ok();
        let cut = Arc::new(AtomicBool::new(false));
        for (from, to, upwards) in [(client, server, true), (server, client, false)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                return;
            };
            let (shared, cut) = (self.clone(), cut.clone());
            thread::spawn(move || {
                // Both sides see the end of the connection; no further report is needed.
                drop(shared.pass(&from, &to, is_weak.then_some(&*cut), upwards));
            });
        }
    }

    /// Copies one direction of a connection, upwards to the server; `cut` is set on a bad link.
    fn pass(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        cut: Option<&AtomicBool>,
        upwards: bool,
    ) -> io::Result<()> {
        let counter = if upwards { &self.to_server } else { &self.to_client };
        let mut left = cut.map_or(u64::MAX, |_| self.weakness.limit());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            if wanted == 0 {
                break;
            }
            let read = from.read(&mut buffer[..wanted])?;
            if read == 0 {
                // The other direction was cut, and closes the connection in its way.
                let is_cut = cut.is_some_and(|cut| cut.load(Ordering::SeqCst));
                return if is_cut { Ok(()) } else { to.shutdown(Shutdown::Write) };
            }
            to.write_all(&buffer[..read])?;
            counter.fetch_add(read as u64, Ordering::SeqCst);
            left -= read as u64;
        }
        // Both directions of a slow connection are slow from the beginning on: it counts once.
        if cut.is_some_and(|cut| !cut.swap(true, Ordering::SeqCst)) {
            self.faults.fetch_add(1, Ordering::SeqCst);
        }
        let end = match self.weakness {
            Weakness::Closes(_) => Shutdown::Both,
            Weakness::Resets(_) => {
                for stream in [from, to] {
                    set_socket_linger(stream, Some(Duration::ZERO))?;
                }
                // Wakes the other direction without sending anything. The reset is sent when both have dropped
                // the socket.
                Shutdown::Read
            }
            Weakness::Blocks(_) => {
                // As on a dead link, neither end sees the other one close.
                while !self.stop.load(Ordering::SeqCst) {
                    thread::sleep(PAUSE);
                }
                Shutdown::Both
            }
            Weakness::Swallows(_) => {
                // Reads and drops bytes until the sender closes. Those of a client have crossed its link, and count;
                // those of a server never reach the client.
                loop {
                    let read = from.read(&mut buffer)?;
                    if read == 0 {
                        break;
                    }
                    if upwards {
                        counter.fetch_add(read as u64, Ordering::SeqCst);
                    }
                }
                Shutdown::Both
            }
            Weakness::Crawls(_) => {
                pass_slowly(from, to, &mut buffer[..1], counter)?;
                Shutdown::Both
            }
            Weakness::IsSlow(rate) => {
                let part = usize::try_from(rate / 10)
                    .unwrap_or(buffer.len())
                    .clamp(1, buffer.len());
                pass_slowly(from, to, &mut buffer[..part], counter)?;
                // The remaining bytes of the server arrive by the other direction.
                return to.shutdown(Shutdown::Write);
            }
        };
        from.shutdown(end)?;
        to.shutdown(end)
    }
}

/// Copies at most one buffer, then pauses, until the sender closes.
fn pass_slowly(mut from: &TcpStream, mut to: &TcpStream, buffer: &mut [u8], counter: &AtomicU64) -> io::Result<()> {
    loop {
        let read = from.read(buffer)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
        counter.fetch_add(read as u64, Ordering::SeqCst);
        thread::sleep(PAUSE);
    }
}
