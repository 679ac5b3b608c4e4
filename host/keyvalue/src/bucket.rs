//! What a plugin holds: a namespace under the name of a bucket, behind the checks of what the plugin passes.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_runtime::grants::{Bucket, BucketError, Entry, Keys};

use crate::counts::{Counts, Operation, Outcome};
use crate::error::StoreError;
use crate::store::Namespace;

/// Bytes of a key.
pub const LONGEST_KEY: usize = 512;

/// Keys of one page of a listing.
pub const PAGE: usize = 1_000;

/// The bucket of one plugin.
pub struct PluginBucket {
    namespace: Arc<dyn Namespace>,
    max_value: usize,
    counts: Arc<Counts>,
}

impl PluginBucket {
    /// A bucket over a namespace that takes values of `max_value` bytes and counts in `counts`.
    #[must_use]
    pub fn new(namespace: Arc<dyn Namespace>, max_value: usize, counts: Arc<Counts>) -> Self {
        Self { namespace, max_value, counts }
    }

    fn begin(&self, operation: Operation) -> Counting<'_> {
        Counting { counts: &self.counts, operation, outcome: Outcome::Dropped }
    }

    fn check_value(&self, value: &[u8]) -> Result<(), StoreError> {
        if value.len() > self.max_value {
            return Err(StoreError::TooLarge { length: value.len(), limit: self.max_value });
        }
        Ok(())
    }
}

/// Counts one operation when it is over, however it ends.
struct Counting<'c> {
    counts: &'c Counts,
    operation: Operation,
    outcome: Outcome,
}

impl Counting<'_> {
    fn end<T>(mut self, result: Result<T, StoreError>) -> Result<T, BucketError> {
        self.outcome = result.as_ref().err().map_or(Outcome::Ok, Outcome::from);
        result.map_err(Into::into)
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.counts.record(self.operation, self.outcome);
    }
}

impl Bucket for PluginBucket {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Entry>, BucketError>> {
        Box::pin(async move {
            let counting = self.begin(Operation::Get);
            let got = async { check_key(&key).map(|()| self.namespace.get(key))?.await };
            counting.end(got.await)
        })
    }

    fn set(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), BucketError>> {
        Box::pin(async move {
            let counting = self.begin(Operation::Set);
            let set = async {
                check_key(&key)?;
                self.check_value(&value)?;
                self.namespace.set(key, value).await
            };
            counting.end(set.await)
        })
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), BucketError>> {
        Box::pin(async move {
            let counting = self.begin(Operation::Delete);
            let deleted = async { check_key(&key).map(|()| self.namespace.delete(key))?.await };
            counting.end(deleted.await)
        })
    }

    fn keys(&self, cursor: Option<String>) -> BoxFuture<'_, Result<Keys, BucketError>> {
        Box::pin(async move {
            let counting = self.begin(Operation::ListKeys);
            let listed = async {
                let after = cursor.map(|cursor| position(&cursor)).transpose()?;
                let page = self.namespace.page(after).await?;
                Ok((page.keys, page.next.as_deref().map(cursor_after)))
            };
            counting.end(listed.await)
        })
    }

    fn swap(&self, key: String, revision: Option<u64>, value: Vec<u8>) -> BoxFuture<'_, Result<bool, BucketError>> {
        Box::pin(async move {
            let mut counting = self.begin(Operation::Swap);
            let swapped = async {
                check_key(&key)?;
                self.check_value(&value)?;
                self.namespace.swap(key, revision, value).await
            };
            match swapped.await {
                Ok(false) => {
                    counting.outcome = Outcome::Conflict;
                    Ok(false)
                }
                other => counting.end(other),
            }
        })
    }

    fn increment(&self, key: String, delta: i64) -> BoxFuture<'_, Result<i64, BucketError>> {
        Box::pin(async move {
            let counting = self.begin(Operation::Increment);
            let sum = async { check_key(&key).map(|()| self.namespace.increment(key, delta))?.await };
            counting.end(sum.await)
        })
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    match key.len() {
        1..=LONGEST_KEY => Ok(()),
        length => Err(StoreError::Key { length, limit: LONGEST_KEY }),
    }
}

/// A cursor to go on after this key. Plugins are not to read anything in it, so it does not look like a key.
fn cursor_after(key: &str) -> String {
    use std::fmt::Write as _;
    let mut cursor = String::with_capacity(key.len() * 2);
    for byte in key.bytes() {
        let _ = write!(cursor, "{byte:02x}");
    }
    cursor
}

/// The key of a cursor.
fn position(cursor: &str) -> Result<String, StoreError> {
    if cursor.is_empty() || cursor.len() > 2 * LONGEST_KEY || !cursor.len().is_multiple_of(2) {
        return Err(StoreError::Cursor);
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = cursor.as_bytes().chunks(2).map(byte).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(StoreError::Cursor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_its_key(key in "\\PC{1,100}") {
            prop_assert_eq!(position(&cursor_after(&key)), Ok(key));
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in ".*") {
            let _ = position(&text);
        }
    }
}
