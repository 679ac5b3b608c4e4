//! When batches are sent, what becomes of those that cannot be, and what a deadline leaves.

use super::*;
use crate::outbox::PublishError;
use crate::testing;

/// What was sent, and whether sending works.
#[derive(Clone, Default)]
struct Sink {
    sent: Rc<RefCell<Vec<Vec<u32>>>>,
    is_broken: Rc<Cell<bool>>,
    /// How long sending a batch takes.
    takes: Duration,
}

impl Sink {
    fn batcher(&self) -> BatcherBuilder<u32> {
        let sink = self.clone();
        Batcher::to("numbers", move |batch: &[u32], _| {
            std::thread::sleep(sink.takes);
            if sink.is_broken.get() {
                return Err("connection refused".into());
            }
            sink.sent.borrow_mut().push(batch.to_vec());
            Ok(())
        })
        .size(3)
        .age(Duration::from_secs(5))
    }

    fn sent(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut self.sent.borrow_mut())
    }
}

fn fill(batcher: &Batcher<u32>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        batcher.add(number);
    }
}

#[test]
fn full_batches_are_due_at_once_and_the_rest_when_it_is_old() -> Result<()> {
    let sink = Sink::default();
    let batcher = sink.batcher().build(&mut Context::new());
    assert_eq!(batcher.add(0), Added::Waiting);
    assert_eq!(batcher.add(1), Added::Waiting);
    batcher.flush_if_due()?;
    assert!(sink.sent().is_empty());
    assert_eq!(batcher.add(2), Added::Due);
    fill(&batcher, 3..7);
    batcher.flush_if_due()?;
    assert_eq!(sink.sent(), [[0, 1, 2], [3, 4, 5]]);

    testing::clock::advance(Duration::from_secs(4));
    batcher.add(7);
    batcher.flush_if_due()?;
    assert!(sink.sent().is_empty());
    testing::clock::advance(Duration::from_secs(1));
    batcher.flush_if_due()?;
    assert_eq!(sink.sent(), [[6, 7]], "the oldest is five seconds old, and takes the others along");
    Ok(())
}

#[test]
fn a_batch_that_fails_waits_on_in_order_and_the_receiver_is_left_alone_for_a_while() -> Result<()> {
    let sink = Sink::default();
    let batcher = sink.batcher().build(&mut Context::new());
    sink.is_broken.set(true);
    fill(&batcher, 0..4);
    let error = batcher.flush_if_due().err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("sending 3 items of `numbers`: connection refused"));
    batcher.add(4);
    sink.is_broken.set(false);
    batcher.flush_if_due()?;
    assert!(sink.sent().is_empty(), "it is left alone");
    testing::clock::advance(Duration::from_secs(5));
    batcher.flush_if_due()?;
    assert_eq!(sink.sent(), [vec![0, 1, 2], vec![3, 4]]);
    Ok(())
}

#[test]
fn what_finds_it_full_is_dropped_and_counted() {
    let sink = Sink::default();
    let batcher = sink.batcher().capacity(4).build(&mut Context::new());
    fill(&batcher, 0..4);
    assert_eq!(batcher.add(4), Added::Dropped);
    assert_eq!((batcher.len(), batcher.dropped()), (4, 1));
    assert_eq!(batcher.take(), [0, 1, 2, 3]);
    assert!(batcher.is_empty());
}

#[test]
fn the_end_of_the_instance_sends_everything() -> Result<()> {
    let (sink, mut cx) = (Sink::default(), Context::new());
    let batcher = sink.batcher().build(&mut cx);
    fill(&batcher, 0..4);
    cx.shut_down(Deadline::after(Duration::from_secs(60)))?;
    assert_eq!(sink.sent(), [vec![0, 1, 2], vec![3]]);
    Ok(())
}

#[test]
fn a_deadline_in_the_middle_leaves_whole_batches_and_says_how_many_items() {
    // Two batches at most fit into the time; a slow machine may manage one, or none.
    let (sink, mut cx) = (Sink { takes: Duration::from_millis(60), ..Sink::default() }, Context::new());
    let batcher = sink.batcher().build(&mut cx);
    fill(&batcher, 0..12);
    let error = cx.shut_down(Deadline::after(Duration::from_millis(100))).err().map(|error| error.to_string());
    let sent = sink.sent().concat();
    let rest = batcher.take();
    assert!(sent.len() % 3 == 0 && sent.len() <= 6, "{sent:?}");
    assert_eq!([sent, rest.clone()].concat(), (0..12).collect::<Vec<_>>());
    let said = format!("numbers: {} items of `numbers` were not sent: the deadline came first", rest.len());
    assert_eq!(error, Some(said));
}

