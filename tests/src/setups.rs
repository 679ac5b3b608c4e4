//! The guests of the tests on the harness.

use std::time::Duration;

use serde_json::Value;
use tidegate_testing::{Answer, Deferred, EndCause, Limits, Request, Setup};

use crate::components;

/// So much time has whatever is not about that: a day of virtual time costs nothing.
pub const AMPLE: Duration = Duration::from_secs(86_400);

/// How late a guest that computes is stopped at most, at the default pace.
pub const SLICE: Duration = Duration::from_nanos(tidegate_runtime::environment::FUEL_SLICE);

/// Only a limit that a test is about is met.
pub fn ample(limits: &mut Limits) {
    limits.cpu = AMPLE;
    limits.wall = AMPLE;
    limits.deferred = AMPLE;
    limits.shutdown = AMPLE;
}

/// The guest of this name, with ample limits.
pub fn guest(name: &str) -> Setup {
    Setup::new(components::guest(name)).limits(ample)
}

/// The guest that misbehaves as its config says.
pub fn hostile(config: &Value) -> Setup {
    guest("hostile").config(config)
}

/// The guest that puts off what it is told to.
pub fn later(config: &Value) -> Setup {
    guest("later").config(config).background(Deferred::default())
}

/// A request that asks the hostile guest to misbehave, if its config says `"on_request": "from-header"`.
#[must_use]
pub fn misbehaving(how: &str) -> Request {
    Request::get("/path?query").header("x-misbehave", how)
}

/// How the first call ended that failed, if one did.
#[must_use]
pub fn cause(answer: &Answer) -> Option<&EndCause> {
    answer.failures.first().map(|error| &error.cause)
}
