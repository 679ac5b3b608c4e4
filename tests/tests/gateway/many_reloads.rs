//! Reloads under load: nobody notices, and nothing is left of what has been replaced.

use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_tests::client::{Crowd, Tally};
use tidegate_tests::gateway::{ConfigFile, Holdings, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;

/// Reloads before holdings are looked at for the first time: pools and allocators have what they need by then.
const WARM_UP: u64 = 20;

/// Reloads altogether.
const RELOADS: u64 = 200;

/// What holdings may differ by between the two looks, of which 180 reloads lie in between. Files and threads: idle
/// connections to the origin, and threads for blocking work that are between two pieces of it, come and go. Memory: what
/// an allocator keeps; a plugin with two instances that stayed would be 100 KiB, and its code more.
const ALLOWED: Holdings = Holdings { resident: 8 << 20, files: 24, threads: 12 };

/// The config for this reload: `first` has another config each time, `second` is another component each time, `kept`
/// stays what it is.
fn config(origin: &Origin, number: u64) -> ConfigFile {
    let second = if number.is_multiple_of(2) { PluginTable::guest("counter") } else { PluginTable::guest("notes") };
    let first = PluginTable::example("stamp").named("first").config(&format!("value = 'of reload {}'", number % 2));
    ConfigFile::before(origin.address())
        .plugin(first.set("instances = 2"))
        .plugin(second.named("second").set("instances = 2"))
        .plugin(PluginTable::example("journal").named("kept").set("instances = 2"))
        .route("/", &["first", "second", "kept"])
}

/// Reload under load, from one number up to another.
async fn reload(gateway: &TestGateway, origin: &Origin, numbers: std::ops::RangeInclusive<u64>, seed: u64) -> Tally {
    let crowd = Crowd::of(gateway.address());
    let reloads = async {
        for number in numbers {
            let asked = origin.requests();
            let generation = gateway.reload(&config(origin, number)).await["generation"].as_u64().unwrap_or(0);
            assert_eq!(generation, number + 1, "each reload makes the next generation");
            let live = gateway.series("tidegate_stores_live").await;
            let expected = [("first", generation), ("kept", 1), ("second", generation)]
                .map(|(plugin, generation)| (format!("{{plugin=\"{plugin}\",generation=\"{generation}\"}}"), 2.0));
            let mut sorted = live.clone();
            sorted.sort_by(|one, other| one.0.cmp(&other.0));
            assert_eq!(sorted, expected, "reload {number}: the old generation is gone, the new one is there");
            assert_eq!(gateway.metric("tidegate_generations_retiring").await, 0.0, "reload {number}");
            // The next one falls into a load that this generation serves.
            gateway.until("requests go on", async || origin.requests() > asked).await;
        }
        crowd.over.now();
    };
    let (tally, ()) = tokio::join!(crowd.ask(seed), reloads);
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_lose_no_request_and_leave_nothing_behind() {
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(by_clock);
    println!("TIDEGATE_SEED={seed}");
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, 0)).await;
    let mut tally = reload(&gateway, &origin, 1..=WARM_UP, seed).await;
    let early = gateway.holdings();
    tally.add(reload(&gateway, &origin, WARM_UP + 1..=RELOADS, seed.wrapping_add(1)).await);
    let late = gateway.holdings();
    println!("{RELOADS} reloads, {} requests answered", tally.answered);
    println!("after {WARM_UP} reloads: {early:?}\nafter {RELOADS} reloads: {late:?}\nallowed to grow by: {ALLOWED:?}");
    assert!(tally.lost.is_empty() && tally.elsewhere == 0, "TIDEGATE_SEED={seed}: {tally:#?}");
    assert!(late.resident <= early.resident + ALLOWED.resident, "memory grows: {early:?}, {late:?}");
    assert!(late.files <= early.files + ALLOWED.files, "files stay open: {early:?}, {late:?}");
    assert!(late.threads <= early.threads + ALLOWED.threads, "threads stay: {early:?}, {late:?}");
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    // No call was refused by a plugin that had gone already.
    assert!(ended.log.with(&[("message", "plugin failed")]).is_empty(), "{}", ended.log.text());
    let reloaded = ended.log.with(&[("message", "plugin instance stopped"), ("reason", "reload")]);
    assert_eq!(reloaded.len() as u64, RELOADS * 4, "two plugins with two instances each time");
}
