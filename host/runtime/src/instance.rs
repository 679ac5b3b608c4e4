//! One instance of a plugin: a store, one call at a time, each under its budgets.
//!
//! A call ends in one of three ways. The guest returns. The epoch callback ends it, which is how a guest that computes is
//! stopped. Or [`Within`] drops its future, which is how a guest that waits in a host call is stopped, and one that
//! sits in the run queue of a busy worker. After the last two, and after any trap, the store is dead.
//!
//! Between the deadline and the tick that stops it a guest may still return, or ask the host for something. Neither takes
//! effect: the call has overrun either way ([`Meter::is_late`], [`Meter::fence`]).

use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::contract::Hook;
use crate::engine::Reservation;
use crate::environment::{Environment, Moment};
use crate::error::EndCause;
use crate::exchange::Exchange;
use crate::gauge::Gauged;
use crate::grants::Grants;
use crate::hooks::{Call, Configure, Exports, Functions};
use crate::host::{Allowance, Guest, GuestLog, Inheritance, Left, LifecycleView, Snapshots};
use crate::limits::Limits;
use crate::meter::{Ended, Halt, Meter};
use crate::plugin::Backlog;
use crate::redact::Redaction;
use crate::stats::Tally;
use crate::stop::StopReason;

/// Component handles a guest may hold at a time, so that it cannot grow the host's tables.
const MAX_HANDLES: usize = 10_000;

/// Bytes a guest may pass to the host in one call or result beside a body: the fields of a reply, an error text.
const HOSTCALL_SLACK: usize = 4 << 20;

/// Bytes of an error text that are kept.
const MAX_ERROR_TEXT: usize = 8 << 10;

/// Everything it takes to make an instance of a plugin.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) name: Arc<str>,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) exports: Exports,
    pub(crate) config: Arc<str>,
    pub(crate) grants: Grants,
    /// What its instances put off.
    pub(crate) backlog: Arc<Backlog>,
    /// Of what its instances write.
    pub(crate) redaction: Arc<Redaction>,
    pub(crate) limits: Limits,
    pub(crate) environment: Environment,
    pub(crate) tick: Duration,
    /// Where its instances have their place.
    pub(crate) _slots: Arc<Reservation>,
    pub(crate) lifecycle: LifecycleView,
    pub(crate) halt: Arc<Halt>,
    pub(crate) tally: Tally,
    /// What its instances may write to the log.
    pub(crate) log: Arc<Allowance>,
    /// Counts the stores of this plugin that exist: each holds a clone.
    pub(crate) stores: Arc<()>,
}

/// A live instance.
pub(crate) struct Instance {
    store: Store<Guest>,
    functions: Functions,
    meter: Arc<Meter>,
    gauged: Option<Arc<Gauged>>,
    limits: Limits,
    environment: Environment,
    halt: Arc<Halt>,
    redaction: Arc<Redaction>,
    /// Calls with an exchange, or a payload that was put off, so far.
    served: u64,
    has_inherited: bool,
    _counted: Arc<()>,
}

impl Template {
    /// Make an instance and run its `configure`, before `deadline` and within the `configure` budget.
    pub(crate) async fn instantiate(
        &self,
        number: u64,
        deadline: Moment,
        inherited: Inheritance,
    ) -> Result<Box<Instance>, EndCause> {
        // What `configure` says has been redacted; once more does no harm.
        self.make(number, deadline, inherited).await.map_err(|cause| self.redaction.cause(cause))
    }

