//! Disks that are full, and files that are not what was written.
//!
//! In each round the webhook is closed while events are published, so that they are all in the file; then the gateway is
//! killed, something is done to the file, and the next gateway delivers what there is. An event that was accepted has to
//! arrive, or somebody has to say that it does not: the log, `tidegate outbox`, or a start that is refused.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use tidegate_tests::gateway::{Ended, Signal, TestGateway, tidegate};
use tidegate_tests::measure::table::{Table, progress, say};

use crate::evidence::{Findings, compare};
use crate::ledger::{Answer, Ledger, Number};
use crate::scene::{Mood, Scene};
use crate::traffic::Request;

/// The disk that gets full.
const DISK: &str = "size=8m";

/// What somebody else has on it, bytes.
const NEIGHBOUR: usize = 5 << 20;

/// Refusals in a row after which it is full.
const FULL: usize = 10;

/// Everything, so many rounds of each kind of damage.
pub(crate) async fn run(rounds: usize, seed: u64) -> Result<Findings> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut findings = full_disk().await?;
    let mut table = Table::new(
        &format!("damage to the file of a gateway that was killed, {rounds} rounds of each kind"),
        &[
            "",
            "accepted",
            "delivered",
            "lost, and said so",
            "lost by the tear itself",
            "starts refused",
            "repaired",
            "lost in silence",
        ],
    );
    for kind in [Kind::TornLog, Kind::FlippedInLog, Kind::FlippedInFile] {
        let mut sum = Outcome::default();
        for round in 0..rounds {
            let outcome = kind.happen(&mut random).await.with_context(|| format!("{kind:?}, round {round}"))?;
            for number in &outcome.silent {
                findings.wrong.push(format!("{kind:?}, round {round}: lost in silence: {number:?} ({})", outcome.what));
            }
            findings.wrong.extend(outcome.wrong.iter().map(|wrong| format!("{kind:?}, round {round}: {wrong}")));
            sum.add(outcome);
        }
        progress(format_args!("{kind:?}: {rounds} rounds"))?;
        let counts = [sum.accepted, sum.delivered, sum.named, sum.torn, sum.refused, sum.repaired, sum.silent.len()];
        table.row([kind.what().to_owned()].into_iter().chain(counts.map(|count| count.to_string())));
    }
    table.print()?;
    Ok(findings)
}

/// Publishes one by one, under one key.
struct Publisher {
    ledger: Ledger,
    next: u64,
}

impl Publisher {
    fn new() -> Self {
        Self { ledger: Ledger::default(), next: 0 }
    }

    /// One more. What became of it.
    async fn publish(&mut self, gateway: &TestGateway, padding: usize) -> Result<Answer> {
        let number = Number { key: 0, number: self.next, part: None };
        self.next += 1;
        let request = Request { key: 0, number: number.number, several: None, padding };
        ensure!(request.send(&gateway.client(), &self.ledger).await, "no answer\n{}", gateway.log().text());
        self.ledger.entries().remove(&number).context("it was written down")
    }

    async fn publish_all(&mut self, gateway: &TestGateway, count: u64) -> Result<()> {
        for _ in 0..count {
            let answer = self.publish(gateway, 0).await?;
            ensure!(matches!(answer, Answer::Accepted(_)), "not accepted: {answer:?}");
        }
        Ok(())
    }

    fn accepted(&self) -> Vec<Number> {
        let entries = self.ledger.entries();
        entries
            .into_iter()
            .filter(|(_, answer)| matches!(answer, Answer::Accepted(_)))
            .map(|(number, _)| number)
            .collect()
    }
}

async fn killed(mut gateway: TestGateway) -> Ended {
    gateway.signal(Signal::KILL);
    gateway.wait().await
}

