//! Whether it survives what others do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_runtime::grants::{BucketError, PublishError};
use tidegate_runtime::outbound::OutboundError;
use tidegate_runtime::{Deferred, Hook};

use super::finding::Unit;
use super::requests::{self, Malformed};
use super::trial::{Trial, faults_of};
use crate::exchange::Response;
use crate::plugin::Plugin;
use crate::setup::Setup;
use crate::world::Reply;

/// Requests to a plugin whose capabilities fail.
const REQUESTS: u64 = 32;

/// Clients and upstreams that send what they should not.
pub(super) fn malformed(trial: &mut Trial<'_>) {
    let next = Arc::<Mutex<Option<Response>>>::default();
    let answer = Arc::clone(&next);
    let upstream = move |request: &_| {
        let next = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        next.map_or_else(|| requests::upstream(request), Reply::Now)
    };
    trial.with(
        |setup| setup.upstream(upstream),
        |trial, plugin| {
            let all = requests::malformed(&trial.kit.request, plugin.filter.plugin.limits().body);
            trial.measure("malformed exchanges", all.len() as u64, Unit::Count);
            let mut forwarded = 0_u64;
            for Malformed { what, request, response } in all {
                *next.lock().unwrap_or_else(PoisonError::into_inner) = response;
                let answer = plugin.send(request);
                forwarded += u64::from(answer.forwarded.is_some());
                trial.look_at(plugin, &what, &answer);
            }
            trial.measure("forwarded", forwarded, Unit::Count);
            trial.look_at_background(plugin);
        },
    );
}

/// Outbox, buckets and servers that fail, one after the other.
pub(super) fn capabilities(trial: &mut Trial<'_>) {
    let granted = trial.kit.set_up().grants();
    let needs = trial.kit.inspection().needs();
    let troubles = TROUBLES.iter().filter(|trouble| granted.contains(&trouble.of) && needs.contains(&trouble.of));
    let troubles: Vec<&Trouble> = troubles.collect();
    if troubles.is_empty() {
        return trial.skip("it uses neither the outbox nor buckets nor servers nor deferred work");
    }
    trial.measure("troubles", troubles.len() as u64, Unit::Count);
    for trouble in troubles {
        let ticked = super::hooks::ticked(trial);
        trial.with(
            |setup| (trouble.world)(ticked(setup)),
            |trial, plugin| {
                (trouble.begin)(plugin);
                for number in 0..REQUESTS {
                    let answer = plugin.send(requests::ordinary(&trial.kit.request, number));
                    trial.look_at(plugin, trouble.what, &answer);
                }
                plugin.advance(Duration::from_secs(5));
                trial.look_at_background(plugin);
                if trial.has_failed("stop-idle") {
                    // Its stop takes its time, and would tell nothing about this.
                    return;
                }
                let stop = plugin.stop(plugin.filter.plugin.longest_stop());
                for record in stop.instances.iter().filter(|record| !record.outcome.is_clean()) {
                    let error = record.error.as_deref().unwrap_or("");
                    match record.outcome {
                        tidegate_runtime::StopOutcome::Failed => {
                            trial.note(format!("{}: shutdown {error}", trouble.what));
                        }
                        outcome => trial.problem(
                            format!("{}: shutdown {outcome} {error}", trouble.what),
                            Some("give up what cannot be handed over before the deadline, and return an error that says so"),
                        ),
                    }
                }
                if !faults_of(&plugin.stats(), Hook::Configure).is_empty() {
                    trial.problem(format!("{}: configure faulted", trouble.what), None);
                }
            },
        );
    }
}

/// Something that a capability does not do.
struct Trouble {
    what: &'static str,
    of: tidegate_runtime::Grant,
    /// What surrounds the plugin.
    world: fn(Setup) -> Setup,
    /// What begins once it is loaded.
    begin: fn(&mut Plugin),
}

const fn same(setup: Setup) -> Setup {
    setup
}

fn nothing(_: &mut Plugin) {}

static TROUBLES: [Trouble; 9] = [
    Trouble {
        what: "when the outbox is full",
        of: tidegate_runtime::Grant::Outbox,
        world: same,
        begin: |plugin| plugin.fail_publish(0, u64::MAX, PublishError::Full),
    },
    Trouble {
        what: "when the outbox takes nothing",
        of: tidegate_runtime::Grant::Outbox,
        world: same,
        begin: |plugin| plugin.fail_publish(0, u64::MAX, PublishError::Unavailable("the disk is full".into())),
    },
    Trouble {
        what: "when the bucket is out of reach",
        of: tidegate_runtime::Grant::Kv,
        world: same,
        begin: |plugin| plugin.fail_kv(0, u64::MAX, BucketError::Other("the broker is out of reach".into())),
    },
    Trouble {
        what: "when every other call of the bucket fails",
        of: tidegate_runtime::Grant::Kv,
        world: same,
        begin: |plugin| (0..500).for_each(|n| plugin.fail_kv(n * 2, 1, BucketError::Other("too busy".into()))),
    },
    Trouble {
        what: "when servers refuse connections",
        of: tidegate_runtime::Grant::Http,
        world: same,
        begin: |plugin| plugin.fail_http(0, u64::MAX, OutboundError::ConnectionRefused),
    },
    Trouble {
        what: "when servers never answer",
        of: tidegate_runtime::Grant::Http,
        world: |setup| setup.servers_answer(|_| Reply::Never),
        begin: nothing,
    },
    Trouble {
        what: "when servers answer 503",
        of: tidegate_runtime::Grant::Http,
        world: |setup| setup.servers_answer(|_| Reply::Now(Response::new(503))),
        begin: nothing,
    },
    Trouble {
        what: "when servers answer rubbish",
        of: tidegate_runtime::Grant::Http,
        world: |setup| setup.servers_answer(|_| Reply::Now(Response::new(200).body(vec![0xff; 64 << 10]))),
        begin: nothing,
    },
    Trouble {
        what: "when the queue of deferred work is full",
        of: tidegate_runtime::Grant::Background,
        world: |setup| setup.background(Deferred { queue: 1, bytes: 1, ..Deferred::default() }),
        begin: nothing,
    },
];