    async fn make(&self, number: u64, deadline: Moment, inherited: Inheritance) -> Result<Box<Instance>, EndCause> {
        let now = self.environment.clock.now();
        let budget = self.limits.configure.min(deadline.since(now));
        let deadline = now + budget;

        let log = GuestLog::new(self.name.clone(), number, self.redaction.clone(), self.log.clone());
        log.begin(Hook::Configure, None);
        let (clock, halt) = (self.environment.clock.clone(), self.halt.clone());
        let gauge = self.environment.gauge.clone();
        let meter = Arc::new(Meter::new(clock, halt, self.tick, self.tally.clone(), gauge));
        let (memory, lifecycle) = (self.limits.memory, self.lifecycle.clone());
        let snapshots = Snapshots::inheriting(inherited);
        let (grants, backlog) = (self.grants.clone(), self.backlog.clone());
        let guest =
            Guest::new(&self.environment, meter.clone(), memory, lifecycle, log, number, snapshots, grants, backlog);
        let mut store = Store::new(self.pre.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        let Limits { body, memory, .. } = self.limits;
        // A payload to be put off is as long as the guest can make it: one that is too long is an error and not a trap.
        let longest = if self.grants.background { body.max(memory) } else { body };
        store.set_hostcall_fuel(longest.saturating_add(HOSTCALL_SLACK));
        store.set_max_component_handles(MAX_HANDLES);
        let gauged = match &self.environment.gauge {
            Some(gauge) => {
                let (gauge, clock) = (Arc::clone(gauge), Arc::clone(&self.environment.clock));
                let gauged = Gauged::new(gauge, clock, Arc::clone(&self.name), number, &mut store);
                Some(gauged.map_err(|error| EndCause::Refused { message: format!("{error:#}") })?)
            }
            None => None,
        };
        let (ticked, burning) = (meter.clone(), gauged.clone());
        store.epoch_deadline_callback(move |guest| {
            if let Some(burning) = &burning {
                burning.slice(guest, &ticked);
            }
            Ok(ticked.tick())
        });

        // Start functions are guest code: they run on the budget of `configure`.
        meter.begin(budget, now, deadline);
        store.set_epoch_deadline(1);
        let limits = Within { meter: &meter, environment: &self.environment, deadline, halt: &self.halt };
        if let Some(gauged) = &gauged {
            gauged.begin(Hook::Configure, &mut store);
        }
        let made = limits.poll(self.pre.instantiate_async(&mut store), gauged.as_deref()).await;
        let made = over(made, &store, &meter, gauged.as_deref());
        store.data_mut().requests.end_call();
        let instance = match made {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => {
                let guest = store.data();
                // A memory that does not fit as it is declared is refused without a trap.
                return Err(match cause(guest, &error) {
                    EndCause::Refused { .. } if guest.memory.refused() => {
                        EndCause::Memory { limit: guest.memory.limit() }
                    }
                    cause => cause,
                });
            }
            Err(cut) => return Err(cut_cause(cut, budget)),
        };
        let functions = Functions::find(&mut store, &instance, &self.exports)
            .map_err(|error| EndCause::Refused { message: format!("{error:#}") })?;
        let mut instance = Box::new(Instance {
            store,
            functions,
            meter,
            gauged,
            limits: self.limits,
            environment: self.environment.clone(),
            halt: self.halt.clone(),
            redaction: self.redaction.clone(),
            served: 0,
            has_inherited: false,
            _counted: self.stores.clone(),
        });
        if instance.functions.hooks().contains(Hook::Configure) {
            let now = self.environment.clock.now();
            instance.call_alone(Configure(self.config.clone()), now, deadline).await?;
        }
        instance.has_inherited = instance.store.data_mut().snapshots.configured();
        Ok(instance)
    }
}

impl Instance {
    /// Call a hook now, with at most the `cpu` limit of CPU time, to be over by `deadline`. The exchange comes back in any
    /// case.
    pub(crate) async fn call<C: Call>(
        &mut self,
        call: C,
        mut exchange: Box<Exchange>,
        now: Moment,
        deadline: Moment,
    ) -> (Box<Exchange>, Result<C::Output, EndCause>) {
        self.served += 1;
        let guest = self.store.data_mut();
        guest.log.begin(C::HOOK, Some(&exchange.request.id));
        std::mem::swap(&mut guest.exchange, &mut exchange);
        let result = self.run(call, self.limits.cpu, now, deadline).await;
        std::mem::swap(&mut self.store.data_mut().exchange, &mut exchange);
        let result = result.map_err(|cause| match cause {
            // The wait for the instance counted, too: what was reached is the limit, not what was left of it.
            EndCause::Wall { .. } if self.halt.at() == Moment::NEVER => EndCause::Wall { limit: self.limits.wall },
            cause => cause,
        });
        (exchange, result)
    }

    /// Call a hook that has no exchange; all the time until `deadline` may be CPU time.
    pub(crate) async fn call_alone<C: Call>(
        &mut self,
        call: C,
        now: Moment,
        deadline: Moment,
    ) -> Result<C::Output, EndCause> {
        self.call_for(None, call, now, deadline).await
    }