#[test]
fn what_cannot_be_sent_by_the_end_goes_to_the_outbox() -> Result<()> {
    let (sink, mut cx) = (Sink::default(), Context::new());
    let batcher = sink.batcher().or_outbox("numbers.left").build(&mut cx);
    sink.is_broken.set(true);
    fill(&batcher, 0..5);
    cx.shut_down(Deadline::after(Duration::from_secs(60)))?;
    let published = testing::outbox::take();
    assert!(published.iter().all(|event| event.topic == "numbers.left"));
    let bodies: Vec<_> = published.iter().map(|event| event.message.body()).collect();
    assert_eq!(bodies, [b"0", b"1", b"2", b"3", b"4"]);
    assert!(batcher.is_empty());
    Ok(())
}

#[test]
fn a_slow_receiver_leaves_time_for_the_outbox() -> Result<()> {
    let (sink, mut cx) = (Sink { takes: Duration::from_millis(50), ..Sink::default() }, Context::new());
    let batcher = sink.batcher().or_outbox("numbers.left").build(&mut cx);
    fill(&batcher, 0..300);
    // Half a second is kept: the batch that is under way when it begins ends long before the deadline.
    cx.shut_down(Deadline::after(Duration::from_secs(2)))?;
    let (sent, rescued) = (sink.sent().concat().len(), testing::outbox::take().len());
    assert!(rescued > 0, "a hundred batches do not fit into the time");
    assert_eq!(sent + rescued, 300);
    Ok(())
}

#[test]
fn what_neither_takes_is_said_with_both_reasons() {
    let (sink, mut cx) = (Sink::default(), Context::new());
    let batcher = sink.batcher().or_outbox("numbers.left").build(&mut cx);
    sink.is_broken.set(true);
    testing::outbox::refuse(PublishError::Full);
    fill(&batcher, 0..2);
    let error = cx.shut_down(Deadline::never()).err().map(|error| error.to_string());
    let said = "numbers: 2 items of `numbers` were not sent: sending 2 items of `numbers`: connection refused; \
                handing over to the outbox: the outbox is full";
    assert_eq!(error.as_deref(), Some(said));
}

#[test]
fn a_deadline_that_is_over_sends_nothing() {
    let sink = Sink::default();
    let batcher = sink.batcher().build(&mut Context::new());
    fill(&batcher, 0..2);
    let error = batcher.flush(Deadline::after(Duration::ZERO)).err();
    assert_eq!(error.map(|error| (error.left(), error.rescued())), Some((2, 0)));
    assert!(sink.sent().is_empty());
}

#[test]
fn an_outbox_batch_is_taken_whole_or_not_at_all() -> Result<()> {
    let batcher = Batcher::to_outbox("audit", "audit.exchange").size(2).build(&mut Context::new());
    batcher.add("a");
    batcher.add("b");
    testing::outbox::refuse(PublishError::Full);
    assert!(batcher.flush_if_due().is_err());
    assert_eq!(batcher.len(), 2);
    testing::outbox::refuse(None);
    assert!(batcher.flush(Deadline::never()).is_ok());
    assert_eq!(testing::outbox::take().len(), 2);
    Ok(())
}

#[test]
fn what_sends_may_add_and_not_flush() -> Result<()> {
    let itself: Rc<RefCell<Option<Batcher<u32>>>> = Rc::default();
    let inside = Rc::clone(&itself);
    let send = move |_: &[u32], _| {
        let Some(batcher) = &*inside.borrow() else { return Err("not there".into()) };
        batcher.add(7);
        batcher.flush_if_due().err().map(|error| error.to_string()).ok_or("flushed in the middle")?;
        Ok(())
    };
    let batcher = Batcher::to("echo", send).size(2).build(&mut Context::new());
    *itself.borrow_mut() = Some(batcher.clone());
    batcher.add(0);
    batcher.add(1);
    batcher.flush_if_due()?;
    assert_eq!(batcher.take(), [7]);
    Ok(())
}
