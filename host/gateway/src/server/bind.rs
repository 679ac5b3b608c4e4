//! Binding an address, and why that may fail.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps while all are taken or the process is busy.
const BACKLOG: i32 = 1024;

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", reason(.error))]
pub struct BindError {
    /// The address of the configuration.
    pub address: SocketAddr,
    /// What the system says.
    #[source]
    pub error: io::Error,
}

impl BindError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => Some("stop the process that listens there, or choose another port"),
            io::ErrorKind::PermissionDenied => Some("ports below 1024 need a privilege; choose a higher one"),
            io::ErrorKind::AddrNotAvailable => Some("this machine has no such address; 0.0.0.0 and [::] stand for all"),
            _ => None,
        }
    }
}

/// The system's words, without the number that Rust adds to them.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "address not available".to_owned(),
        _ => error.to_string(),
    }
}

/// Bind a listening socket.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the previous process to time out. On Windows the option means
        // something else, and is not needed.
        #[cfg(not(windows))]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bound().map_err(|error| BindError { address, error })
}
