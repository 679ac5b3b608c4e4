//! Socket activation: listening sockets that the supervisor holds, and keeps when the gateway ends, as in
//! sd_listen_fds(3).
//!
//! The config stays what says where the gateway listens. A socket that was handed over takes the place of binding where
//! its address is one of the config's; one that no address of the config wants is an error, since clients would wait
//! at it for ever.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Socket, Type};

use crate::config::Config;
use crate::server::{BindError, bind};

/// The first descriptor that is passed: SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// What was handed over and nobody has taken yet.
#[derive(Debug, Default)]
pub struct InheritedSockets(Vec<Inherited>);

#[derive(Debug)]
struct Inherited {
    address: SocketAddr,
    name: String,
    socket: TcpListener,
}

/// Who holds a listening socket besides the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody: once the gateway closes it, it is gone, with the connections that wait in its queue.
    Nobody,
    /// The supervisor: it outlives the gateway, and so does whatever is done to it. Connections in its queue are for
    /// whoever is started next.
    Supervisor,
}

/// Sockets that cannot be used as they were handed over.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A variable is not what the protocol says.
    #[error("{variable} is {value:?}, which is no number")]
    Variable {
        /// `LISTEN_FDS` or `LISTEN_PID`.
        variable: &'static str,
        /// What it is.
        value: String,
    },
    /// A promised descriptor is not there.
    #[error("file descriptor {fd} is not open, though LISTEN_FDS promises it")]
    NotOpen {
        /// Its number.
        fd: RawFd,
    },
    /// A descriptor is something else.
    #[error("file descriptor {fd}{} is not a listening TCP socket", named(.name))]
    NotListening {
        /// Its number.
        fd: RawFd,
        /// From `LISTEN_FDNAMES`; may be empty.
        name: String,
    },
    /// A descriptor cannot be prepared.
    #[error("file descriptor {fd} cannot be used: {error}")]
    Unusable {
        /// Its number.
        fd: RawFd,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// No address of the config is the socket's.
    #[error("a socket for {address}{} was handed over, but the config does not listen there", named(.name))]
    Unwanted {
        /// What it is bound to.
        address: SocketAddr,
        /// From `LISTEN_FDNAMES`; may be empty.
        name: String,
        /// Where the config listens, and no socket was handed over.
        free: Vec<SocketAddr>,
    },
}

impl SocketError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Variable { .. } | Self::NotOpen { .. } => {
                "the supervisor sets LISTEN_FDS and LISTEN_PID; unset both to start without its sockets".to_owned()
            }
            Self::NotListening { .. } | Self::Unusable { .. } => {
                "in a systemd socket unit: `ListenStream=` with an address and a port, and `Accept=no`".to_owned()
            }
            Self::Unwanted { address, free, .. } => {
                let free = match &free[..] {
                    [] => String::new(),
                    free => format!(", or change the socket's address to {}", list(free)),
                };
                format!("add \"{address}\" to `listen` of [server], or make it that of [admin]{free}")
            }
        }
    }
}

impl InheritedSockets {
    /// Take what `LISTEN_FDS` and `LISTEN_PID` promise this process. Call it before anything opens a file: it takes
    /// descriptors by their numbers. A second call finds nothing.
    ///
    /// # Errors
    ///
    /// When the variables or the descriptors are not what they should be.
    pub fn from_environment() -> Result<Self, SocketError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let variable = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let count = promised(variable("LISTEN_FDS"), variable("LISTEN_PID"), std::process::id())?;
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let numbers = (FIRST..).take(count);
        numbers.map(|fd| inherit(fd, names.next().unwrap_or_default())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether each of them is wanted by an address of the config. Asked before anything else is done.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check(&self, config: &Config) -> Result<(), SocketError> {
        let mut free: Vec<SocketAddr> = config.server.listen.iter().copied().chain([config.admin.listen]).collect();
        let mut unwanted = None;
        for Inherited { address, name, .. } in &self.0 {
            match free.iter().position(|wanted| wanted == address) {
                Some(wanted) => _ = free.swap_remove(wanted),
                None => unwanted = unwanted.or(Some((*address, name.clone()))),
            }
        }
        match unwanted {
            None => Ok(()),
            Some((address, name)) => Err(SocketError::Unwanted { address, name, free }),
        }
    }

    /// A socket that listens there: the one that was handed over, or a new one.
    ///
    /// # Errors
    ///
    /// A new one cannot be bound.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> Result<(tokio::net::TcpListener, Holder), BindError> {
        match self.0.iter().position(|inherited| inherited.address == address) {
            Some(place) => {
                let Inherited { name, socket, .. } = self.0.swap_remove(place);
                tracing::info!(%address, name, "listening on the supervisor's socket");
                let socket = tokio::net::TcpListener::from_std(socket).map_err(|error| BindError { address, error })?;
                Ok((socket, Holder::Supervisor))
            }
            None => Ok((bind(address)?, Holder::Nobody)),
        }
    }
}

