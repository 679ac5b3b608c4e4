//! `tidegate demo`: a tour of everything, with real parts. An upstream of its own; a gateway in a process of its own,
//! started as an operator starts it; requests; SIGTERM while some of them are under way; and the report.
//!
//! The tour checks what it shows: if anything is not as it should be, it says so and fails.

mod gateway;
mod upstream;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tidegate_runtime::StopOutcome;

use self::gateway::DemoGateway;
use self::upstream::DemoUpstream;
use super::{DemoArgs, Failure, report};
use crate::stop::report::Report;
use crate::stop::timeline;

/// Requests that fill the journal plugin's queue before the shutdown.
const REQUESTS: usize = 60;

/// Requests of which one by one is told what became of them.
const SAMPLES: usize = 3;

/// Requests that are under way when the signal comes.
const UNDER_WAY: usize = 4;

/// How long the upstream takes for those.
const SLOW: Duration = Duration::from_millis(600);

/// The key that the config gives to the api-key plugin.
const KEY: &str = "demo-key";

/// The exit code that the tour ends with: one plugin overran.
const EXPECTED_EXIT: i32 = 11;

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// Take the tour. 0 if everything was as it should be.
pub(super) fn demo(args: &DemoArgs) -> Result<u8, Failure> {
    let plugins = gateway::find_plugins(&args.plugins)?;
    let tokio = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::gateway(format!("cannot start worker threads: {error}")))?;
    let mut out = anstream::stdout().lock();
    match tokio.block_on(tour(&plugins, &mut out, report::width())) {
        Ok(()) => Ok(0),
        Err(error) => Err(Failure::gateway(format!("{error:#}"))),
    }
}

async fn tour(plugins: &Path, out: &mut dyn Write, width: usize) -> Result<()> {
    let began = Instant::now();
    title(out, "1  An upstream")?;
    let upstream = DemoUpstream::start(SLOW).await.context("the demo's upstream cannot start")?;
    writeln!(out, "   answers on {}; /slow takes {SLOW:?}", upstream.address())?;

    title(out, "2  The gateway, with five plugins compiled from source")?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let config = gateway::write_config(folder.path(), plugins, upstream.address())?;
    writeln!(out, "   tidegate run --config {} --shutdown-report report.json", config.display())?;
    out.flush()?;
    let mut gateway = DemoGateway::start(folder.path(), &config).await?;
    writeln!(out, "   ready after {:.1} s: {}", began.elapsed().as_secs_f32(), gateway.ready_line())?;

    title(out, "3  Requests")?;
    let client: HttpClient = Client::builder(TokioExecutor::new()).build_http();
    sample(out, &client, gateway.address()).await?;
    let all = join_all((0..REQUESTS).map(|_| get(&client, gateway.address(), "/", None))).await;
    let ok = all.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK)).count();
    writeln!(out, "   {ok} of {REQUESTS} more requests answered; the journal plugin has them all in its queue")?;
    ensure!(ok == REQUESTS, "requests failed; the gateway's log says why:\n{}", gateway.log());

    title(out, "4  SIGTERM, with requests under way")?;
    let address = gateway.address();
    let slow = join_all((0..UNDER_WAY).map(|_| get(&client, address, "/slow", None)));
    let signal = async {
        upstream.slow_requests(UNDER_WAY).await;
        gateway.terminate()?;
        watch(out, &client, &mut gateway).await
    };
    let (answers, ended) = tokio::join!(slow, signal);
    let ended = ended?;
    let finished =
        answers.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK)).count();
    writeln!(out, "   {finished} of {UNDER_WAY} requests that were under way got their answer")?;
    for line in gateway.log().lines().filter(|line| line.contains("flushed") || line.contains("I will not")) {
        writeln!(out, "   log: {}", line.trim())?;
    }

    title(out, "5  The audit, delivered by the outbox")?;
    audit(out, &folder.path().join(gateway::EVENTS))?;

    title(out, "6  The report")?;
    let report = Report::read(&folder.path().join("report.json"))?;
    writeln!(out, "{}", timeline::draw(&report, width))?;
    ensure!(finished == UNDER_WAY, "requests that were under way were lost");
    check(&report, ended)
}