/// A file system of its own that is as small as wanted. Unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Result<Self> {
        let folder = TempDir::new()?;
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder.path()).output()?;
        ensure!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr).trim());
        Ok(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it fails, the folder cannot be removed either, and stays.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A disk gets full: events are refused and none is lost, the gateway is killed and starts on the full disk, and once there
/// is room again, everything is as ever.
async fn full_disk() -> Result<Findings> {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            say(&format!("\na full disk: NOT RUN, no small file system can be mounted ({why:#})"))?;
            return Ok(Findings::default());
        }
    };
    let scene = Scene::with_a_webhook(Some(disk.0.path())).await?;
    let (mut publisher, mut findings) = (Publisher::new(), Findings::default());
    scene.hook.is(Mood::Closed);
    let neighbour = disk.0.path().join("neighbour");
    fs::write(&neighbour, vec![0; NEIGHBOUR])?;
    let gateway = TestGateway::start(&scene.config).await;
    fill(&mut publisher, &gateway).await?;
    killed(gateway).await;
    let gateway = TestGateway::start(&scene.config).await;
    fill(&mut publisher, &gateway).await?;
    scene.hook.is(Mood::Open);
    // That an event has been delivered needs room to be written down; somebody has to make some.
    fs::remove_file(&neighbour)?;
    scene.drained(&gateway).await?;
    for _ in 0..20 {
        let answer = publisher.publish(&gateway, 4_000).await?;
        if !matches!(answer, Answer::Accepted(_)) {
            findings.wrong.push(format!("there is room again, and still it says {answer:?}"));
        }
    }
    scene.drained(&gateway).await?;
    let ended = gateway.stop().await;
    if ended.code != Some(0) {
        findings.wrong.push(format!("full disk: ended with {:?}\n{}", ended.code, ended.log.text()));
    }
    let title = "a disk that is full, and a gateway killed and started on it";
    findings.add(compare(title, &publisher.ledger, &[scene.hook.arrivals()], &BTreeSet::new())?);
    Ok(findings)
}

/// Until nothing fits any more.
async fn fill(publisher: &mut Publisher, gateway: &TestGateway) -> Result<()> {
    let mut refused = 0;
    while refused < FULL {
        match publisher.publish(gateway, 16_000).await? {
            Answer::Accepted(_) => refused = 0,
            Answer::Refused(_) => refused += 1,
            Answer::None => bail!("no answer"),
        }
    }
    Ok(())
}

/// What is done to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The end of the log is missing, as after a power cut.
    TornLog,
    /// A byte of the log is another.
    FlippedInLog,
    /// A byte of the database is another.
    FlippedInFile,
}

