//! Listening sockets: bound, accepting, and closed without losing a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bind::BindError;
use super::connection;
use super::{LINGER, Shared};
use crate::stop::phase::Phase;
use crate::supervisor::sockets::{Holder, InheritedSockets};

/// The pause after a failed accept: the first, and the longest. Running out of file descriptors does not pass by trying
/// harder.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    holder: Holder,
}

impl Listener {
    pub(super) fn bind(address: SocketAddr, sockets: &mut InheritedSockets) -> Result<Self, BindError> {
        let (socket, holder) = sockets.listen(address)?;
        let address = socket.local_addr().map_err(|error| BindError { address, error })?;
        Ok(Self { socket, address, holder })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accept until the drain begins, or this listener is no longer wanted; then close.
    pub(super) async fn run(self, shared: Arc<Shared>, closing: CancellationToken) {
        let mut phase = shared.phase.clone();
        let cut = shared.cut.clone();
        tokio::select! {
            biased;
            () = cut.cancelled() => return,
            () = phase.reached(Phase::Draining) => {}
            () = closing.cancelled() => {}
            () = self.accept_all(&shared, &closing) => return,
        }
        // The supervisor's socket stays open: what is in its queue, and what still comes, is for the process that is
        // started next. A filter would stay with the socket, and keep everybody out for good.
        if self.holder == Holder::Supervisor {
            tracing::info!(address = %self.address, "listening socket left to the supervisor");
            return;
        }
        if cut.run_until_cancelled(self.close(&shared, &closing)).await.is_none() {
            tracing::debug!(address = %self.address, "listener cut off while closing");
        }
    }

    /// Never holds a connection across an await, so that dropping this future loses none.
    async fn accept_all(&self, shared: &Arc<Shared>, closing: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            // Room first: a connection that there is no room for stays in the kernel's queue, where it costs nothing.
            let Some(permit) = shared.room.enter().await else { return };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    pause = FIRST_PAUSE;
                    serve(shared, stream, peer, Some(permit), closing);
                }
                Err(error) => {
                    shared.proxy.telemetry().metrics.connections.accept_errors.fetch_add(1, Ordering::Relaxed);
                    if !is_about_one_connection(&error) {
                        tracing::warn!(address = %self.address, %error, "cannot accept connections");
                        drop(permit);
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
        }
    }

    /// Close without losing a connection. Closing a socket resets the connections that the kernel has established on it
    /// and nobody has accepted, whose clients may have sent requests already. So first no new ones are let in, where
    /// the system can do that, then those that are there are accepted, and only then the socket is closed.
    async fn close(&self, shared: &Arc<Shared>, closing: &CancellationToken) {
        self.refuse_handshakes();
        let deadline = Instant::now() + LINGER;
        // More than `max_connections` if need be: they are in the queue already, and the queue is short.
        let accept_rest = async {
            loop {
                match self.socket.accept().await {
                    Ok((stream, peer)) => serve(shared, stream, peer, None, closing),
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(address = %self.address, %error, "cannot accept connections");
                        tokio::time::sleep(FIRST_PAUSE).await;
                    }
                }
            }
        };
        let _ = tokio::time::timeout_at(deadline, accept_rest).await;
        // Past what the reactor has seen: what the kernel has now, up to `WouldBlock`.
        let socket = socket2::SockRef::from(&self.socket);
        while let Ok((stream, peer)) = socket.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream.into()));
            if let (Ok(stream), Some(peer)) = (stream, peer.as_socket()) {
                serve(shared, stream, peer, None, closing);
            }
        }
        tracing::debug!(address = %self.address, "listener closed");
    }

    /// Drop the first segment of each new handshake. The client repeats it a second later, and finds the port closed
    /// or taken over by a successor. A classic BPF program sees a listening socket's segments from the TCP header on;
    /// the flags are in byte 13.
    #[cfg(target_os = "linux")]
    fn refuse_handshakes(&self) {
        use socket2::{SockFilter, SockRef};

        // <linux/bpf_common.h>: BPF_LD|BPF_B|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
        const LOAD_BYTE: u16 = 0x30;
        const AND: u16 = 0x54;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        const SYN: u32 = 0x02;
        const ACK: u32 = 0x10;
        let program = [
            SockFilter::new(LOAD_BYTE, 0, 0, 13),
            SockFilter::new(AND, 0, 0, SYN | ACK),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ];
        if let Err(error) = SockRef::from(&self.socket).attach_filter(&program) {
            tracing::debug!(address = %self.address, %error, "no filter; connections made while closing may be reset");
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn refuse_handshakes(&self) {}
}

fn serve(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: Option<OwnedSemaphorePermit>,
    closing: &CancellationToken,
) {
    shared.proxy.telemetry().metrics.connections.accepted.fetch_add(1, Ordering::Relaxed);
    shared.tasks.spawn(connection::serve(Arc::clone(shared), stream, peer, permit, closing.clone()));
}

/// The connection failed while it waited to be accepted; the next one may be fine.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