    /// The same on behalf of a request that is over, perhaps.
    pub(crate) async fn call_for<C: Call>(
        &mut self,
        request: Option<&Arc<str>>,
        call: C,
        now: Moment,
        deadline: Moment,
    ) -> Result<C::Output, EndCause> {
        // As `recycle.calls` counts them: a tick is no work that somebody asked for.
        self.served += u64::from(C::HOOK == Hook::OnDeferred);
        self.store.data().log.begin(C::HOOK, request);
        self.run(call, Duration::MAX, now, deadline).await
    }

    async fn run<C: Call>(
        &mut self,
        call: C,
        cpu: Duration,
        now: Moment,
        deadline: Moment,
    ) -> Result<C::Output, EndCause> {
        self.store.data_mut().memory.begin();
        self.meter.begin(cpu, now, deadline);
        self.store.set_epoch_deadline(1);
        let limits = Within { meter: &self.meter, environment: &self.environment, deadline, halt: &self.halt };
        let gauged = self.gauged.as_deref();
        if let Some(gauged) = gauged {
            gauged.begin(C::HOOK, &mut self.store);
        }
        let ended = limits.poll(call.run(&mut self.store, &self.functions), gauged).await;
        let ended = over(ended, &self.store, &self.meter, gauged);
        self.store.data_mut().requests.end_call();
        self.store.data().log.end();
        let ended = match ended {
            Ok(Ok(Ok(raw))) => C::check(raw, self.functions.hooks(), self.limits.body)
                .map_err(|bad| EndCause::Refused { message: bad.to_string() }),
            Ok(Ok(Err(text))) => {
                return Err(EndCause::Returned { message: self.redaction.cut(&text, MAX_ERROR_TEXT).into_owned() });
            }
            Ok(Err(error)) => Err(cause(self.store.data(), &error)),
            Err(cut) => Err(cut_cause(cut, deadline.since(now))),
        };
        // Every text of the guest that leaves an instance leaves it here, or in `instantiate`.
        ended.map_err(|cause| self.redaction.cause(cause))
    }

    /// CPU time of the last call.
    pub(crate) fn cpu(&self) -> Duration {
        self.meter.used()
    }

    /// When the last call ended.
    pub(crate) fn ended(&self) -> Moment {
        self.meter.ended_at()
    }

    /// Calls with an exchange, or a payload that was put off, that it has served.
    pub(crate) fn served(&self) -> u64 {
        self.served
    }

    /// Bytes of its linear memories.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().memory.used()
    }

    /// Whether its `configure` has read the snapshots it was given.
    pub(crate) fn has_inherited(&self) -> bool {
        self.has_inherited
    }

    /// From here on the guest may leave a snapshot.
    pub(crate) fn may_leave_snapshot(&mut self) {
        let Limits { memory, snapshot, .. } = self.limits;
        // Whatever the guest can hold reaches the host, so that one that is too large is an error and not a trap.
        self.store.set_hostcall_fuel(memory.max(self.limits.body).saturating_add(HOSTCALL_SLACK));
        self.store.data_mut().snapshots.welcome(snapshot);
    }

    /// What it has left.
    pub(crate) fn take_snapshot(&mut self) -> Left {
        self.store.data_mut().snapshots.take()
    }

    /// From here on the guest sees that it is being stopped, and why.
    pub(crate) fn stopping(&mut self, reason: StopReason) {
        self.store.data_mut().lifecycle.stopping_alone(reason);
    }

    pub(crate) fn has(&self, hook: Hook) -> bool {
        self.functions.hooks().contains(hook)
    }
}

/// Why `within` gave up on a call.
enum Cut {
    Deadline,
    Abandoned,
}

impl From<&Cut> for Ended {
    fn from(cut: &Cut) -> Self {
        match cut {
            Cut::Deadline => Self::Wall,
            Cut::Abandoned => Self::Abandoned,
        }
    }
}

/// What a call has to stay within.
struct Within<'a> {
    meter: &'a Meter,
    environment: &'a Environment,
    deadline: Moment,
    halt: &'a Halt,
}

