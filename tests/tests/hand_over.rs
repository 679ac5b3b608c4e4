//! One version of a plugin takes over from another, with its state: no call fails for it, no count is lost without a
//! word, and nobody hangs, whatever either of them does.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_runtime::{LoadError, SnapshotOutcome, Unavailable};
use tidegate_testing::{
    Answer, EndCause, HandOver, Plugin, Request, Setup, SetupError, Snapshot, StopOutcome, StopReason, StopRecord,
};
use tidegate_tests::setups::{AMPLE, cause, guest, hostile, misbehaving};

/// Nothing that is within it by its nature takes so long.
const BUDGET: Duration = Duration::from_secs(60);

/// A count that outlives its version.
fn heir(config: &Value) -> Setup {
    guest("heir").config(config).hand_over()
}

/// The first version, which has nobody to take over from.
fn first(setup: Setup) -> Plugin {
    setup.load().expect("loads, and opens")
}

/// A version that is held beside another.
fn next(setup: Setup, before: &Plugin) -> Plugin {
    setup.load_beside(before).expect("loads")
}

fn call() -> Request {
    Request::get("/")
}

/// What an answer says the count is, and of how many snapshots it was made.
fn counted(answer: &Answer) -> (u64, u64) {
    assert!(answer.failures.is_empty(), "{answer:?}");
    let number = |name| answer.header(name).and_then(|value| value.parse().ok()).expect("a number");
    (number("x-count"), number("x-inherited"))
}

/// The same of one more call.
fn count(plugin: &mut Plugin) -> (u64, u64) {
    counted(&plugin.send(call()))
}

fn tally(plugin: &Plugin, what: SnapshotOutcome) -> u64 {
    SnapshotOutcome::ALL
        .iter()
        .zip(plugin.stats().snapshots)
        .filter(|(outcome, _)| **outcome == what)
        .map(|(_, count)| count)
        .sum()
}

fn only(records: Vec<StopRecord>) -> StopRecord {
    let [record] = &*records else { panic!("{records:?}") };
    record.clone()
}

fn stores(plugins: [&Plugin; 2]) -> [u64; 2] {
    plugins.map(|plugin| plugin.stats().stores_live)
}

const ONE_LOST: HandOver = HandOver { left: 1, handed_over: 0, refused: 0, lost: 1 };
const ONE_REFUSED: HandOver = HandOver { left: 1, handed_over: 0, refused: 1, lost: 0 };
const ONE_HANDED_OVER: HandOver = HandOver { left: 1, handed_over: 1, refused: 0, lost: 0 };

#[test]
fn every_snapshot_reaches_one_instance_of_the_new_version() {
    // Instances before and after, and how many of the new ones have served nothing and are not needed.
    for (before, after, spare) in [(1, 1, 1), (2, 1, 1), (3, 2, 1), (1, 3, 0), (3, 3, 1)] {
        let mut old = first(heir(&json!({})).instances(before));
        count(&mut old);
        let mut new = next(heir(&json!({})).instances(after), &old);
        let result = new.take_over(&old, BUDGET);
        assert_eq!(result, HandOver { left: before, handed_over: before, ..HandOver::default() });
        let records = old.take_ended();
        assert_eq!(records.len(), before);
        for record in records {
            assert_eq!((record.outcome, record.reason), (StopOutcome::Completed, StopReason::Reload));
            assert_eq!(record.snapshot, Snapshot::Left { bytes: 8 });
        }
        let spared = new.take_ended();
        assert_eq!(spared.len(), spare);
        for record in spared {
            assert_eq!((record.reason, record.snapshot), (StopReason::Reload, Snapshot::None), "{record:?}");
        }
        assert_eq!(tally(&new, SnapshotOutcome::HandedOver), before as u64);
        if after == 1 {
            assert_eq!(count(&mut new), (2, before as u64));
        }
        new.stop(BUDGET);
        assert_eq!(stores([&old, &new]), [0, 0]);
    }
}