/// What became of the events of a round, or of many.
#[derive(Debug, Default)]
struct Outcome {
    what: String,
    accepted: usize,
    delivered: usize,
    /// Not delivered, and the log or the command says that something is missing or damaged.
    named: usize,
    /// Not delivered, since their commit was in the piece that was torn off: nothing is left of it that could be found.
    torn: usize,
    /// Starts that the gateway refused.
    refused: usize,
    /// Of them repaired by `tidegate outbox repair`.
    repaired: usize,
    silent: Vec<Number>,
    wrong: Vec<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.named += other.named;
        self.torn += other.torn;
        self.refused += other.refused;
        self.repaired += other.repaired;
        self.silent.extend(other.silent);
    }
}

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Self::TornLog => "up to 4,000 bytes torn off the log",
            Self::FlippedInLog => "a byte of the log flipped",
            Self::FlippedInFile => "a byte of the database flipped",
        }
    }

    async fn happen(self, random: &mut StdRng) -> Result<Outcome> {
        let scene = Scene::with_a_webhook(None).await?;
        let mut publisher = Publisher::new();
        scene.hook.is(Mood::Closed);
        if self == Self::FlippedInFile {
            // A stop writes the log into the database.
            let gateway = TestGateway::start(&scene.config).await;
            publisher.publish_all(&gateway, random.random_range(5..60)).await?;
            let ended = gateway.stop().await;
            ensure!(ended.code == Some(12), "events are left: {:?}\n{}", ended.code, ended.log.text());
        }
        let gateway = TestGateway::start(&scene.config).await;
        publisher.publish_all(&gateway, random.random_range(5..60)).await?;
        killed(gateway).await;
        let what = self.strike(&scene.outbox, random)?;
        scene.hook.is(Mood::Open);
        self.recover(&scene, &publisher, what).await
    }

    /// Do it. What was done.
    fn strike(self, outbox: &Path, random: &mut StdRng) -> Result<String> {
        let log = with_ending(outbox, "-wal");
        match self {
            Self::TornLog => {
                let (length, torn) = (fs::metadata(&log)?.len(), random.random_range(1..=4_000));
                OpenOptions::new().write(true).open(&log)?.set_len(length.saturating_sub(torn))?;
                Ok(format!("{torn} of {length} bytes torn off"))
            }
            Self::FlippedInLog => flip(&log, random),
            Self::FlippedInFile => flip(outbox, random),
        }
    }

    /// Start again, and see what becomes of the events.
    async fn recover(self, scene: &Scene, publisher: &Publisher, what: String) -> Result<Outcome> {
        let accepted = publisher.accepted();
        let mut outcome = Outcome { what, accepted: accepted.len(), ..Outcome::default() };
        let mut said = String::new();
        let check = tidegate_starts(scene).await;
        let gateway = match check {
            Ok(gateway) => gateway,
            Err(ended) => {
                outcome.refused += 1;
                if ended.code != Some(1) || !ended.log.text().contains("hint:") {
                    outcome.wrong.push(format!("refused with {:?}: {}", ended.code, ended.log.text()));
                }
                let path = scene.outbox.display().to_string();
                let repair = tidegate(&["outbox", "repair", "--path", &path, "--yes"]).await;
                said = format!("{}{}", repair.stdout, repair.stderr);
                match tidegate_starts(scene).await {
                    Ok(gateway) => {
                        outcome.repaired += 1;
                        gateway
                    }
                    Err(_) => {
                        // It goes on refusing: nothing is lost in silence.
                        outcome.named += accepted.len();
                        return Ok(outcome);
                    }
                }
            }
        };
        scene.drained(&gateway).await?;
        let ended = gateway.stop().await;
        said.push_str(ended.log.text());
        let arrived: BTreeSet<Number> =
            scene.hook.arrivals().events.iter().filter_map(|event| Number::of(&event.body)).collect();
        let known: BTreeSet<Number> = accepted.iter().copied().collect();
        let phantoms: Vec<_> = arrived.difference(&known).collect();
        if !phantoms.is_empty() {
            outcome.wrong.push(format!("arrived, and never accepted: {phantoms:?}"));
        }
        outcome.delivered = arrived.intersection(&known).count();
        let mut missing: Vec<Number> = known.difference(&arrived).copied().collect();
        // One commit is one event here, and the piece that is torn off is shorter than a page: the last one.
        if self == Self::TornLog && missing.last() == known.last() && missing.pop().is_some() {
            outcome.torn = 1;
        }
        let named = ["damaged", "is not whole", "are not;"].iter().any(|word| said.contains(word));
        if named {
            outcome.named = missing.len();
        } else {
            outcome.silent = missing;
        }
        Ok(outcome)
    }
}

/// A gateway that serves, or what it leaves behind if it does not.
async fn tidegate_starts(scene: &Scene) -> Result<TestGateway, Ended> {
    let starting = TestGateway::spawn(&scene.config);
    starting.ready_or_ended().await
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Another byte somewhere in a file.
fn flip(path: &Path, random: &mut StdRng) -> Result<String> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let (at, bits) = (random.random_range(0..length), random.random_range(1..=u8::MAX));
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&byte.map(|byte| byte ^ bits))?;
    Ok(format!("byte {at} of {length} in {}", path.display()))
}
