//! From one version of a plugin to the next, with its state.
//!
//! A new version is configured before a reload changes anything, but the state of the old one is there only after its
//! `shutdown`. So a plugin whose state is handed over is loaded with one instance on trial, and held: calls to it wait. It
//! takes over in four steps: calls to the old version go to the new one from now on; the old one is stopped; instances of
//! the new one are configured with what the old ones have left; the calls that wait are let in.
//!
//! The steps run in a task of their own, and the last one comes however that ends: nobody waits for a hand-over that
//! nobody runs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{Inner, Plugin, Slot};
use crate::contract::Hook;
use crate::error::{CallError, EndCause};
use crate::host::{Inheritance, Left};
use crate::instance::Instance;
use crate::limits::Isolation;
use crate::pool::Start;
use crate::stats::SnapshotOutcome;
use crate::stop::{Snapshot, StopReason};
use crate::sync;

/// What became of the snapshots of a plugin that has been replaced, each of which an instance of it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HandOver {
    /// How many there were; the sum of the others.
    pub left: usize,
    /// See [`SnapshotOutcome::HandedOver`].
    pub handed_over: usize,
    /// See [`SnapshotOutcome::Refused`].
    pub refused: usize,
    /// See [`SnapshotOutcome::Lost`].
    pub lost: usize,
}

impl HandOver {
    fn of(outcome: SnapshotOutcome, left: usize) -> Self {
        let none = Self { left, ..Self::default() };
        match outcome {
            SnapshotOutcome::HandedOver => Self { handed_over: left, ..none },
            SnapshotOutcome::Refused => Self { refused: left, ..none },
            SnapshotOutcome::Lost => Self { lost: left, ..none },
        }
    }

    fn add(&mut self, other: Self) {
        self.left += other.left;
        self.handed_over += other.handed_over;
        self.refused += other.refused;
        self.lost += other.lost;
    }
}

/// Who takes over from a plugin, and what is left to them.
#[derive(Default)]
pub(super) struct Succession {
    /// Set once, before the stop begins that it is for.
    heir: OnceLock<Plugin>,
    estate: Mutex<Estate>,
    /// While it takes over itself.
    inheriting: TaskTracker,
}

#[derive(Default)]
struct Estate {
    /// By the number of the instance that left it.
    snapshots: Vec<(u64, Vec<u8>)>,
    /// What is not among them.
    gone: HandOver,
}

impl Plugin {
    /// Let calls in, with `instances.min` instances. For a plugin that is loaded with [`super::PluginSpec::hand_over`] and
    /// has nobody to take over from; without effect on any other.
    ///
    /// # Errors
    /// When an instance cannot be made, or its `configure` does not end well. The plugin stays as it was.
    pub async fn open(&self) -> Result<(), CallError> {
        while self.inner.prepare_one().await? {}
        self.inner.let_in();
        Ok(())
    }

    /// Take over from another version: from now on, calls to `old` are calls to this plugin. `old` is stopped within
    /// `budget`, as by [`Plugin::stop`] with [`StopReason::Reload`], and its instances may leave snapshots; they are dealt
    /// out to `instances.min` instances of this plugin, which read them in `configure`.
    ///
    /// This plugin has to be one that is held: loaded with [`super::PluginSpec::hand_over`], and not opened. Until the
    /// hand-over is done, calls to either wait, no longer than their wall limits say and no more of them than its queue
    /// takes. An instance whose `configure` does not end well is made again without snapshots. If this plugin is stopped
    /// meanwhile, or serves already, what is left is lost. An `old` that is taking over itself finishes that first, if it
    /// takes no longer than `budget`.
    ///
    /// The hand-over goes on if this future is dropped.
    pub async fn take_over(&self, old: &Self, budget: Duration) -> HandOver {
        let span = tracing::info_span!("hand-over", plugin = &**self.name());
        let task = hand_over(Arc::clone(&self.inner), old.clone(), budget).instrument(span);
        let task = self.inner.succession.inheriting.track_future(task);
        let (tell, told) = oneshot::channel();
        self.inner.tasks.spawn(async move {
            // Perhaps nobody waits any more.
            let _ = tell.send(task.await);
        });
        // It is cancelled only when the process ends. There is nothing to tell then.
        told.await.unwrap_or_default()
    }
}

