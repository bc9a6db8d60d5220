//! A bad link: a TCP proxy on loopback that cuts each connection after so many bytes, or lets it go silent. It counts what
//! passes, so that a test can say what a fault has cost.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// How a link is bad. The bytes are those of one connection and one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// Both ends see the connection close (FIN) after so many bytes.
    Closes(u64),
    /// Both ends see the connection reset (RST) after so many bytes.
    Resets(u64),
    /// Nothing passes any more after so many bytes, and nobody hears of it.
    FallsSilent(u64),
    /// After so many bytes one passes now and then, some ten a second.
    Crawls(u64),
    /// So many bytes pass a second, and the connection is good otherwise.
    IsSlow(u64),
}

/// A connection that crawls lets a byte through once in this time, a slow one its part of a second.
const PAUSE: Duration = Duration::from_millis(100);

impl Weakness {
    /// How much passes as if nothing were wrong.
    fn limit(self) -> u64 {
        match self {
            Weakness::Closes(limit)
            | Weakness::Resets(limit)
            | Weakness::FallsSilent(limit)
            | Weakness::Crawls(limit) => limit,
            Weakness::IsSlow(_) => 0,
        }
    }
}

/// A bad link to a server. It is there until it is dropped.
#[derive(Debug)]
pub struct WeakLink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    weakness: Weakness,
    /// How many connections are bad; those after them are good.
    weak_connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    stop: AtomicBool,
}

impl WeakLink {
    /// A link to a server, of which the first so many connections are bad.
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
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                // A server that is gone is what the client is to see.
                let Ok(server) = TcpStream::connect(accepting.target) else {
                    continue;
                };
                accepting.relay(&client, &server);
            }
        });
        WeakLink { address, shared }
    }

    /// A good link to a server, which only counts.
    ///
    /// # Panics
    /// As in [`WeakLink::start`].
    #[must_use]
    pub fn counting(target: SocketAddr) -> WeakLink {
        WeakLink::start(target, Weakness::Closes(u64::MAX), 0)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes clients sent to the server.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::SeqCst)
    }

    /// How many bytes the server sent to clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.to_client.load(Ordering::SeqCst)
    }
}

impl Drop for WeakLink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; a failure means that it is gone already.
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
                let counter = if upwards { &shared.to_server } else { &shared.to_client };
                // How a connection ends is what both sides see; there is nobody else to tell.
                drop(shared.pass(&from, &to, is_weak.then_some(&*cut), counter));
            });
        }
    }

    /// One direction of a connection; `cut` is there when it is a bad one.
    fn pass(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        cut: Option<&AtomicBool>,
        counter: &AtomicU64,
    ) -> io::Result<()> {
        let mut left = cut.map_or(u64::MAX, |_| self.weakness.limit());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            if wanted == 0 {
                break;
            }
            let read = from.read(&mut buffer[..wanted])?;
            if read == 0 {
                // The other direction was cut: it has said how this ends.
                let is_cut = cut.is_some_and(|cut| cut.load(Ordering::SeqCst));
                return if is_cut { Ok(()) } else { to.shutdown(Shutdown::Write) };
            }
            to.write_all(&buffer[..read])?;
            counter.fetch_add(read as u64, Ordering::SeqCst);
            left -= read as u64;
        }
        cut.into_iter().for_each(|cut| cut.store(true, Ordering::SeqCst));
        let end = match self.weakness {
            Weakness::Closes(_) => Shutdown::Both,
            Weakness::Resets(_) => {
                for stream in [from, to] {
                    set_socket_linger(stream, Some(Duration::ZERO))?;
                }
                // Wakes the other direction without a word on the wire; the reset is sent when both have let go.
                Shutdown::Read
            }
            Weakness::FallsSilent(_) => {
                // Reads what comes, until the sender has had enough of it.
                while from.read(&mut buffer)? > 0 {}
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
                // What the other side still has to say comes by the other direction.
                return to.shutdown(Shutdown::Write);
            }
        };
        from.shutdown(end)?;
        to.shutdown(end)
    }
}

/// Passes what comes, at most a buffer of it and then a pause, until the sender has ended.
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
