use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn event(seq: i64, key: Option<&str>) -> Arc<Event> {
    Arc::new(Event {
        id: Uuid::from_u128(seq.unsigned_abs().into()),
        source: Arc::from("source"),
        topic: Arc::from("topic"),
        key: key.map(str::to_owned),
        content_type: None,
        attributes: Vec::new(),
        accepted: Duration::from_secs(seq.unsigned_abs()),
        body: Bytes::from_static(b"body"),
    })
}

fn queue(attempts: u32, keys: &[Option<&str>]) -> Queue {
    let mut queue = Queue::new(attempts, Backoff { first: 100 * MS, longest: 1_000 * MS });
    keys.iter().zip(1..).for_each(|(key, seq)| queue.push(seq, 0, event(seq, *key)));
    queue
}

fn refused(delivered: usize) -> Result<(), SinkError> {
    Err(SinkError { delivered, problem: Problem::Refused("no".to_owned()) })
}

fn unreachable(delivered: usize) -> Result<(), SinkError> {
    Err(SinkError { delivered, problem: Problem::Unreachable("away".to_owned()) })
}

fn failed(seq: i64, attempts: u32) -> (i64, Outcome) {
    (seq, Outcome::Failed { attempts, problem: "no".to_owned() })
}

fn dead(seq: i64, attempts: u32) -> (i64, Outcome) {
    (seq, Outcome::Dead { attempts, problem: "no".to_owned() })
}

fn delivered(seqs: &[i64]) -> Vec<(i64, Outcome)> {
    seqs.iter().map(|seq| (*seq, Outcome::Delivered)).collect()
}

fn batch(queue: &mut Queue, now: Instant) -> Vec<i64> {
    match queue.next(10, now) {
        Next::Batch(batch) => batch,
        Next::Wait(_) => Vec::new(),
    }
}

#[tokio::test]
async fn a_refused_event_holds_up_its_key_and_nothing_else() {
    let (mut queue, now) = (queue(3, &[Some("a"), Some("a"), Some("b"), None]), Instant::now());
    assert_eq!(queue.next(10, now), Next::Batch(vec![1, 2, 3, 4]));
    assert_eq!(queue.settle(vec![1, 2, 3, 4], &refused(0), now, 1.0), [failed(1, 1)]);
    assert_eq!(batch(&mut queue, now), [3, 4]);
    assert_eq!(queue.settle(vec![3, 4], &Ok(()), now, 1.0), delivered(&[3, 4]));
    queue.push(5, 0, event(5, Some("a")));
    assert_eq!(queue.next(10, now), Next::Wait(Some(now + 100 * MS)));
    let later = now + 100 * MS;
    assert_eq!(batch(&mut queue, later), [1, 2, 5]);
    assert_eq!(queue.missing(&[1, 2, 5]), [1, 2, 5], "they were not kept in memory");
    assert_eq!(queue.settle(vec![1, 2, 5], &Ok(()), later, 1.0), delivered(&[1, 2, 5]));
    assert_eq!((queue.next(10, later), queue.entries.len(), queue.lanes.len()), (Next::Wait(None), 0, 0));
}

#[tokio::test]
async fn an_event_that_is_refused_so_often_is_a_dead_letter_and_its_key_goes_on() {
    let (mut queue, mut now) = (queue(3, &[Some("a"), Some("a")]), Instant::now());
    for attempts in 1..3 {
        assert_eq!(batch(&mut queue, now), [1, 2]);
        assert_eq!(queue.settle(vec![1, 2], &refused(0), now, 1.0), [failed(1, attempts)]);
        assert_eq!(batch(&mut queue, now), [0_i64; 0]);
        now += 1_000 * MS;
    }
    assert_eq!(batch(&mut queue, now), [1, 2]);
    assert_eq!(queue.settle(vec![1, 2], &refused(0), now, 1.0), [dead(1, 3)]);
    assert_eq!(batch(&mut queue, now), [2]);
}

