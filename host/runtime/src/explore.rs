//! Runs a test in many of the orders that its tasks could run in, with shuttle.
//!
//! A failure prints its schedule. To run that one order again: `SHUTTLE_SCHEDULE=... cargo test --workspace --lib NAME`.
//! To try more of them: `SHUTTLE_ORDERS=1000000`.

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Instances of wasmtime are made on the stacks of the tasks.
const STACK: usize = 512 << 10;

/// Orders in which few tasks are interrupted, at the worst moments, find more than others do: so many interruptions.
const DEPTH: usize = 4;

/// Run `test` in so many orders, half of them random, half of them with few interruptions; `None` for every order there
/// is, where only a few steps meet.
pub(crate) fn explore(orders: Option<usize>, test: impl Fn() + Send + Sync + Clone + 'static) {
    let environment = |name| std::env::var(name).ok();
    if let Some(schedule) = environment("SHUTTLE_SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), test);
    }
    let Some(orders) = orders else { return run(DfsScheduler::new(None, false), test) };
    let orders = environment("SHUTTLE_ORDERS").and_then(|asked| asked.parse().ok()).unwrap_or(orders);
    run(RandomScheduler::new(orders / 2), test.clone());
    run(PctScheduler::new(DEPTH, orders / 2), test);
}

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK;
    Runner::new(scheduler, config).run(test);
}