/// How many sockets this process was promised.
fn promised(count: Option<String>, pid: Option<String>, own_pid: u32) -> Result<usize, SocketError> {
    let (Some(count), Some(pid)) = (count, pid) else { return Ok(0) };
    let nonsense = |variable, value| SocketError::Variable { variable, value };
    // Variables that a parent has left behind are for the parent.
    match pid.parse::<u32>() {
        Ok(pid) if pid == own_pid => count.parse::<u16>().map(usize::from).map_err(|_| nonsense("LISTEN_FDS", count)),
        Ok(_) => Ok(0),
        Err(_) => Err(nonsense("LISTEN_PID", pid)),
    }
}

fn inherit(fd: RawFd, name: &str) -> Result<Inherited, SocketError> {
    // Nothing may own a number that is not open: the next file that is opened would get it.
    if std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_err() {
        return Err(SocketError::NotOpen { fd });
    }
    // SAFETY: the descriptor is open, as was just seen. It has no other owner: this runs once, before anything else in
    // the process has opened a file, so what is open from 3 on was there when the process began, and numbers are not
    // taken twice.
    #[expect(unsafe_code, reason = "descriptors are handed over as numbers; see the comment above")]
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let socket = Socket::from(owned);
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    let (Some(address), Ok(Type::STREAM), true) = (address, socket.r#type(), listens(&socket)) else {
        return Err(SocketError::NotListening { fd, name: name.to_owned() });
    };
    socket
        .set_cloexec(true)
        // The supervisor's own descriptor becomes nonblocking, too, if it is not: they are one socket.
        .and_then(|()| socket.set_nonblocking(true))
        .map_err(|error| SocketError::Unusable { fd, error })?;
    Ok(Inherited { address, name: name.to_owned(), socket: socket.into() })
}

#[cfg(target_os = "linux")]
fn listens(socket: &Socket) -> bool {
    socket.is_listener().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn listens(_socket: &Socket) -> bool {
    true
}

fn named(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" ({name})") }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn sockets_are_for_the_process_that_the_variables_name() {
        let promised = |count, pid| promised(count, pid, 7).map_err(|error| error.to_string());
        assert_eq!(promised(text("2"), text("7")), Ok(2));
        assert_eq!(promised(text("2"), text("8")), Ok(0));
        assert_eq!(promised(text("two"), text("8")), Ok(0), "somebody else's variables are not looked at");
        assert_eq!(promised(None, text("7")), Ok(0));
        assert_eq!(promised(text("2"), None), Ok(0));
        for count in ["", "-1", "two", "4294967296"] {
            let expected = format!("LISTEN_FDS is {count:?}, which is no number");
            assert_eq!(promised(text(count), text("7")), Err(expected));
        }
        assert_eq!(promised(text("2"), text("me")), Err("LISTEN_PID is \"me\", which is no number".to_owned()));
    }

    fn handed_over(address: &str, name: &str) -> Inherited {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Inherited { address: address.parse().expect("an address"), name: name.to_owned(), socket }
    }

    fn config(listen: &str) -> Config {
        let source = format!(
            "[server]\nlisten = {listen}\n[[upstream]]\nname = 'a'\ntargets = ['http://127.0.0.1:9']\n\
             [[route]]\npath = '/'\nupstream = 'a'\n"
        );
        Config::parse(&source, std::path::Path::new("tidegate.toml")).expect("a sound config")
    }

    #[test]
    fn a_socket_that_no_address_wants_is_named_with_the_addresses_it_could_have() {
        let sockets = InheritedSockets(vec![handed_over("127.0.0.1:80", "web"), handed_over("127.0.0.1:9901", "")]);
        assert!(sockets.check(&config("['127.0.0.1:80', '[::1]:80']")).is_ok());
        let error = sockets.check(&config("['127.0.0.1:8080', '[::1]:80']")).expect_err("nobody wants it");
        assert_eq!(
            (error.to_string(), error.hint()),
            (
                "a socket for 127.0.0.1:80 (web) was handed over, but the config does not listen there".to_owned(),
                "add \"127.0.0.1:80\" to `listen` of [server], or make it that of [admin], or change the socket's \
                 address to 127.0.0.1:8080 or [::1]:80"
                    .to_owned()
            )
        );
    }

    #[test]
    fn two_sockets_for_one_address_are_one_too_many() {
        let sockets = InheritedSockets(vec![handed_over("127.0.0.1:80", "a"), handed_over("127.0.0.1:80", "b")]);
        let error = sockets.check(&config("'127.0.0.1:80'")).expect_err("one is left over");
        assert!(error.to_string().contains("(b)"), "{error}");
    }
}
