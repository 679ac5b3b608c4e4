//! A disk that takes nothing.

use super::*;

/// A file system of its own with so many pages of 4 KiB; `None`, with a reason on stdout, where there can be none.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(kib: usize) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={kib}k");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tidegate-test"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                skipped(&format!("no small disk can be mounted here: {other:?}"));
                None
            }
        }
    }

    fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        let status = std::process::Command::new("mount").args(["-o", &options]).arg(self.0.path()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[expect(clippy::print_stdout, reason = "a test that does not run says so")]
fn skipped(reason: &str) {
    println!("skipped: {reason}");
}

#[tokio::test]
async fn on_a_full_disk_new_events_are_refused_what_is_there_goes_on_and_then_all_is_well_again() {
    let Some(disk) = SmallDisk::new(512) else { return };
    let memory = Arc::new(Memory::default());
    memory.away.store(true, Ordering::Relaxed);
    let options = options(disk.0.path());
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    let mut accepted = Vec::new();
    let error = loop {
        let body = format!("{:08}{}", accepted.len(), "x".repeat(4_000));
        match publisher.publish("t", vec![draft(&body)]).await {
            Ok(ids) => accepted.extend(ids),
            Err(error) => break error,
        }
        assert!(accepted.len() < 1_000, "it never was full");
    };
    assert!(matches!(&error, PublishError::Unavailable(reason) if reason.contains("disk is full")), "{error}");
    assert!(matches!(outbox.status().health, Health::Failing { .. }));
    assert!(accepted.len() > 10, "{}", accepted.len());
    // Delivery goes on, whether it can be written down or not.
    memory.away.store(false, Ordering::Relaxed);
    memory.has(accepted.len()).await;
    assert_eq!(memory.got().iter().map(|event| event.id).collect::<Vec<_>>().len(), accepted.len());
    assert!(disk.remount("size=8m"));
    outbox.flush().await;
    let published = loop {
        match publisher.publish("t", vec![draft("again")]).await {
            Ok(ids) => break ids,
            Err(PublishError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    };
    memory.has(accepted.len() + 1).await;
    accepted.extend(published);
    let got: Vec<_> = memory.got().iter().map(|event| event.id).collect();
    let mut sorted = got.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, accepted, "each once");
    until(|| outbox.status().events == 0).await;
    assert_eq!(outbox.status().health, Health::Good);
    outbox.close().await;
}

#[tokio::test]
async fn a_disk_that_can_only_be_read_refuses_and_loses_nothing() {
    let Some(disk) = SmallDisk::new(4_096) else { return };
    let memory = Arc::new(Memory::default());
    let options = options(disk.0.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    outbox.publisher("p", vec![pattern(">")]).publish("t", vec![draft("kept")]).await.expect("accepted");
    outbox.close().await;
    drop(outbox);
    if !disk.remount("ro") {
        return skipped("the disk cannot be made read-only");
    }
    let error = Outbox::open(&options, vec![spec("m", ">", &memory)]).expect_err("read-only");
    assert!(matches!(&error, OpenError::Unusable { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("read-only"), "{error}");
    assert!(disk.remount("rw"));
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    outbox.flush().await;
    assert_eq!(memory.bodies(), ["kept"]);
    outbox.close().await;
}
