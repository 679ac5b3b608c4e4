//! Nothing is lost at shutdown, whenever it begins, and it is over in time, whatever is in its way.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate_tests::client::{Moment, get, steady_load};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;

const ROUNDS: u64 = 200;

/// From the signal to the exit, whatever happens.
const GRACE: Duration = Duration::from_millis(4_500);

/// How often running guests are looked at.
const TICK: Duration = Duration::from_millis(1);

/// What is in the way of the shutdown beside the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hindered {
    /// A plugin computes without end when it is told to go.
    plugin: bool,
    /// A request that the origin never answers.
    request: bool,
}

impl Hindered {
    /// Most shutdowns are not hindered. A request that is in the way costs a round its whole drain.
    fn at_random(random: &mut StdRng) -> Self {
        Self { plugin: random.random_bool(0.25), request: random.random_bool(0.07) }
    }

    /// The truth that the exit code has to say.
    fn exit_code(self) -> i32 {
        match self {
            Self { plugin: true, .. } => 11,
            Self { request: true, .. } => 10,
            Self { .. } => 0,
        }
    }

    fn config(self, origin: &Origin) -> ConfigFile {
        let config = ConfigFile::before(origin.address())
            .shutdown(&format!("grace = '{}ms'", GRACE.as_millis()))
            .shutdown("drain = '2500ms'")
            .shutdown("flush = '500ms'")
            .plugin(PluginTable::example("stamp").set("instances = 2").limit("shutdown = '1s'"))
            .plugin(PluginTable::example("journal").set("instances = 2").limit("shutdown = '1s'").config("batch = 50"))
            .route("/", &["stamp", "journal"]);
        if !self.plugin {
            return config;
        }
        config.plugin(PluginTable::hostile("hostile").config("shutdown = 'spin'").limit("shutdown = '300ms'"))
    }
}

/// See [`steady_load`] for what counts as lost. The origin answers within 20 ms, so everything but the request that is
/// in the way can finish within the drain's share, however busy the machine is. `TIDEGATE_SEED` repeats a run's
/// moments, `TIDEGATE_ROUNDS` sets their number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_when_sigterm_comes_at_a_random_moment_and_the_exit_is_in_time_and_says_the_truth() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let (seed, rounds) =
        (number("TIDEGATE_SEED").unwrap_or_else(by_clock), number("TIDEGATE_ROUNDS").unwrap_or(ROUNDS));
    println!("TIDEGATE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let origin = Origin::start().await;
    let (mut answered, mut elsewhere, mut held) = (0, 0, 0);
    // The longest time from the signal to the exit, and how many there were, by exit code.
    let mut exits = BTreeMap::<i32, (Duration, usize)>::new();
    for round in 0..rounds {
        let (moment, round_seed) = (Duration::from_micros(random.random_range(0..150_000)), random.random());
        let hindered = Hindered::at_random(&mut random);
        let mut gateway = TestGateway::start(&hindered.config(&origin)).await;
        let (address, before, client) = (gateway.address(), origin.requests(), gateway.client());
        if hindered.request {
            held += 1;
            tokio::spawn(async move { client.try_send(get("/", &[("x-origin", "hold")])).await });
            origin.holds(held).await;
        }
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
        let which = format!("round {round}, {hindered:?}, {moment:?} into the load, TIDEGATE_SEED={seed}");
        assert!(tally.lost.is_empty(), "{which}: {:#?}\n{:#}", tally.lost, ended.report().0);
        assert!(tally.answered >= 10, "{which}: {tally:?}");
        let (cut, code) = (u64::from(hindered.request), hindered.exit_code());
        assert_eq!(
            (ended.code, ended.report().number("/requests/cut")),
            (Some(code), cut),
            "{which}: {}",
            ended.log.text()
        );
        assert_eq!(ended.report().number("/exit_code"), u64::from(code.unsigned_abs()), "{which}");
        assert!(ended.took <= GRACE + TICK, "{which}: {:?}\n{:#}", ended.took, ended.report().0);
        // Every event that a plugin has collected is written, those of the drain included.
        let written = ended.log.with(&[("plugin", "journal"), ("context", "journal"), ("level", "INFO")]);
        let events = written.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.ends_with(" 200")));
        assert_eq!(events.count() + usize::from(hindered.request), origin.requests() - before, "{which}");
        answered += tally.answered;
        elsewhere += tally.elsewhere;
        let (longest, count) = exits.entry(code).or_default();
        if ended.took > *longest {
            println!("{which}: exit after {:?}, phases {}", ended.took, ended.report().at("/phases"));
        }
        (*longest, *count) = (ended.took.max(*longest), *count + 1);
    }
    println!("{rounds} rounds: {answered} answered, {elsewhere} had to ask elsewhere, none lost");
    for (code, (longest, count)) in exits {
        println!("exit code {code}: {count} times, at the latest {longest:?} after the signal, grace {GRACE:?}");
    }
}
