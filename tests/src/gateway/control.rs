//! What a test asks of the admin API.

use serde_json::Value;

use super::TestGateway;
use crate::client::Client;

impl TestGateway {
    /// POST to the admin API what must be done; the answer's JSON.
    ///
    /// # Panics
    /// If it is answered with another status than 200.
    pub async fn post(&self, path: &str) -> Value {
        let answer = self.order(path).await;
        assert_eq!(answer.status, 200, "POST {path}: {}\n{}", answer.text(), self.log().text());
        answer.json()
    }

    /// The series of a metric that are not zero, with their labels, and their values.
    ///
    /// # Panics
    /// If the admin listener does not answer.
    pub async fn series(&self, metric: &str) -> Vec<(String, f64)> {
        let text = Client::http1(self.admin).get("/metrics").await.text();
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix(metric)?;
            let value: f64 = value.parse().ok()?;
            let own = labels.is_empty() || labels.starts_with('{');
            (own && value != 0.0).then(|| (labels.to_owned(), value))
        };
        text.lines().filter_map(value).collect()
    }
}
