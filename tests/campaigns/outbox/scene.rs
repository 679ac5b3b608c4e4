//! What a gateway is put between: the receivers, the files, and the config that names them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::client::Client;
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::nats::{NatsServer, header};
use tidegate_tests::origin::Origin;
use tidegate_tests::receiver::{Received, Receiver, Reply};

use crate::evidence::{Arrival, Arrivals};

/// The key that webhooks are signed with (base64).
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

/// The stream in the broker.
const STREAM: &str = "CAMPAIGN";

/// Nothing takes longer to be delivered once everything is there, on however busy a machine.
const DRAINED: Duration = Duration::from_secs(300);

/// Receivers and files of a campaign, or of one round of it.
pub(crate) struct Scene {
    pub(crate) config: ConfigFile,
    /// Where the outbox is.
    pub(crate) outbox: PathBuf,
    pub(crate) hook: Hook,
    file: Option<PathBuf>,
    /// Has to live as long as the gateway.
    _origin: Origin,
    _folder: TempDir,
}

/// A receiver of webhooks that is not always in the mood.
pub(crate) struct Hook {
    receiver: Receiver,
    taken: Arc<Mutex<Vec<Arrival>>>,
    /// Requests without a right signature.
    unsigned: Arc<AtomicUsize>,
}

/// What a receiver does with those that it does not take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    /// One in fifty is answered 503, one in a hundred not at all; some take a while.
    Moody(u64),
    /// None is taken.
    Closed,
    /// All are taken.
    Open,
}

impl Hook {
    async fn start() -> Self {
        let hook = Self { receiver: Receiver::start().await, taken: Arc::default(), unsigned: Arc::default() };
        hook.is(Mood::Open);
        hook
    }

    /// Behave like this from now on.
    pub(crate) fn is(&self, mood: Mood) {
        let (taken, unsigned) = (Arc::clone(&self.taken), Arc::clone(&self.unsigned));
        let random = Mutex::new(StdRng::seed_from_u64(if let Mood::Moody(seed) = mood { seed } else { 0 }));
        self.receiver.behave(move |_, received| {
            let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
            let late = match mood {
                Mood::Closed => return Reply::Status(503),
                Mood::Open => Duration::ZERO,
                Mood::Moody(_) => match random.random_range(0..100) {
                    0..2 => return Reply::Status(503),
                    2 => return Reply::Close,
                    3..20 => Duration::from_millis(random.random_range(1..20)),
                    _ => Duration::ZERO,
                },
            };
            if !received.is_signed_with(KEY) {
                unsigned.fetch_add(1, Ordering::Relaxed);
            }
            taken.lock().unwrap_or_else(PoisonError::into_inner).push(arrival(received));
            Reply::After(late, Box::new(Reply::Status(200)))
        });
    }

    pub(crate) fn arrivals(&self) -> Arrivals {
        Arrivals { sink: "webhook", events: self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    pub(crate) fn unsigned(&self) -> usize {
        self.unsigned.load(Ordering::Relaxed)
    }
}

fn arrival(received: &Received) -> Arrival {
    let text = |name: &str| received.header(name).to_owned();
    Arrival { id: text("ce-id"), subject: text("ce-subject"), body: received.body.to_vec() }
}

impl Scene {
    /// With a webhook alone; the outbox is in this folder, or in one of its own.
    pub(crate) async fn with_a_webhook(folder: Option<&Path>) -> Result<Self> {
        Self::set(folder, None).await
    }

    /// With a webhook, a stream and a file.
    pub(crate) async fn with_every_sink(broker: &NatsServer) -> Result<Self> {
        Self::set(None, Some(broker)).await
    }

    async fn set(elsewhere: Option<&Path>, broker: Option<&NatsServer>) -> Result<Self> {
        let (folder, hook, origin) = (TempDir::new()?, Hook::start().await, Origin::start().await);
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("whsec_{KEY}\n"))?;
        let outbox = elsewhere.unwrap_or(folder.path()).join("outbox.db");
        let common = "topic = 'campaign.>'\nbackoff = '20ms'\nmax_backoff = '200ms'\ntimeout = '5s'";
        let mut tables = format!(
            "[outbox]\npath = '{}'\n[[outbox.sink]]\nname = 'webhook'\nkind = 'webhook'\n{common}\nurl = '{}'\n\
             secret_file = '{}'\n",
            outbox.display(),
            hook.receiver.url(),
            secret.display()
        );
        let file = broker.is_some().then(|| folder.path().join("events.ndjson"));
        if let (Some(broker), Some(file)) = (broker, &file) {
            write!(
                tables,
                "[[outbox.sink]]\nname = 'stream'\nkind = 'nats'\n{common}\nurl = '{}'\nstream = '{STREAM}'\n\
                 create = true\n[[outbox.sink]]\nname = 'file'\nkind = 'file'\n{common}\npath = '{}'\nrotate = '1024GiB'\n",
                broker.url(),
                file.display()
            )?;
        }
        let plugin = PluginTable::guest("publisher").set("instances = 4").grant("outbox = ['campaign.>']");
        // A stop with events that nobody takes uses all of its time.
        let config = ConfigFile::before(origin.address())
            .shutdown("grace = '4s'")
            .shutdown("drain = '1s'")
            .plugin(plugin.limit("shutdown = '1s'"))
            .route("/", &["publisher"])
            .section(&tables);
        Ok(Self { config, outbox, hook, file, _origin: origin, _folder: folder })
    }

    /// Wait until nothing waits any more.
    pub(crate) async fn drained(&self, gateway: &TestGateway) -> Result<()> {
        let admin = Client::http1(gateway.admin());
        let drained = async {
            loop {
                let status = admin.get("/v1/outbox").await.json();
                if status["pending"] == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let status = async { admin.get("/v1/outbox").await.text() };
        if tokio::time::timeout(DRAINED, drained).await.is_err() {
            bail!("events are left in the outbox after {DRAINED:?}: {}\n{}", status.await, gateway.log().text());
        }
        Ok(())
    }

    /// What is in the file. Lines that a crash has cut off are none.
    pub(crate) fn lines(&self) -> Result<Arrivals> {
        let file = self.file.as_ref().context("there is no file")?;
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        let events = text.split(|byte| *byte == b'\n').filter_map(line).collect();
        Ok(Arrivals { sink: "file", events })
    }
}

fn line(line: &[u8]) -> Option<Arrival> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let text = |name: &str| Some(line.get(name)?.as_str()?.to_owned());
    Some(Arrival { id: text("id")?, subject: text("subject")?, body: text("data")?.into_bytes() })
}

/// What is in the stream.
pub(crate) async fn stored(broker: &NatsServer) -> Arrivals {
    let stored = broker.stored(STREAM).await;
    let events = stored.iter().map(|message| Arrival {
        id: header(message, "Nats-Msg-Id").to_owned(),
        subject: header(message, "ce-subject").to_owned(),
        body: message.payload.to_vec(),
    });
    Arrivals { sink: "nats", events: events.collect() }
}