/// Every request that was answered has to be in the file, those of the shutdown included.
fn audit(out: &mut dyn Write, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("no events arrived in {}", file.display()))?;
    let (events, answered) = (text.lines().count(), SAMPLES + REQUESTS + UNDER_WAY);
    writeln!(out, "   {events} events for {answered} answered requests in {}; the last one:", file.display())?;
    if let Some(event) = text.lines().next_back().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok())
    {
        writeln!(out, "   {}", event.get("data").unwrap_or(&event))?;
    }
    // At least once: a crash could make it more, but there was none.
    ensure!(events == answered, "{events} events arrived for {answered} requests");
    Ok(())
}

/// What has to be in the report, or the tour has shown something wrong.
fn check(report: &Report, exit: Option<i32>) -> Result<()> {
    let outcome = |name: &str| report.plugins.iter().find(|plugin| plugin.name == name).map(|plugin| plugin.outcome);
    for (plugin, expected) in [
        ("audit", StopOutcome::NoHook),
        ("journal", StopOutcome::Completed),
        ("stubborn", StopOutcome::Overran),
        ("stamp", StopOutcome::NoHook),
        ("api-key", StopOutcome::NoHook),
    ] {
        let found = outcome(plugin);
        ensure!(found == Some(expected), "plugin `{plugin}` should have ended as {expected:?}, but ended as {found:?}");
    }
    ensure!(
        exit == Some(EXPECTED_EXIT),
        "the gateway should have exited with {EXPECTED_EXIT}, but its code was {exit:?}"
    );
    Ok(())
}

/// One request of each kind, and what became of it.
async fn sample(out: &mut dyn Write, client: &HttpClient, address: SocketAddr) -> Result<()> {
    for (path, key, expected, what) in [
        ("/", None, StatusCode::OK, "stamped on the way in and on the way out"),
        ("/private", None, StatusCode::UNAUTHORIZED, "answered by api-key itself; the upstream saw nothing"),
        ("/private", Some(KEY), StatusCode::OK, "let through with a key"),
    ] {
        let answer = get(client, address, path, key).await?;
        let with = if key.is_some() { " with x-api-key" } else { "" };
        writeln!(out, "   GET {path}{with} -> {}: {what}", answer.status.as_u16())?;
        writeln!(out, "      {}", answer.body.trim())?;
        ensure!(answer.status == expected, "GET {path} should have been answered with {expected}");
        ensure!(answer.stamped, "the response to GET {path} has no stamp");
    }
    Ok(())
}

/// Show the phases as readiness tells them, until the process has ended. Returns its exit code.
async fn watch(out: &mut dyn Write, client: &HttpClient, gateway: &mut DemoGateway) -> Result<Option<i32>> {
    let signalled = Instant::now();
    let mut shown = String::new();
    loop {
        if let Some(status) = gateway.try_wait()? {
            writeln!(out, "   {:>6} ms  ended: {status}", signalled.elapsed().as_millis())?;
            return Ok(status.code());
        }
        // Once the admin listener is gone there is nothing left to ask.
        if let Ok(answer) = get(client, gateway.admin(), "/readyz", None).await {
            let phase = answer.body.trim().to_owned();
            if phase != shown {
                let status = answer.status.as_u16();
                writeln!(out, "   {:>6} ms  /readyz {status} {phase}", signalled.elapsed().as_millis())?;
                out.flush()?;
                shown = phase;
            }
        }
        if signalled.elapsed() > gateway::GRACE + Duration::from_secs(5) {
            bail!("the gateway outlived its grace period");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Answer {
    status: StatusCode,
    stamped: bool,
    body: String,
}

async fn get(client: &HttpClient, address: SocketAddr, path: &str, key: Option<&str>) -> Result<Answer> {
    let mut request = Request::get(format!("http://{address}{path}"));
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let response = client.request(request.body(Empty::new())?).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        stamped: head.headers.contains_key("x-stamped-by"),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn title(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{text}")?;
    out.flush()
}