#[test]
fn a_plugin_that_is_held_serves_nobody_before_it_is_opened() {
    let other = first(heir(&json!({})));
    let wall = Duration::from_secs(1);
    let setup = heir(&json!({})).limits(|limits| (limits.wall, limits.queue) = (wall, 1)).instances(2);
    let mut plugin = next(setup, &other);
    assert_eq!(plugin.instances(), [0], "one on trial");
    let answers = plugin.send_all([call(), call()]);
    assert!(answers.iter().all(|answer| matches!(cause(answer), Some(EndCause::Overloaded { .. }))), "{answers:?}");
    assert_eq!(answers.iter().map(|answer| answer.took).collect::<Vec<_>>(), [wall, Duration::ZERO]);
    plugin.run(plugin.inner().open()).expect("opens");
    assert_eq!((plugin.instances(), count(&mut plugin)), (vec![0, 1], (1, 0)));
}

#[test]
fn a_plugin_that_is_held_can_be_stopped() {
    let other = first(heir(&json!({})));
    let mut plugin = next(heir(&json!({ "leaving": "nothing" })), &other);
    let waits = plugin.begin(call());
    assert_eq!(only(plugin.stop(BUDGET).instances).outcome, StopOutcome::Completed);
    let waits = plugin.finish(waits);
    assert!(matches!(cause(&waits), Some(EndCause::Unavailable(Unavailable::Stopping))), "{waits:?}");
    plugin.run(plugin.inner().open()).expect("there is nothing to open");
    assert_eq!(plugin.send(call()).status, 503);
    assert_eq!(plugin.stats().stores_live, 0);
}

#[test]
fn state_can_be_left_in_a_shutdown_that_has_a_successor_and_nowhere_else() {
    let mut plugin = first(heir(&json!({})));
    let answer = plugin.send(call());
    assert_eq!((answer.header("x-outside"), answer.header("x-late")), (Some("Err(NoSuccessor)"), Some("0")));
    let record = only(plugin.stop(BUDGET).instances);
    assert_eq!((record.outcome, record.snapshot), (StopOutcome::Failed, Snapshot::None));
    assert!(record.error.is_some_and(|error| error.contains("no version takes over")));
}

#[test]
fn the_last_snapshot_counts() {
    let mut old = first(heir(&json!({ "leaving": "count-at-last" })));
    count(&mut old);
    let mut new = next(heir(&json!({})), &old);
    assert_eq!(new.take_over(&old, BUDGET), ONE_HANDED_OVER);
    assert_eq!(count(&mut new), (2, 1));
    assert_eq!(new.send(call()).header("x-late"), Some("0"), "what is inherited is there in `configure` only");
}

#[test]
fn a_version_that_refuses_its_inheritance_serves_without_it() {
    for how in ["refuse", "trap", "spin"] {
        let mut old = first(heir(&json!({})));
        count(&mut old);
        let configure = Duration::from_millis(20);
        let setup = heir(&json!({ "inheriting": how })).limits(|limits| limits.configure = configure);
        let mut new = next(setup, &old);
        let began = new.now();
        assert_eq!(new.take_over(&old, BUDGET), ONE_REFUSED, "{how}");
        assert_eq!(new.now() - began >= configure, how == "spin");
        assert_eq!(count(&mut new), (1, 0), "{how}");
        assert_eq!(tally(&new, SnapshotOutcome::Refused), 1);
        assert!(!new.stats().breaker_open);
    }
}

#[test]
fn what_nobody_reads_is_lost() {
    let old = first(heir(&json!({})));
    let mut new = next(heir(&json!({ "inheriting": "nothing" })), &old);
    assert_eq!(new.take_over(&old, BUDGET), ONE_LOST);
    // One that serves already has been configured already.
    let mut serves = next(heir(&json!({})), &old);
    serves.run(serves.inner().open()).expect("opens");
    assert_eq!(serves.take_over(&new, BUDGET), ONE_LOST);
    assert_eq!(count(&mut new), (1, 0), "calls go over to it all the same");
}

