//! A real NATS server with JetStream.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// It starts within this, on however busy a machine.
const HANGS: Duration = Duration::from_secs(30);

/// A server on a free port. Dropped, it is killed, and its files are gone.
pub struct Broker {
    process: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Broker {
    /// Start one and wait until it answers.
    ///
    /// # Panics
    /// If `nats-server` is not installed, or does not start.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.unwrap_or_else(|error| panic!("no free port: {error}"));
        let broker = Self { process: spawn(&folder, address), folder, address };
        broker.answers().await;
        broker
    }

    /// Where it is, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Kill it. What it has acknowledged is in its files.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        killed.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Start it again on the same port, with the same files.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_again(&mut self) {
        self.process = spawn(&self.folder, self.address);
        self.answers().await;
    }

    async fn answers(&self) {
        let connecting = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                // It is another process: there is nothing to await.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(HANGS, connecting).await.is_ok(), "nats-server does not start");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Fails if it is gone, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &TempDir, address: SocketAddr) -> Child {
    Command::new("nats-server")
        .args(["-js", "-a", "127.0.0.1", "-p", &address.port().to_string(), "-sd"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("nats-server: {error}"))
}
