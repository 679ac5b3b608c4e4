//! From a target to a connection: look up, check the addresses, connect to just those, TLS, HTTP/1.1.
//!
//! The addresses that are checked are the ones that are connected to: nothing looks the name up again in between. A host
//! that is an address goes the same way. HTTP/1.1 alone: it is what every server speaks, and one connection has one
//! request at a time, so that dropping a request is closing its connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use tidegate_runtime::outbound::{Body, OutboundError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::Host;

use crate::address::may_reach;
use crate::names::Names;
use crate::origin::{Scheme, Target};

/// Fields of an answer, and of its trailers.
pub(crate) const MOST_FIELDS: usize = 256;

/// A connection that a request can be sent on. Dropped, it is closed at once, whatever is under way on it.
pub(crate) struct Connection {
    pub(crate) sender: http1::SendRequest<Body>,
    /// Whatever moves the bytes. It ends with the connection.
    _driver: AbortOnDropHandle<()>,
    /// Its share of the connections that the plugin may have.
    _place: OwnedSemaphorePermit,
}

/// How connections are made.
pub(crate) struct Connector {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) tls: TlsConnector,
    /// Bytes of the head of an answer.
    pub(crate) max_head: usize,
}

impl Connector {
    /// Connect within `limit`, to an address that is public or in one of the ranges.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        ranges: &[IpNet],
        lookups: &Arc<Semaphore>,
        place: OwnedSemaphorePermit,
        limit: Duration,
    ) -> Result<Connection, OutboundError> {
        let deadline = Instant::now() + limit;
        let connecting = async {
            let addresses = self.addresses(&target.host, lookups).await?;
            if addresses.is_empty() {
                return Err(OutboundError::Dns("it has no address".to_owned()));
            }
            let allowed: Vec<IpAddr> = addresses.into_iter().filter(|address| may_reach(*address, ranges)).collect();
            let stream = to_any(&allowed, target.port, deadline).await?;
            match target.scheme {
                Scheme::Http => self.http(stream, place).await,
                Scheme::Https => {
                    let name = server_name(&target.host)?;
                    let stream = self.tls.connect(name, stream).await.map_err(tls_error)?;
                    self.http(stream, place).await
                }
            }
        };
        tokio::time::timeout_at(deadline, connecting).await.unwrap_or(Err(OutboundError::ConnectionTimeout))
    }

    async fn addresses(&self, host: &Host<String>, lookups: &Arc<Semaphore>) -> Result<Vec<IpAddr>, OutboundError> {
        match host {
            Host::Ipv4(address) => Ok(vec![(*address).into()]),
            Host::Ipv6(address) => Ok(vec![(*address).into()]),
            Host::Domain(name) => {
                let place = Arc::clone(lookups).acquire_owned().await;
                let place = place.map_err(|closed| OutboundError::Other(closed.to_string()))?;
                self.names.look_up(name.clone(), place).await
            }
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        place: OwnedSemaphorePermit,
    ) -> Result<Connection, OutboundError> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(self.max_head).max_headers(MOST_FIELDS);
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| OutboundError::Protocol(error.to_string()))?;
        // What goes wrong on it, whoever has the sender is told as well.
        let driver = tokio::spawn(async {
            let _ = connection.await;
        });
        Ok(Connection { sender, _driver: AbortOnDropHandle::new(driver), _place: place })
    }
}

/// Try one after the other; each gets its share of the time that is left.
async fn to_any(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, OutboundError> {
    let mut last = OutboundError::AddressProhibited;
    for (number, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let connecting = TcpStream::connect(SocketAddr::new(*address, port));
        match tokio::time::timeout(share, connecting).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = connect_error(&error),
            Err(_) => last = OutboundError::ConnectionTimeout,
        }
    }
    Err(last)
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, OutboundError> {
    match host {
        Host::Ipv4(address) => Ok(ServerName::from(IpAddr::from(*address))),
        Host::Ipv6(address) => Ok(ServerName::from(IpAddr::from(*address))),
        Host::Domain(name) => {
            ServerName::try_from(name.clone()).map_err(|_| OutboundError::Uri("no certificate has such a name"))
        }
    }
}

fn connect_error(error: &io::Error) -> OutboundError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => OutboundError::ConnectionRefused,
        io::ErrorKind::TimedOut => OutboundError::ConnectionTimeout,
        _ => OutboundError::Unreachable(error.to_string()),
    }
}

fn tls_error(error: io::Error) -> OutboundError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => OutboundError::Certificate(format!("{why:?}")),
        Some(rustls::Error::AlertReceived(alert)) => {
            OutboundError::TlsAlert { id: u8::from(*alert), message: format!("{alert:?}") }
        }
        _ => OutboundError::Tls(error.to_string()),
    }
}
