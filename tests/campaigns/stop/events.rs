//! What makes a gateway stop plugins while it serves.

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tidegate_tests::client::get;
use tidegate_tests::gateway::{ConfigFile, TestGateway};

use crate::kinds::Company;

/// Calls after which an instance is recycled.
const CALLS: usize = 10;

/// What happens to the plugins of a process before it is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// All of them are stopped together by a reload, a disable and a quarantine, in any order.
    Together,
    /// Instances are recycled one at a time, as the load uses them.
    Recycle,
    /// Instances come up for a moment of many requests, and go one at a time when it is over.
    ScaleIn,
}

impl Story {
    pub(crate) const ALL: [Self; 3] = [Self::Together, Self::Recycle, Self::ScaleIn];

    /// The lines of each plugin's table.
    fn lines(self, instances: usize) -> Vec<String> {
        match self {
            Self::Together => vec![format!("instances = {instances}")],
            Self::Recycle => vec![format!("instances = {instances}"), format!("recycle = {{ calls = {CALLS} }}")],
            Self::ScaleIn => vec![format!("instances = {{ min = 1, max = {}, idle = '100ms' }}", instances + 1)],
        }
    }

    /// The config it begins with.
    pub(crate) fn config(self, company: Company, origin: std::net::SocketAddr, instances: usize) -> ConfigFile {
        company.config(origin, &self.lines(instances), 0)
    }

    /// Let it happen.
    pub(crate) async fn tell(self, on: &Stage<'_>, random: &mut StdRng) -> Result<()> {
        match self {
            Self::Together => {
                let mut events = [Event::Reload, Event::Disable, Event::Quarantine];
                events.shuffle(random);
                for event in events {
                    event.happen(on).await?;
                }
                Ok(())
            }
            Self::Recycle => {
                on.gateway.until("every plugin has been recycled", async || on.have_stopped("recycle").await).await;
                Ok(())
            }
            Self::ScaleIn => {
                while !on.have_stopped("scale-in").await {
                    on.crowd().await?;
                }
                Ok(())
            }
        }
    }
}

/// Where it happens.
pub(crate) struct Stage<'a> {
    pub(crate) gateway: &'a TestGateway,
    pub(crate) company: Company,
    pub(crate) origin: std::net::SocketAddr,
    /// Of each plugin.
    pub(crate) instances: usize,
}

#[derive(Clone, Copy)]
enum Event {
    Reload,
    Disable,
    Quarantine,
}

impl Event {
    async fn happen(self, on: &Stage<'_>) -> Result<()> {
        match self {
            Self::Reload => {
                let lines = Story::Together.lines(on.instances);
                let answer = on.gateway.reload(&on.company.config(on.origin, &lines, 1)).await;
                let stopped = answer.get("stopped").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
                ensure!(stopped == on.company.kinds().count(), "the reload has not stopped every plugin: {answer}");
            }
            Self::Disable => on.order_all("disable").await?,
            Self::Quarantine => on.order_all("quarantine").await?,
        }
        Ok(())
    }
}

impl Stage<'_> {
    /// Take every plugin out at the same time, wait until nothing is left of it, and put it back.
    async fn order_all(&self, how: &str) -> Result<()> {
        for deed in [&format!("{how}?wait=true"), "enable"] {
            let orders = self.company.kinds().map(|kind| {
                let path = format!("/v1/plugins/{}/{deed}", kind.name);
                async move { self.gateway.post(&path).await }
            });
            for answer in join_all(orders).await {
                ensure!(answer.get("changed") == Some(&true.into()), "{deed}: {answer}");
            }
        }
        Ok(())
    }

    /// Many requests at once, most of which hold their instance for a while.
    async fn crowd(&self) -> Result<()> {
        let before = self.stops("scale-in").await;
        let client = self.gateway.client();
        let requests = self.company.kinds().flat_map(|kind| (0..4 * self.instances).map(move |_| kind));
        let asking = requests.map(|kind| {
            let (client, path) = (client.clone(), format!("/{}/crowd", kind.name));
            async move { client.try_send(get(&path, &[("x-misbehave", "sleep=20")])).await }
        });
        for answer in join_all(asking).await {
            ensure!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "one of many requests: {answer:?}");
        }
        self.gateway.until("instances go", async || self.stops("scale-in").await > before).await;
        Ok(())
    }

    /// Whether each plugin has had as many stops for this reason as it has instances.
    async fn have_stopped(&self, reason: &str) -> bool {
        let series = self.gateway.series("tidegate_plugin_stops_total").await;
        self.company.kinds().all(|kind| count(&series, Some(kind.name), reason) >= self.instances as f64)
    }

    /// Stops of all plugins for this reason.
    async fn stops(&self, reason: &str) -> f64 {
        count(&self.gateway.series("tidegate_plugin_stops_total").await, None, reason)
    }
}

fn count(series: &[(String, f64)], plugin: Option<&str>, reason: &str) -> f64 {
    let plugin = plugin.map(|plugin| format!("plugin=\"{plugin}\""));
    let reason = format!("reason=\"{reason}\"");
    let counts = |labels: &str| {
        labels.contains(&reason) && plugin.as_ref().is_none_or(|plugin| labels.contains(plugin.as_str()))
    };
    series.iter().filter(|(labels, _)| counts(labels)).map(|(_, value)| value).sum()
}
