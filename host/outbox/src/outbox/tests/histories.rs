//! Any history at all.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Publish so many events with this key, 0 for none.
    Publish {
        key: u8,
        events: usize,
    },
    /// The sink refuses this event from now on, if there is one.
    Poison(usize),
    Away(bool),
    /// The process ends without a word, and another one opens the file.
    Crash,
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3_u8, 1..8_usize).prop_map(|(key, events)| Step::Publish { key, events }),
        1 => (0..50_usize).prop_map(Step::Poison),
        1 => any::<bool>().prop_map(Step::Away),
        1 => Just(Step::Crash),
        2 => Just(Step::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens: every event that was accepted is delivered at least once or is a dead letter, none is that was
    /// not accepted, and first deliveries of a key are in order.
    #[test]
    fn no_history_loses_an_event_or_the_order_of_a_key(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps))?;
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    // Not more than fit: what is accepted is what the model says.
    let limits = Limits { max_events: 60, ..Limits::default() };
    let mut options = Options { limits, ..options(folder.path()) };
    let mut outbox = open(&options, vec![spec("m", ">", &memory)]);
    let mut accepted: BTreeMap<Uuid, (u8, Bytes)> = BTreeMap::new();
    let (mut number, mut lives) = (0, 0);
    for step in steps {
        match step {
            Step::Publish { key, events } => {
                let publisher = outbox.publisher("p", vec![pattern(">")]);
                let mut drafts = Vec::new();
                for _ in 0..events {
                    let body = number.to_string();
                    number += 1;
                    drafts.push(if key == 0 { draft(&body) } else { keyed(&key.to_string(), &body) });
                }
                match publisher.publish("t", drafts.clone()).await {
                    Ok(ids) => accepted.extend(ids.into_iter().zip(drafts).map(|(id, draft)| (id, (key, draft.body)))),
                    Err(error) => {
                        prop_assert_eq!(error, PublishError::Full);
                        prop_assert!(outbox.status().events as usize + events > 60);
                    }
                }
            }
            Step::Poison(event) => memory.refuses.lock().expect("sound").push(Bytes::from(event.to_string())),
            Step::Away(away) => memory.away.store(away, Ordering::Relaxed),
            Step::Crash => {
                // What a killed process leaves: the files as they are at this moment.
                lives += 1;
                let next = folder.path().join(lives.to_string());
                std::fs::create_dir(&next).expect("a folder");
                for name in ["outbox.db", "outbox.db-wal"] {
                    let from = options.path.with_file_name(name);
                    if from.exists() {
                        std::fs::copy(from, next.join(name)).expect("copied");
                    }
                }
                // The copy is torn if somebody writes meanwhile; here nobody publishes, and what is lost of deliveries
                // is delivered twice.
                options.path = next.join("outbox.db");
                drop(std::mem::replace(&mut outbox, open(&options, vec![spec("m", ">", &memory)])));
            }
            Step::Pause => tokio::time::sleep(Duration::from_millis(3)).await,
        }
    }
    memory.away.store(false, Ordering::Relaxed);
    outbox.flush().await;
    let status = outbox.status();
    prop_assert_eq!(status.events, status.dead);
    outbox.close().await;
    drop(outbox);
    let mut seen: Vec<Uuid> = Vec::new();
    for event in memory.got() {
        let (key, body) = accepted.get(&event.id).cloned().unwrap_or((u8::MAX, Bytes::new()));
        prop_assert_eq!(&event.body, &body, "key {}", key);
        if !seen.contains(&event.id) {
            seen.push(event.id);
        }
    }
    for wanted in 1..3 {
        let of_key: Vec<_> =
            seen.iter().filter(|id| accepted.get(*id).is_some_and(|(key, _)| *key == wanted)).collect();
        prop_assert!(of_key.is_sorted(), "key {}", wanted);
    }
    let dead = status.dead as usize;
    let missing = accepted.keys().filter(|id| !seen.contains(*id)).count();
    prop_assert!(missing <= dead, "{} are missing, {} are dead letters", missing, dead);
    Ok(())
}
