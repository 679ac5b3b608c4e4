//! What a plugin under test is granted, and the stand-ins that it gets for it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::metrics::Metrics;
use tidegate_runtime::{Deferred, Grant};
use tidegate_topics::Pattern;

use super::Setup;
use crate::exchange::Response;
use crate::world::{Asked, Outbox, Reply};

impl Setup {
    /// Grant it topics of the outbox: `audit.login`, `audit.*` or `audit.>`. What it publishes is in
    /// [`Plugin::events`](crate::Plugin::events).
    ///
    /// # Panics
    /// If one is no topic and no pattern, which a gateway's config would not take.
    pub fn outbox<'t>(mut self, topics: impl IntoIterator<Item = &'t str>) -> Self {
        let pattern = |text: &str| Pattern::parse(text).unwrap_or_else(|wrong| panic!("{text:?}: {wrong}"));
        self.world.outbox = Some(Arc::new(Outbox::new(topics.into_iter().map(pattern).collect())));
        self
    }

    /// Grant it requests to these origins (`https://api.example.com`), and answer them with this.
    pub fn http<'o, R: Into<Reply>>(
        self,
        origins: impl IntoIterator<Item = &'o str>,
        answer: impl Fn(&Asked) -> R + Send + Sync + 'static,
    ) -> Self {
        let origins: Vec<String> = origins.into_iter().map(str::to_owned).collect();
        self.http_where(move |origin| origins.iter().any(|granted| granted == origin), answer)
    }

    /// The same for every origin of which `is_granted` says so: it is asked with `https://api.example.com`, for instance.
    pub fn http_where<R: Into<Reply>>(
        mut self,
        is_granted: impl Fn(&str) -> bool + Send + Sync + 'static,
        answer: impl Fn(&Asked) -> R + Send + Sync + 'static,
    ) -> Self {
        self.servers = Some((Box::new(is_granted), Box::new(move |asked| answer(asked).into())));
        self
    }

    /// Grant it a key-value bucket, empty at first.
    pub fn kv(mut self, name: &str) -> Self {
        self.buckets.push((name.to_owned(), None));
        self
    }

    /// The same, whose entries live for so long.
    pub fn kv_with_ttl(mut self, name: &str, ttl: Duration) -> Self {
        self.buckets.push((name.to_owned(), Some(ttl)));
        self
    }

    /// Grant it whatever bucket it opens; each is empty at first.
    pub fn kv_any(mut self) -> Self {
        self.any_bucket = true;
        self
    }

    /// Grant it values by name, even if there are none.
    pub fn values(mut self) -> Self {
        self.world.values = true;
        self
    }

    /// Grant it a value of its config by name.
    pub fn value(mut self, key: &str, value: &str) -> Self {
        self.world.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Grant it a secret.
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.world.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Grant it metrics. They are in [`Plugin::metrics`](crate::Plugin::metrics).
    pub fn metrics(mut self) -> Self {
        self.world.metrics = Some(Arc::new(Metrics::default()));
        self
    }

    /// Let it put work off.
    pub fn background(mut self, deferred: Deferred) -> Self {
        self.world.background = true;
        self.spec.deferred = deferred;
        self
    }

    /// Grant it whatever it imports: every topic, every bucket it opens, every origin, which answers with this; and values and
    /// secrets, of which it has those that it is given.
    pub fn grant_imports(mut self, answer: Response) -> Self {
        self.as_imported = Some(answer);
        self
    }

    /// Grant it this without bounds. Servers answer with `answer`.
    pub(crate) fn grant(self, grant: Grant, answer: &Response) -> Self {
        match grant {
            Grant::Outbox => self.outbox([">"]),
            Grant::Http => {
                let answer = answer.clone();
                self.http_where(|_| true, move |_| answer.clone())
            }
            Grant::Kv => self.kv_any(),
            Grant::Config => self.values(),
            Grant::Metrics => self.metrics(),
            Grant::Background => self.background(Deferred::default()),
        }
    }

    /// The servers that it has been granted do this instead.
    pub(crate) fn servers_answer(mut self, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        if let Some((_, answer)) = &mut self.servers {
            *answer = Box::new(script);
        }
        self
    }

    /// What it has been granted.
    pub(crate) fn grants(&self) -> Vec<Grant> {
        let has_values = self.world.values || !self.world.config.is_empty() || !self.world.secrets.is_empty();
        let all = [
            (Grant::Outbox, self.world.outbox.is_some()),
            (Grant::Http, self.servers.is_some()),
            (Grant::Kv, self.any_bucket || !self.buckets.is_empty()),
            (Grant::Config, has_values),
            (Grant::Metrics, self.world.metrics.is_some()),
            (Grant::Background, self.world.background),
        ];
        all.into_iter().filter(|(_, is_granted)| *is_granted).map(|(grant, _)| grant).collect()
    }
}