impl Within<'_> {
    /// Poll a call until it is done, its deadline has come, or everything is abandoned. The call is dropped then.
    ///
    /// Whether it is too late is asked before the guest is resumed: when many guests compute on few threads, each is
    /// dropped on its next turn instead of getting one more tick.
    async fn poll<F: Future>(self, call: F, gauged: Option<&Gauged>) -> Result<F::Output, Cut> {
        let Within { meter, environment: Environment { clock, .. }, deadline, halt } = self;
        let mut call = pin!(call);
        // Both are made when the call first waits: most calls never do, and pay nothing.
        let mut alarm = None;
        let mut over = pin!(None);
        let output = std::future::poll_fn(|cx| {
            if alarm.is_some() {
                if clock.now() >= deadline.min(halt.at()) {
                    return Poll::Ready(Err(Cut::Deadline));
                }
                if halt.abandoned() {
                    return Poll::Ready(Err(Cut::Abandoned));
                }
                meter.resume();
            }
            let polled = match gauged {
                None => call.as_mut().poll(cx),
                Some(gauged) => gauged.poll(call.as_mut(), cx),
            };
            meter.pause(clock.now());
            if let Poll::Ready(output) = polled {
                return Poll::Ready(Ok(output));
            }
            let alarm = alarm.get_or_insert_with(|| clock.sleep_until(deadline));
            if over.is_none() {
                over.set(Some(halt.over.cancelled()));
            }
            let is_over = over.as_mut().as_pin_mut().is_some_and(|over| over.poll(cx).is_ready());
            if alarm.as_mut().poll(cx).is_pending() && !is_over {
                return Poll::Pending;
            }
            Poll::Ready(Err(if halt.abandoned() { Cut::Abandoned } else { Cut::Deadline }))
        })
        .await;
        if let Err(cut) = &output {
            // Perhaps it was not its last poll that ended it.
            meter.cut(clock.now(), cut.into());
        }
        output
    }
}

/// A call is over. One that was done after its deadline is as good as cut; that is judged once all of its time is known.
fn over<T>(ended: Result<T, Cut>, store: &Store<Guest>, meter: &Meter, gauged: Option<&Gauged>) -> Result<T, Cut> {
    if let Some(gauged) = gauged {
        gauged.end(store, meter);
    }
    if ended.is_ok() && meter.is_late(meter.ended_at()) { Err(Cut::Deadline) } else { ended }
}

fn cut_cause(cut: Cut, limit: Duration) -> EndCause {
    match cut {
        Cut::Deadline => EndCause::Wall { limit },
        Cut::Abandoned => EndCause::Abandoned,
    }
}

/// What an error that left the guest means.
fn cause(guest: &Guest, error: &wasmtime::Error) -> EndCause {
    match guest.meter.ended() {
        Some(Ended::Cpu) => return EndCause::Cpu { limit: guest.meter.limit(), used: guest.meter.used() },
        Some(Ended::Wall) => return EndCause::Wall { limit: guest.meter.budget() },
        Some(Ended::Abandoned) => return EndCause::Abandoned,
        None => {}
    }
    if let Some(Trap::StackOverflow) = error.downcast_ref::<Trap>() {
        return EndCause::Stack;
    }
    // A guest whose `memory.grow` was refused aborts by itself; what it aborts with says nothing. One that goes on, and is
    // refused something else by the host, ends for that.
    let aborted = error.downcast_ref::<Trap>().is_some() || error.downcast_ref::<I32Exit>().is_some();
    if aborted && guest.memory.refused() {
        return EndCause::Memory { limit: guest.memory.limit() };
    }
    let mut message = if let Some(trap) = error.downcast_ref::<Trap>() {
        trap.to_string()
    } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!("exited with code {}", exit.0)
    } else {
        // Neither the guest's instructions nor its exit: the host refused what it passed or returned.
        return EndCause::Refused { message: error.root_cause().to_string() };
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for (depth, frame) in backtrace.frames().iter().filter_map(|frame| frame.func_name()).take(4).enumerate() {
            let between = if depth == 0 { " in " } else { " < " };
            let _ = write!(message, "{between}{:#}", rustc_demangle::demangle(frame));
        }
    }
    let stderr = guest.log.stderr_tail();
    if !stderr.is_empty() {
        let _ = write!(message, "; stderr: {stderr}");
    }
    EndCause::Trap { message }
}