#[tokio::test]
async fn attempts_of_an_earlier_process_count() {
    let (mut queue, now) = (queue(3, &[]), Instant::now());
    queue.push(7, 2, event(7, None));
    assert_eq!(batch(&mut queue, now), [7]);
    assert_eq!(queue.settle(vec![7], &refused(0), now, 1.0), [dead(7, 3)]);
}

#[tokio::test]
async fn while_the_sink_is_out_of_reach_everything_waits_and_no_attempt_counts() {
    let (mut queue, mut now) = (queue(2, &[Some("a"), Some("b")]), Instant::now());
    for pause in [100, 200, 400, 800, 1_000, 1_000] {
        let tried = batch(&mut queue, now);
        assert!(!tried.is_empty());
        assert_eq!(queue.settle(tried, &unreachable(0), now, 1.0), []);
        assert_eq!(queue.next(10, now), Next::Wait(Some(now + pause * MS)));
        assert!(queue.is_stalled());
        now += pause * MS;
    }
    assert!(queue.entries.values().all(|entry| entry.attempts == 0));
    let mut got = Vec::new();
    while let Next::Batch(batch) = queue.next(10, now) {
        got.extend(batch.clone());
        queue.settle(batch, &Ok(()), now, 1.0);
    }
    got.sort_unstable();
    assert_eq!((got, queue.is_stalled()), (vec![1, 2], false));
}

#[tokio::test]
async fn a_sink_that_wants_to_be_left_alone_is_left_alone_for_at_least_that_long() {
    let (mut queue, now) = (queue(2, &[Some("a"), Some("b")]), Instant::now());
    let later = |after| Err(SinkError { delivered: 0, problem: Problem::Later { what: "busy".to_owned(), after } });
    let tried = batch(&mut queue, now);
    assert_eq!(queue.settle(tried, &later(700 * MS), now, 1.0), []);
    assert_eq!(queue.next(10, now), Next::Wait(Some(now + 700 * MS)));
    let now = now + 700 * MS;
    let tried = batch(&mut queue, now);
    // The back-off has come to more than that.
    assert_eq!(queue.settle(tried, &later(MS), now, 1.0), []);
    assert_eq!(queue.next(10, now), Next::Wait(Some(now + 200 * MS)));
}

