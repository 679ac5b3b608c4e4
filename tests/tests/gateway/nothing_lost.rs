//! Nothing is lost at shutdown, whenever it begins.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate_tests::client::{Moment, steady_load};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;

const ROUNDS: u64 = 50;

/// See [`steady_load`] for what counts as lost. The origin answers within 20 ms, so everything can finish within the
/// drain's share, however busy the machine is. `TIDEGATE_SEED` repeats a run's moments, `TIDEGATE_ROUNDS` sets their
/// number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_when_sigterm_comes_at_a_random_moment() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let (seed, rounds) =
        (number("TIDEGATE_SEED").unwrap_or_else(by_clock), number("TIDEGATE_ROUNDS").unwrap_or(ROUNDS));
    println!("TIDEGATE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .shutdown("grace = '8s'")
        .shutdown("drain = '5s'")
        .shutdown("flush = '500ms'")
        .plugin(PluginTable::example("stamp").set("instances = 2").limit("shutdown = '2s'"))
        .plugin(PluginTable::example("audit").set("instances = 2").limit("shutdown = '2s'").config("batch = 50"))
        .route("/", &["stamp", "audit"]);
    let (mut answered, mut elsewhere) = (0, 0);
    for round in 0..rounds {
        let (moment, round_seed) = (Duration::from_micros(random.random_range(0..150_000)), random.random());
        let mut gateway = TestGateway::start(&config).await;
        let (address, before) = (gateway.address(), origin.requests());
        let signal = Moment::default();
        let stop = async {
            // The first answers: the moment falls into a load that is steady.
            while origin.requests() < before + 20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(moment).await;
            signal.now();
            gateway.terminate();
            gateway.wait().await
        };
        let (tally, ended) = tokio::join!(steady_load(address, &signal, round_seed), stop);
        let which = format!("round {round}, {moment:?} into the load, TIDEGATE_SEED={seed}");
        assert!(tally.lost.is_empty(), "{which}: {:#?}\n{:#}", tally.lost, ended.report().0);
        assert!(tally.answered >= 10, "{which}: {tally:?}");
        assert_eq!((ended.code, ended.report().number("/requests/cut")), (Some(0), 0), "{which}: {}", ended.log.text());
        // Every event that a plugin has collected is written, those of the drain included.
        let written = ended.log.with(&[("plugin", "audit"), ("context", "audit"), ("level", "INFO")]);
        let events = written.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.ends_with(" 200")));
        assert_eq!(events.count(), origin.requests() - before, "{which}");
        answered += tally.answered;
        elsewhere += tally.elsewhere;
    }
    println!("{rounds} rounds: {answered} answered, {elsewhere} had to ask elsewhere, none lost");
}
