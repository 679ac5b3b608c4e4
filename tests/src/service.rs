//! A service that a plugin makes requests to, as bad as it is told to be. It counts its connections, and the bytes that
//! somebody has taken from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What it does with each request.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// Answers with these bytes, head and all.
    Says(&'static str),
    /// Never answers.
    Stalls,
    /// Answers with a head and a first piece of the body, and then with nothing.
    StallsInBody,
    /// Answers with a body of so many bytes.
    Floods(usize),
    /// Answers with fields, and never comes to the end of them.
    EndlessHead,
    /// Answers that it will answer (`100 Continue`), again and again.
    EndlessInterim,
}

/// A running service. Dropping it ends it.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    seen: watch::Sender<Seen>,
    _server: JoinSet<()>,
}

/// What it has seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Connections, those that are over included.
    pub connections: usize,
    /// Connections that are not over.
    pub open: usize,
    /// Bytes that the kernel has taken for the other side.
    pub sent: usize,
}

/// An authority of a test's own, and what a service under it needs.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// If there is no randomness.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap_or_else(|error| panic!("no certificate: {error}"));
        Self { certificate: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let certificate = CertificateParams::new([name.to_owned()])
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .unwrap_or_else(|error| panic!("no certificate: {error}"));
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap_or_else(|error| panic!("no key: {error}"));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key))
            .unwrap_or_else(|error| panic!("no TLS: {error}"));
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Service {
    /// In cleartext.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start(manner: Manner) -> Self {
        Self::serve(manner, None).await
    }

    /// With TLS, under this name.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn tls(manner: Manner, authority: &Authority, name: &str) -> Self {
        Self::serve(manner, Some(authority.acceptor(name))).await
    }

    async fn serve(manner: Manner, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no service: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no service: {error}"));
        let seen = watch::Sender::new(Seen::default());
        let mut server = JoinSet::new();
        let counts = seen.clone();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counts.send_modify(|seen| (seen.connections, seen.open) = (seen.connections + 1, seen.open + 1));
                let (counts, tls) = (counts.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => talk(stream, manner, &counts).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                talk(stream, manner, &counts).await;
                            }
                        }
                    }
                    counts.send_modify(|seen| seen.open -= 1);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, seen, _server: server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Wait until it has seen that.
    ///
    /// # Panics
    /// If it never does.
    pub async fn until(&self, what: &str, is_so: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(60), seen.wait_for(is_so)).await;
        assert!(waited.is_ok(), "never came about: {what}; {:?}", self.seen());
    }

    /// Wait until nobody is connected.
    ///
    /// # Panics
    /// If somebody stays.
    pub async fn is_left_alone(&self) {
        self.until("nobody is connected", |seen| seen.open == 0).await;
    }
}

/// Until the other side closes the connection.
async fn talk(stream: impl AsyncRead + AsyncWrite + Send + 'static, manner: Manner, seen: &watch::Sender<Seen>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut head = Vec::new();
    let mut some = [0; 16 << 10];
    while let Ok(read @ 1..) = reader.read(&mut some).await {
        let Some(some) = some.get(..read) else { return };
        head.extend_from_slice(some);
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            head.clear();
            // Whoever gives up closes the connection, also while nothing is written.
            let gone = async { while let Ok(1..) = reader.read(&mut [0; 1024]).await {} };
            let answered = tokio::select! {
                answered = answer(&mut writer, manner, seen) => answered,
                () = gone => return,
            };
            if answered.is_err() {
                return;
            }
        }
    }
}

async fn answer(
    writer: &mut (impl AsyncWrite + Unpin),
    manner: Manner,
    seen: &watch::Sender<Seen>,
) -> std::io::Result<()> {
    let mut say = async |bytes: &[u8]| {
        writer.write_all(bytes).await?;
        writer.flush().await?;
        seen.send_modify(|seen| seen.sent += bytes.len());
        Ok::<_, std::io::Error>(())
    };
    match manner {
        Manner::Says(text) => say(text.as_bytes()).await,
        Manner::Stalls => std::future::pending().await,
        Manner::StallsInBody => {
            say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nthe first piece").await?;
            std::future::pending().await
        }
        Manner::Floods(bytes) => {
            say(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").as_bytes()).await?;
            let piece = [b'x'; 64 << 10];
            let mut left = bytes;
            while let Some(some @ [_, ..]) = piece.get(..left.min(piece.len())) {
                say(some).await?;
                left -= some.len();
            }
            Ok(())
        }
        Manner::EndlessHead => {
            say(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                say(b"x-field: and another one\r\n").await?;
            }
        }
        Manner::EndlessInterim => loop {
            say(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        },
    }
}
