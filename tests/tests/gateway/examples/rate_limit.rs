//! `rate-limit`: each client has its rate, in one gateway and in a fleet, and the operator says what is worse when the
//! counts cannot be had.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tidegate_tests::client::{Answer, Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::nats::NatsServer;
use tidegate_tests::origin::{Origin, nobody};

const LIMIT: usize = 10;
const BUCKET: [&str; 2] = ["name = 'rate-limit'", "kind = 'memory'"];

/// Seconds: a window of about a day that neither begins nor ends while a test runs, whatever the time is.
static WINDOW: LazyLock<u64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let in_its_middle = |window: &u64| (window / 4..window / 4 * 3).contains(&(now % window));
    (43_200..=86_400).rev().find(in_its_middle).expect("a window that is shorter by a second is shifted by hours")
});

fn policy() -> String {
    format!("\"default\";q={LIMIT};w={}", *WINDOW)
}

/// Ten requests in a window.
fn limiter(name: &str, on_trouble: &str) -> PluginTable {
    PluginTable::example("rate-limit")
        .named(name)
        .set("instances = 4")
        .grant("kv = ['rate-limit']")
        .config(&format!("limit = {LIMIT}"))
        .config(&format!("window = {}", *WINDOW))
        .config("header = 'x-api-key'")
        .config(&format!("on_trouble = '{on_trouble}'"))
}

async fn ask(client: &Client, path: &str, key: &str) -> Answer {
    client.send(get(path, &[("x-api-key", key)])).await
}