async fn hand_over(new: Arc<Inner>, old: Plugin, budget: Duration) -> HandOver {
    let opening = Opening(Arc::clone(&new));
    if Arc::ptr_eq(&new, &old.inner) {
        return HandOver::default();
    }
    // One that is being stopped has nothing to offer to callers; one can be followed by one.
    let follows =
        !new.closing.is_cancelled() && old.inner.succession.heir.set(Plugin { inner: Arc::clone(&new) }).is_ok();
    old.inner.has_inherited(budget).await;
    old.stop(StopReason::Reload, budget).await;
    let mut result = HandOver::default();
    if follows {
        let Estate { snapshots, gone } = old.inner.succession.take();
        result.add(gone);
        result.add(new.inherit(snapshots).await);
    }
    drop(opening);
    for (outcome, count) in [
        (SnapshotOutcome::HandedOver, result.handed_over),
        (SnapshotOutcome::Refused, result.refused),
        (SnapshotOutcome::Lost, result.lost),
    ] {
        new.spec.tally.count_snapshots(outcome, count);
    }
    tracing::info!(?result, "took over");
    result
}

impl Succession {
    fn take(&self) -> Estate {
        std::mem::take(&mut self.estate.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The old version's side.
impl Inner {
    /// The version that has taken over, if one has.
    pub(super) fn heir(&self) -> Option<&Arc<Self>> {
        self.succession.heir.get().map(|plugin| &plugin.inner)
    }

    /// The last version that has taken over, this one if none has.
    pub(super) fn last_heir(self: &Arc<Self>) -> &Arc<Self> {
        let mut last = self;
        while let Some(heir) = last.heir() {
            last = heir;
        }
        last
    }

    /// Wait until it has taken over itself, so that it has something to leave: no longer than so, nor when it is stopped.
    async fn has_inherited(&self, longest: Duration) {
        let inheriting = &self.succession.inheriting;
        inheriting.close();
        tokio::select! {
            biased;
            () = inheriting.wait() => {}
            () = self.closing.cancelled() => {}
            () = self.clock().sleep_until(self.clock().now() + longest) => {}
        }
    }

    /// An instance is about to be shut down.
    pub(super) fn ask_for_snapshot(&self, instance: &mut Instance) {
        if self.heir().is_some() {
            instance.may_leave_snapshot();
        }
    }

    /// Keep what an instance has left in a shutdown that has ended well, or not.
    pub(super) fn settle(&self, number: u64, left: Left, ended_well: bool) -> Snapshot {
        let mut estate = self.succession.estate.lock().unwrap_or_else(PoisonError::into_inner);
        match left {
            Left::Nothing => Snapshot::None,
            Left::TooLarge(bytes) => {
                let limit = self.template.limits.snapshot;
                tracing::warn!(bytes, limit, "a snapshot is refused: it is longer than the plugin's limit `snapshot`");
                estate.gone.add(HandOver::of(SnapshotOutcome::Refused, 1));
                Snapshot::TooLarge { bytes }
            }
            Left::Snapshot(snapshot) if ended_well => {
                let bytes = snapshot.len();
                estate.snapshots.push((number, snapshot));
                Snapshot::Left { bytes }
            }
            Left::Snapshot(snapshot) => {
                let bytes = snapshot.len();
                tracing::warn!(bytes, "a snapshot is lost: the shutdown that left it did not end well");
                estate.gone.add(HandOver::of(SnapshotOutcome::Lost, 1));
                Snapshot::Lost { bytes }
            }
        }
    }
}

/// The new version's side.
impl Inner {
    /// Prepare one of the instances that are there before calls are let in. Tells whether one was wanted.
    pub(super) async fn prepare_one(self: &Arc<Self>) -> Result<bool, CallError> {
        let Some(starting) = Starting::begin(self) else { return Ok(false) };
        match starting.make(Inheritance::new()).await {
            Some(Ok(slot)) => {
                self.warn_if_due(&slot);
                starting.up(slot);
            }
            Some(Err(cause)) => {
                starting.failed();
                return Err(self.error(Hook::Configure, cause));
            }
            None => {}
        }
        Ok(true)
    }

    fn let_in(self: &Arc<Self>) {
        self.pool.open();
        self.start_wanted();
        self.work_off();
        self.start_ticks();
    }

    /// Bring up instances with these snapshots, as many as there are to be at first and no more.
    async fn inherit(self: &Arc<Self>, mut snapshots: Vec<(u64, Vec<u8>)>) -> HandOver {
        let most = match self.spec.isolation {
            Isolation::Warm if self.pool.is_held() => self.spec.instances.min.max(1),
            Isolation::Warm | Isolation::Fresh => 0,
        };
        snapshots.sort_unstable_by_key(|(number, _)| *number);
        let shares = deal(snapshots.into_iter().map(|(_, snapshot)| snapshot).collect(), most);

        // Those on trial, as far as they take the places of the heirs.
        for _ in most.saturating_sub(shares.len())..self.pool.counts().idle {
            if let Some(spare) = self.pool.spare() {
                self.stop_one(spare, StopReason::Reload);
            }
        }
        let mut result = HandOver::default();
        let (tell, mut heirs) = mpsc::unbounded_channel();
        for share in shares {
            let Some(starting) = Starting::begin(self) else {
                result.add(lost(share.len(), "the new version is being stopped, or serves already"));
                continue;
            };
            let tell = tell.clone();
            let task = async move {
                let _ = tell.send(starting.heir(share).await);
            };
            self.tasks.spawn(task.in_current_span());
        }
        drop(tell);
        while let Some(heir) = heirs.recv().await {
            result.add(heir);
        }
        result
    }
}

/// Deal snapshots out to at most so many, each of whom gets some. With nobody there, one gets all: they have to be told
/// of.
fn deal(snapshots: Vec<Vec<u8>>, most: usize) -> Vec<Inheritance> {
    let many = most.max(1).min(snapshots.len());
    let mut shares: Vec<Inheritance> = Vec::new();
    shares.resize_with(many, Inheritance::new);
    for (place, snapshot) in (0..many).cycle().zip(snapshots) {
        if let Some(share) = shares.get_mut(place) {
            share.push(snapshot);
        }
    }
    shares
}

fn lost(snapshots: usize, why: &str) -> HandOver {
    tracing::warn!(snapshots, "snapshots are lost: {why}");
    HandOver::of(SnapshotOutcome::Lost, snapshots)
}

/// Leave to start an instance in a pool that is held. Dropped, it is given back.
struct Starting {
    plugin: Arc<Inner>,
    number: u64,
    used: bool,
}

impl Starting {
    fn begin(plugin: &Arc<Inner>) -> Option<Self> {
        let Start { number, .. } = plugin.pool.may_prepare()?;
        Some(Self { plugin: Arc::clone(plugin), number, used: false })
    }

    /// Make it; `None` if the plugin is stopped meanwhile.
    async fn make(&self, inherited: Inheritance) -> Option<Result<Slot, EndCause>> {
        let plugin = &self.plugin;
        tokio::select! {
            biased;
            () = plugin.closing.cancelled() => None,
            () = plugin.template.halt.over.cancelled() => None,
            made = plugin.slot(self.number, inherited) => Some(made),
        }
    }

    /// It is there. Tells whether it serves: if not, the plugin has been stopped meanwhile.
    fn up(mut self, slot: Slot) -> bool {
        self.used = true;
        self.plugin.started(slot)
    }

    fn failed(mut self) {
        self.used = true;
        self.plugin.pool.failed_to_start(self.plugin.clock().now());
    }

    /// Make it with these snapshots, and without them if it does not take them.
    async fn heir(self, share: Inheritance) -> HandOver {
        let many = share.len();
        let stopped = || lost(many, "the new version is being stopped");
        match self.make(share).await {
            None => stopped(),
            Some(Ok(slot)) => {
                let has_read = slot.instance.as_ref().is_some_and(|instance| instance.has_inherited());
                match (self.up(slot), has_read) {
                    (false, _) => stopped(),
                    (true, false) => lost(many, "the new version did not read them in `configure`"),
                    (true, true) => HandOver::of(SnapshotOutcome::HandedOver, many),
                }
            }
            Some(Err(cause)) => {
                let number = self.number;
                tracing::warn!(instance = number, snapshots = many, "snapshots are refused: configure {cause}");
                match self.make(Inheritance::new()).await {
                    None => {}
                    Some(Ok(slot)) => {
                        self.up(slot);
                    }
                    Some(Err(cause)) => {
                        tracing::warn!(instance = number, cause = cause.as_str(), "nor could it be started: {cause}");
                        self.failed();
                    }
                }
                HandOver::of(SnapshotOutcome::Refused, many)
            }
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.used {
            self.plugin.pool.not_started();
        }
    }
}

/// Calls are let in when this is dropped.
struct Opening(Arc<Inner>);

impl Drop for Opening {
    fn drop(&mut self) {
        if sync::can_spawn() {
            self.0.let_in();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_snapshot_goes_to_exactly_one_and_shares_differ_by_one_at_most(many in 0..40_u8, most in 1..9_usize) {
            let shares = deal((0..many).map(|n| vec![n]).collect(), most);
            prop_assert!(shares.len() <= most);
            let sizes: Vec<usize> = shares.iter().map(Vec::len).collect();
            if let (Some(least), Some(most)) = (sizes.iter().min(), sizes.iter().max()) {
                prop_assert!(*least > 0 && most - least <= 1, "{sizes:?}");
            }
            let mut dealt: Vec<Vec<u8>> = shares.into_iter().flatten().collect();
            dealt.sort_unstable();
            prop_assert_eq!(dealt, (0..many).map(|n| vec![n]).collect::<Vec<_>>());
        }
    }
}