#[tokio::test]
async fn an_event_that_takes_the_sink_away_each_time_does_not_hold_up_the_others() {
    let (mut queue, mut now) =
        (queue(3, &[Some("poison"), Some("poison"), Some("b"), None, Some("c")]), Instant::now());
    let (mut got, mut outcomes, mut last) = (Vec::new(), Vec::new(), 5);
    for _ in 0..100 {
        match queue.next(1, now) {
            Next::Wait(None) => break,
            Next::Wait(Some(until)) => {
                now = until;
                // There is always something else to do.
                last += 1;
                queue.push(last, 0, event(last, None));
            }
            Next::Batch(batch) => {
                let good = batch.iter().position(|seq| *seq == 1);
                got.extend(batch.iter().take(good.unwrap_or(batch.len())).copied());
                let result = good.map_or(Ok(()), unreachable);
                outcomes.extend(queue.settle(batch, &result, now, 1.0));
            }
        }
    }
    assert_eq!(got.iter().take(3).copied().collect::<Vec<_>>(), [3, 4, 5], "the others first");
    got.sort_unstable();
    assert_eq!(got, (2..=last).collect::<Vec<_>>(), "and what waited behind it, after it was given up");
    let away = |outcome: &(i64, Outcome)| match outcome {
        (1, Outcome::Failed { attempts, .. } | Outcome::Dead { attempts, .. }) => Some(*attempts),
        _ => None,
    };
    assert_eq!(outcomes.iter().filter_map(away).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn in_a_hurry_what_was_put_off_is_tried_at_once() {
    let (mut queue, now) = (queue(9, &[Some("a"), Some("b")]), Instant::now());
    queue.next(10, now);
    queue.settle(vec![1, 2], &refused(0), now, 1.0);
    assert_eq!(batch(&mut queue, now), [2]);
    queue.settle(vec![2], &unreachable(0), now, 1.0);
    assert!(matches!(queue.next(10, now), Next::Wait(Some(_))));
    queue.hurry();
    assert_eq!(batch(&mut queue, Instant::now()), [1]);
}

#[tokio::test]
async fn a_sink_that_claims_more_than_it_was_given_changes_nothing() {
    let (mut queue, now) = (queue(3, &[None]), Instant::now());
    assert_eq!(batch(&mut queue, now), [1]);
    assert_eq!(queue.settle(vec![1], &refused(usize::MAX), now, 1.0), delivered(&[1]));
    assert_eq!(queue.entries.len(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Push { key: u8 },
    Call { most: usize, delivered: usize, end: u8, random: f64 },
    Pass(u64),
    Hurry,
    PutBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4_u8).prop_map(|key| Step::Push { key }),
        4 => (1..6_usize, 0..6_usize, 0..3_u8, 0.0..1.0).prop_map(|(most, delivered, end, random)| Step::Call { most, delivered, end, random }),
        2 => (0..2_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Hurry),
        1 => Just(Step::PutBack),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// A sink that does anything at all: order per key, each event ends once, nothing is lost, and nothing gets stuck.
    #[test]
    fn no_history_loses_an_event_or_the_order_of_a_key(steps in steps()) {
        let mut queue = queue(3, &[]);
        let (mut now, mut last) = (Instant::now(), 0);
        let mut keys: HashMap<i64, u8> = HashMap::new();
        // By key 0 to 2; key 3 is none. What has ended, in the order of its end.
        let mut ended: Vec<i64> = Vec::new();
        let finish = |outcomes: Vec<(i64, Outcome)>, ended: &mut Vec<i64>| {
            for (seq, outcome) in outcomes {
                if !matches!(outcome, Outcome::Failed { .. }) {
                    ended.push(seq);
                }
            }
        };
        for step in steps {
            match step {
                Step::Push { key } => {
                    last += 1;
                    keys.insert(last, key);
                    let name = key.to_string();
                    queue.push(last, 0, event(last, (key < 3).then_some(name.as_str())));
                }
                Step::Call { most, delivered, end, random } => {
                    if let Next::Batch(batch) = queue.next(most, now) {
                        prop_assert!(!batch.is_empty() && batch.len() <= most);
                        let result = match end {
                            0 => Ok(()),
                            1 => refused(delivered),
                            _ => unreachable(delivered),
                        };
                        let outcomes = queue.settle(batch, &result, now, random);
                        finish(outcomes, &mut ended);
                    }
                }
                Step::Pass(millis) => now += Duration::from_millis(millis),
                Step::Hurry => queue.hurry(),
                Step::PutBack => {
                    if let Next::Batch(batch) = queue.next(3, now) {
                        queue.put_back(batch);
                    }
                }
            }
        }
        // In the end the sink is well.
        now += Duration::from_secs(3_600);
        for _ in 0..10_000 {
            match queue.next(4, now) {
                Next::Batch(batch) => finish(queue.settle(batch, &Ok(()), now, 0.5), &mut ended),
                Next::Wait(Some(until)) => now = until,
                Next::Wait(None) => break,
            }
        }
        for key in 0..3 {
            let of_key: Vec<i64> = ended.iter().copied().filter(|seq| keys.get(seq) == Some(&key)).collect();
            prop_assert!(of_key.is_sorted(), "{key}: {of_key:?}");
        }
        let mut all = ended.clone();
        all.sort_unstable();
        prop_assert_eq!(all, (1..=last).collect::<Vec<_>>());
        prop_assert!(queue.entries.is_empty() && queue.lanes.is_empty() && queue.due.is_empty() && queue.suspects.is_empty());
    }
}
