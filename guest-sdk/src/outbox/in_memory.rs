//! An outbox in memory, for tests. Every topic is granted; the syntax is what the host wants.

use super::{Message, PublishError};
use std::cell::RefCell;

/// An event that the code under test has published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where to.
    pub topic: String,
    /// What.
    pub message: Message,
}

#[derive(Default)]
struct Outbox {
    published: Vec<Published>,
    refusal: Option<PublishError>,
    ids: u64,
}

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::default();
}

/// Everything that was published on this thread since the last call.
#[must_use]
pub fn take() -> Vec<Published> {
    OUTBOX.with_borrow_mut(|outbox| std::mem::take(&mut outbox.published))
}

/// From here on, refuse every event like this; `None` takes them again.
pub fn refuse(refusal: impl Into<Option<PublishError>>) {
    OUTBOX.with_borrow_mut(|outbox| outbox.refusal = refusal.into());
}

pub(super) fn publish(topic: &str, message: Message) -> Result<String, PublishError> {
    Ok(publish_all(topic, vec![message])?.concat())
}

pub(super) fn publish_all(topic: &str, messages: Vec<Message>) -> Result<Vec<String>, PublishError> {
    OUTBOX.with_borrow_mut(|outbox| {
        if let Some(refusal) = &outbox.refusal {
            return Err(refusal.clone());
        }
        check(topic, &messages)?;
        let ids = messages.iter().map(|_| {
            outbox.ids += 1;
            format!("00000000-0000-7000-8000-{:012}", outbox.ids)
        });
        let ids = ids.collect();
        outbox.published.extend(messages.into_iter().map(|message| Published { topic: topic.to_owned(), message }));
        Ok(ids)
    })
}

fn check(topic: &str, messages: &[Message]) -> Result<(), PublishError> {
    let invalid = |what: &str| Err(PublishError::Invalid(what.to_owned()));
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !topic.split('.').all(is_word) {
        return invalid("a topic is words of letters, digits, `-` and `_`, separated by dots");
    }
    let is_attribute = |name: &str| {
        (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let mut names = messages.iter().flat_map(|message| &message.attributes);
    if !names.all(|(name, _)| is_attribute(name)) {
        return invalid("an attribute's name is 1 to 20 lower-case letters and digits");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::outbox::{Message, PublishError, publish, publish_all};
    use crate::testing::outbox::{refuse, take};

    #[test]
    fn events_are_kept_in_order_and_a_refusal_keeps_none() -> crate::Result<()> {
        let [a, b] = ["a", "b"].map(Message::new);
        let ids = publish_all("t.one", [a, b])?;
        assert_eq!(ids.len(), 2);
        refuse(PublishError::Full);
        assert_eq!(publish("t.one", Message::new("c")), Err(PublishError::Full));
        refuse(None);
        publish("t.two", Message::new("d").key("k"))?;
        let taken: Vec<_> = take().into_iter().map(|it| (it.topic, it.message.body().to_vec())).collect();
        let expected = [("t.one", "a"), ("t.one", "b"), ("t.two", "d")];
        assert_eq!(taken, expected.map(|(topic, body)| (topic.to_owned(), body.as_bytes().to_vec())));
        Ok(())
    }

    #[test]
    fn topics_and_attributes_have_the_syntax_of_the_host() {
        for topic in ["", ".", "a.", "a b", "a.*", "ü"] {
            assert!(matches!(publish(topic, Message::new("")), Err(PublishError::Invalid(_))), "{topic:?}");
        }
        let shouting = Message::new("").attribute("Source", "x");
        assert!(matches!(publish("a", shouting), Err(PublishError::Invalid(_))));
    }
}