#[test]
fn a_snapshot_over_the_limit_is_an_error_to_the_plugin_and_no_trap() {
    for limit in [1 << 10, 1 << 20] {
        let setup = heir(&json!({ "leaving": "giant" })).limits(|limits| limits.snapshot = limit);
        let mut old = first(setup);
        let mut new = next(heir(&json!({})), &old);
        assert_eq!(new.take_over(&old, BUDGET), ONE_REFUSED);
        let record = only(old.take_ended());
        assert_eq!((record.outcome, record.snapshot), (StopOutcome::Completed, Snapshot::TooLarge { bytes: 8 << 20 }));
    }
}

#[test]
fn what_a_shutdown_left_that_did_not_end_well_is_lost() {
    for (how, outcome) in [
        ("count-then-fail", StopOutcome::Failed),
        ("count-then-trap", StopOutcome::Trapped),
        ("count-then-spin", StopOutcome::Overran),
    ] {
        let mut old = first(heir(&json!({ "leaving": how })));
        let mut new = next(heir(&json!({})), &old);
        assert_eq!(new.take_over(&old, Duration::from_millis(20)), ONE_LOST, "{how}");
        let record = only(old.take_ended());
        assert_eq!((record.outcome, record.snapshot), (outcome, Snapshot::Lost { bytes: 8 }));
        assert_eq!(tally(&new, SnapshotOutcome::Lost), 1);
        assert_eq!(count(&mut new), (1, 0), "{how}");
    }
}

/// A version that leaves its count after a quarter of a second, in which nothing that is computed takes time.
fn leaves_later() -> Setup {
    heir(&json!({ "leaving": "count-later" })).pace(0)
}

#[test]
fn callers_wait_for_a_hand_over_no_longer_than_they_may() {
    let wall = Duration::from_millis(50);
    let mut old = first(leaves_later());
    let mut new = next(heir(&json!({})).limits(|limits| limits.wall = wall), &old);
    let (result, over_old, over_new) = {
        let taking_over = new.begin_take_over(&old, BUDGET);
        let (over_old, over_new) = (old.begin(call()), new.begin(call()));
        (new.finish_take_over(taking_over), old.finish(over_old), new.finish(over_new))
    };
    for waited in [over_old, over_new] {
        assert!(matches!(cause(&waited), Some(EndCause::Overloaded { .. })), "{waited:?}");
        assert_eq!(waited.took, wall);
    }
    assert_eq!((result, count(&mut old)), (ONE_HANDED_OVER, (1, 1)));
    assert_eq!(old.now(), Duration::from_millis(250));
}

#[test]
fn a_version_that_is_stopped_while_it_takes_over_keeps_nobody_waiting() {
    let mut old = first(leaves_later());
    let mut new = next(heir(&json!({ "leaving": "nothing" })), &old);
    let taking_over = new.begin_take_over(&old, BUDGET);
    let waits = old.begin(call());
    let stop = new.stop(BUDGET);
    let waits = old.finish(waits);
    assert!(matches!(cause(&waits), Some(EndCause::Unavailable(Unavailable::Stopping))), "{waits:?}");
    assert_eq!(waits.took, Duration::ZERO);
    let result = new.finish_take_over(taking_over);
    assert_eq!((only(stop.instances).outcome, result), (StopOutcome::Completed, ONE_LOST));
    assert_eq!(old.send(call()).status, 503);
    assert_eq!(stores([&old, &new]), [0, 0]);
}