/// How many of so many requests at once are let through; all others are refused.
async fn passed(clients: &[Client], path: &str, key: &str, count: usize) -> usize {
    let asking = clients.iter().cycle().take(count).map(|client| ask(client, path, key));
    let statuses: Vec<u16> = join_all(asking).await.into_iter().map(|answer| answer.status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    statuses.into_iter().filter(|status| *status == 200).count()
}

/// The quantity and the time in the field `RateLimit`.
fn rest(answer: &Answer) -> (u64, u64) {
    let field = answer.header("ratelimit");
    let numbers = field.strip_prefix("\"default\";r=").and_then(|rest| rest.split_once(";t="));
    let numbers = numbers.and_then(|(rest, time)| Some((rest.parse().ok()?, time.parse().ok()?)));
    numbers.unwrap_or_else(|| panic!("{field:?} of {answer:?}"))
}

#[tokio::test]
async fn a_client_over_its_rate_is_told_when_to_come_again_and_no_other_is_affected() {
    let origin = Origin::start().await;
    let file = ConfigFile::before(origin.address()).bucket(BUCKET).plugin(limiter("limiter", "closed"));
    let gateway = TestGateway::start(&file.route("/", &["limiter"])).await;
    let client = gateway.client();
    for left in (0..LIMIT as u64).rev() {
        let answer = ask(&client, "/", "one").await;
        assert_eq!((answer.status, answer.header("ratelimit-policy"), rest(&answer).0), (200, &*policy(), left));
    }
    let seen = origin.requests();
    let refused = ask(&client, "/", "one").await;
    assert_eq!(
        (refused.status, refused.header("ratelimit-policy"), refused.text().as_str()),
        (429, &*policy(), "too many requests\n")
    );
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert_eq!(rest(&refused), (0, wait));
    assert!((1..=2 * *WINDOW).contains(&wait), "{wait}");
    assert_eq!(origin.requests(), seen, "the origin hears nothing of it");
    assert_eq!(rest(&ask(&client, "/", "two").await).0, 9, "another client");
    assert_eq!(rest(&client.get("/").await).0, 9, "one without the field goes by its address");
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_burst_over_all_instances_gets_through_up_to_the_limit_and_a_reload_forgets_nothing() {
    let origin = Origin::start().await;
    let file = ConfigFile::before(origin.address()).bucket(BUCKET).route("/", &["limiter"]);
    let gateway = TestGateway::start(&file.clone().plugin(limiter("limiter", "closed"))).await;
    let client = [gateway.client()];
    assert_eq!(passed(&client, "/", "one", 3 * LIMIT).await, LIMIT);
    gateway.reload(&file.plugin(limiter("limiter", "open"))).await;
    assert_eq!(passed(&client, "/", "one", LIMIT).await, 0);
    assert_eq!(passed(&client, "/", "two", 3 * LIMIT).await, LIMIT);
}

/// Two limiters over a bucket at this server, which let through what they cannot count, or do not.
fn over(origin: &Origin, url: &str, timeout: &str) -> ConfigFile {
    let (url, timeout) = (format!("url = '{url}'"), format!("timeout = '{timeout}'"));
    ConfigFile::before(origin.address())
        .bucket(["name = 'rate-limit'", "kind = 'nats'", &url, &timeout])
        .plugin(limiter("lenient", "open"))
        .plugin(limiter("strict", "closed"))
        .route("/lenient", &["lenient"])
        .route("/strict", &["strict"])
}

/// Wait until this gateway can count.
async fn counts(gateway: &TestGateway) {
    let client = gateway.client();
    gateway.until("it can count", async || ask(&client, "/strict", "probe").await.status != 503).await;
}

#[tokio::test]
async fn a_fleet_over_one_broker_keeps_one_rate() {
    let Some(broker) = NatsServer::start().await else { return };
    let origin = Origin::start().await;
    let file = over(&origin, &broker.url(), "5s");
    let (first, second) = tokio::join!(TestGateway::start(&file), TestGateway::start(&file));
    tokio::join!(counts(&first), counts(&second));
    let clients = [first.client(), second.client()];
    assert_eq!(passed(&clients, "/strict", "one", 3 * LIMIT).await, LIMIT);
    for client in &clients {
        assert_eq!(ask(client, "/strict", "one").await.status, 429);
        assert_eq!(ask(client, "/strict", "two").await.status, 200);
    }
    assert_eq!(rest(&ask(&clients[0], "/strict", "two").await).0, LIMIT as u64 - 3);
}

#[tokio::test]
async fn without_its_broker_it_lets_all_through_or_nobody_and_back_it_counts_on() {
    let Some(mut broker) = NatsServer::start().await else { return };
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&over(&origin, &broker.url(), "5s")).await;
    counts(&gateway).await;
    let client = gateway.client();
    for path in ["/strict", "/lenient"] {
        assert_eq!(passed(std::slice::from_ref(&client), path, "one", 2 * LIMIT).await, LIMIT);
    }
    broker.kill();
    // Far more than faults in a row that would take a plugin out: an error is none.
    for _ in 0..30 {
        assert_eq!(ask(&client, "/strict", "one").await.status, 503);
        let answer = ask(&client, "/lenient", "one").await;
        assert_eq!((answer.status, answer.header("ratelimit")), (200, ""));
    }
    let said = async || gateway.log().text().contains("a request was not counted: ");
    gateway.until("the log says why", said).await;
    broker.restart().await;
    counts(&gateway).await;
    for path in ["/strict", "/lenient"] {
        assert_eq!(ask(&client, path, "one").await.status, 429, "{path}");
        assert_eq!(ask(&client, path, "two").await.status, 200, "{path}");
    }
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_broker_that_hangs_is_one_that_is_away_and_no_fault_of_the_plugin() {
    let Some(broker) = NatsServer::start().await else { return };
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&over(&origin, &broker.url(), "300ms")).await;
    counts(&gateway).await;
    let client = gateway.client();
    broker.freeze();
    let all = join_all((0..20).map(|_| async {
        [ask(&client, "/strict", "one").await.status, ask(&client, "/lenient", "one").await.status]
    }));
    assert_eq!(all.await, [[503, 200]; 20]);
    for plugin in ["strict", "lenient"] {
        assert_eq!(gateway.calls(plugin, "on-request", "wall").await, 0.0, "{plugin}");
    }
    broker.thaw();
    counts(&gateway).await;
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_broker_serves_as_it_is_told() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&over(&origin, &format!("nats://{}", nobody().await), "5s")).await;
    let client = gateway.client();
    assert_eq!(ask(&client, "/strict", "one").await.status, 503);
    assert_eq!(ask(&client, "/lenient", "one").await.status, 200);
    assert_eq!(origin.requests(), 1);
    assert_eq!(gateway.stop().await.code, Some(0));
}
