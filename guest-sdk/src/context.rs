//! The shutdown registry, for plugins that are made of parts.

use crate::{Deadline, Error, Result};
use std::fmt;

/// What `configure` gets as its second parameter, if it takes one.
///
/// A part that has to be ended in an orderly way registers itself with [`on_shutdown`](Self::on_shutdown) where it is
/// made. When the instance has to go, the plugin's own `shutdown` runs first, while all its parts still work; then
/// the parts are ended in the reverse order of their registration, as fields built on one another are dropped. An
/// error in one keeps none of the others from running; what went wrong is joined into one error that names each part.
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use tidegate_sdk::prelude::*;
///
/// struct Counter {
///     seen: Rc<RefCell<u64>>,
/// }
///
/// #[tidegate_sdk::plugin]
/// impl Plugin for Counter {
///     fn configure(cx: &mut Context) -> Result<Self> {
///         let seen = Rc::new(RefCell::new(0));
///         let total = Rc::clone(&seen);
///         cx.on_shutdown("counter", move |_deadline| {
///             log::info!("{} requests", total.borrow());
///             Ok(())
///         });
///         Ok(Self { seen })
///     }
///
///     fn on_request(&mut self, _request: &mut Request) -> Result<()> {
///         *self.seen.borrow_mut() += 1;
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
#[derive(Default)]
pub struct Context {
    parts: Vec<Part>,
}

struct Part {
    name: String,
    end: Box<dyn FnOnce(Deadline) -> Result<()>>,
}

impl Context {
    /// Run `end` when the instance has to go, within the deadline it is given. `name` stands in its error.
    ///
    /// A part whose turn comes when the deadline is over is not begun, and counts as failed.
    pub fn on_shutdown(&mut self, name: impl Into<String>, end: impl FnOnce(Deadline) -> Result<()> + 'static) {
        self.parts.push(Part { name: name.into(), end: Box::new(end) });
    }

    /// An empty registry. A plugin gets its own from `configure`; this one is for tests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// End all parts, last in first out. The gateway does this after the plugin's own `shutdown`; call it yourself
    /// in tests only.
    ///
    /// # Errors
    /// What the parts returned, each with its name, joined by `; `.
    pub fn shut_down(self, deadline: Deadline) -> Result<()> {
        let mut failures = Vec::new();
        for part in self.parts.into_iter().rev() {
            let outcome = if deadline.expired() {
                Err(Error::from("not begun, the deadline was over"))
            } else {
                (part.end)(deadline)
            };
            if let Err(error) = outcome {
                failures.push(format!("{}: {error}", part.name));
            }
        }
        join(failures)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| &part.name)).finish()
    }
}

/// One error of many, or none.
pub(crate) fn join(failures: Vec<String>) -> Result<()> {
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn parts_end_last_in_first_out_and_an_error_stops_none_of_them() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut cx = Context::new();
        for (name, outcome) in [("pool", Ok(())), ("cache", Err("disk full")), ("queue", Err("3 left"))] {
            let order = Rc::clone(&order);
            cx.on_shutdown(name, move |_| {
                order.borrow_mut().push(name);
                outcome.map_err(Error::from)
            });
        }
        let error = cx.shut_down(Deadline::never()).err().map(|error| error.to_string());
        assert_eq!(*order.borrow(), ["queue", "cache", "pool"]);
        assert_eq!(error.as_deref(), Some("queue: 3 left; cache: disk full"));
    }

    #[test]
    fn a_part_is_not_begun_when_the_deadline_is_over() {
        let mut cx = Context::new();
        cx.on_shutdown("queue", |_| unreachable!("the deadline is over"));
        let error = cx.shut_down(Deadline::after(Duration::ZERO)).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("queue: not begun, the deadline was over"));
    }
}