#[test]
fn a_second_signal_ends_a_hand_over_at_once() {
    let mut old = first(heir(&json!({ "leaving": "count-then-spin" })));
    let mut new = next(heir(&json!({})), &old);
    let after = Duration::from_millis(5);
    let result = new.run(async {
        let abandon = async {
            new.sleep(after).await;
            assert_eq!(old.stats().instances.stopping, 1);
            new.runtime().abandon();
        };
        tokio::join!(new.inner().take_over(old.inner(), AMPLE), abandon).0
    });
    assert_eq!(result.handed_over, 0);
    let record = only(old.take_ended());
    assert_eq!(record.outcome, StopOutcome::Abandoned);
    assert!(record.took < 2 * after, "{record:?}");
    assert_eq!(only(new.stop(BUDGET).instances).outcome, StopOutcome::Abandoned);
    assert_eq!(stores([&old, &new]), [0, 0]);
}

#[test]
fn a_hand_over_goes_on_when_nobody_waits_for_it() {
    let mut old = first(heir(&json!({})));
    count(&mut old);
    let mut new = next(heir(&json!({})), &old);
    new.run(async {
        let taking_over = new.inner().take_over(old.inner(), BUDGET);
        tokio::pin!(taking_over);
        std::future::poll_fn(|cx| {
            assert!(taking_over.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    });
    assert_eq!(count(&mut new), (2, 1));
}

#[test]
fn reload_upon_reload_loses_nothing() {
    let mut first = first(leaves_later());
    count(&mut first);
    let (second, third) = (next(heir(&json!({})), &first), next(heir(&json!({})), &first));
    let under_way = first.begin(call());
    let (one, two) = first.run(async {
        let (first, second, third) = (first.inner(), second.inner(), third.inner());
        tokio::join!(second.take_over(first, BUDGET), third.take_over(second, BUDGET))
    });
    assert_eq!((one, two.lost + two.refused), (ONE_HANDED_OVER, 0));
    counted(&first.finish(under_way));
    assert_eq!((count(&mut first).0, stores([&first, &second])), (3, [0, 0]));
}

#[test]
fn two_versions_that_take_over_from_each_other_hang_nobody() {
    let other = first(heir(&json!({})));
    let (one, two) = (next(heir(&json!({})), &other), next(heir(&json!({})), &other));
    let budget = Duration::from_millis(200);
    other.run(async {
        let (one, two) = (one.inner(), two.inner());
        tokio::join!(one.take_over(two, budget), two.take_over(one, budget))
    });
    assert!(other.now() <= 3 * budget, "{:?}", other.now());
}

#[test]
fn a_hook_that_the_new_version_lacks_is_skipped_for_exchanges_of_the_old_one() {
    let mut old = hostile(&json!({ "on_request": "trap" })).load().expect("loads");
    let mut new = next(heir(&json!({})), &old);
    assert_eq!(new.take_over(&old, BUDGET), HandOver::default());
    assert_eq!(counted(&old.send(misbehaving("whatever"))), (1, 0));
    assert_eq!(count(&mut old), (2, 0));
}

#[test]
fn a_version_takes_over_once_and_not_from_itself() {
    let mut old = first(heir(&json!({})));
    assert_eq!(old.run(old.inner().take_over(old.inner(), BUDGET)), HandOver::default());
    count(&mut old);
    let (mut one, mut two) = (next(heir(&json!({})), &old), next(heir(&json!({})), &old));
    assert_eq!(one.take_over(&old, BUDGET), ONE_HANDED_OVER);
    assert_eq!(two.take_over(&old, BUDGET), HandOver::default());
    assert_eq!((count(&mut one), count(&mut two), count(&mut old)), ((2, 1), (1, 0), (3, 1)));
    // Nor does one come back that has been stopped.
    assert_eq!(old.take_over(&one, BUDGET), HandOver::default());
    assert_eq!(one.send(call()).status, 503);
}

#[test]
fn a_component_that_has_no_part_in_it_is_refused() {
    let Err(SetupError::Refused(error)) = guest("counter").hand_over().load() else { panic!("it is loaded") };
    assert!(matches!(error, LoadError::NoHandOver), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("leave-snapshot")));
}
