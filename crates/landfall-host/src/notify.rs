//! Messages to systemd about the state of the service: the protocol of sd_notify(3), one datagram for each message.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// State of the service in a message to systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState<'a> {
    /// The service has started: units that are ordered after it may begin.
    Ready,
    /// The service stops on request.
    Stopping,
    /// The service is alive; required at least every [`watchdog_interval`].
    Watchdog,
    /// One line for `systemctl status`.
    Status(&'a str),
}

/// Sends a message to the service manager that started this process; does nothing if there is none.
///
/// # Errors
/// If `$NOTIFY_SOCKET` is set and cannot be written to.
pub fn notify(state: ServiceState<'_>) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(socket) => send(socket.as_bytes(), state),
        None => Ok(()),
    }
}

/// Returns the interval for [`ServiceState::Watchdog`]: half of the unit's `WatchdogSec=`; `None` if the unit has none.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let limit = std::env::var("WATCHDOG_USEC").ok();
    let process = std::env::var("WATCHDOG_PID").ok();
    parse_watchdog(limit.as_deref()?, process.as_deref())
}

/// Parses the limit. A limit for another process, such as the parent of this one, does not count.
fn parse_watchdog(limit_microseconds: &str, process: Option<&str>) -> Option<Duration> {
    if process.is_some_and(|process| process.parse() != Ok(std::process::id())) {
        return None;
    }
    let microseconds = limit_microseconds.parse().ok().filter(|limit| *limit > 0)?;
    Some(Duration::from_micros(microseconds) / 2)
}

fn send(socket: &[u8], state: ServiceState<'_>) -> io::Result<()> {
    // A leading `@` stands for the zero byte of an abstract address.
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(message(state).as_bytes(), &address)
        .map(drop)
}

fn message(state: ServiceState<'_>) -> String {
    match state {
        ServiceState::Ready => "READY=1\n".to_owned(),
        ServiceState::Stopping => "STOPPING=1\n".to_owned(),
        ServiceState::Watchdog => "WATCHDOG=1\n".to_owned(),
        // A newline would begin another assignment.
        ServiceState::Status(text) => format!("STATUS={}\n", text.replace('\n', " ")),
    }
}

#[cfg(test)]
mod tests {
    use landfall_testkit::host_fixture::HostFixture;

    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_message_arrives_at_a_socket_with_a_path() {
        let host = HostFixture::mk();
        let path = host.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let table = [
            (ServiceState::Ready, "READY=1\n"),
            (ServiceState::Stopping, "STOPPING=1\n"),
            (ServiceState::Watchdog, "WATCHDOG=1\n"),
            (
                ServiceState::Status("3 of 9 images\nMAINPID=1"),
                "STATUS=3 of 9 images MAINPID=1\n",
            ),
        ];
        for (state, expected) in table {
            send(path.as_str().as_bytes(), state).unwrap();
            assert_eq!(receive(&socket), expected);
        }
    }

    #[test]
    fn a_message_arrives_at_an_abstract_socket() {
        let name = format!("landfall-notify-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(format!("@{name}").as_bytes(), ServiceState::Ready).unwrap();
        assert_eq!(receive(&socket), "READY=1\n");
    }

    #[test]
    fn nobody_at_the_socket_is_an_error() {
        let host = HostFixture::mk();
        let error = send(host.path("none").as_str().as_bytes(), ServiceState::Ready).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_limit() {
        let own = std::process::id().to_string();
        let table = [
            ("60000000", None, Some(Duration::from_secs(30))),
            ("60000000", Some(own.as_str()), Some(Duration::from_secs(30))),
            ("60000000", Some("1"), None),
            ("0", None, None),
            ("soon", None, None),
        ];
        for (limit, process, expected) in table {
            assert_eq!(parse_watchdog(limit, process), expected, "{limit} {process:?}");
        }
    }
}
