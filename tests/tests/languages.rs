//! Plugins in JavaScript, Python and C through the real gateway, under the limits that `docs/languages.md` gives them.

#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tidegate_runtime::{Hook, Import, Limits, Needs, StopOutcome};
use tidegate_testing::{Request, Setup};
use tidegate_tests::client::get;
use tidegate_tests::components;
use tidegate_tests::gateway::{ConfigFile, Ended, PluginTable, TestGateway, tidegate};
use tidegate_tests::languages;
use tidegate_tests::origin::Origin;
use tidegate_tests::plugins;
use tidegate_toolchain::Language;

/// A test for each language.
macro_rules! in_each_language {
    ($($test:ident)+) => {
        mod javascript {
            $(#[tokio::test]
            async fn $test() { super::$test(super::Language::JavaScript).await; })+
        }
        mod python {
            $(#[tokio::test]
            async fn $test() { super::$test(super::Language::Python).await; })+
        }
        mod c {
            $(#[tokio::test]
            async fn $test() { super::$test(super::Language::C).await; })+
        }
    };
}

in_each_language! {
    it_serves_and_says_at_its_end_what_it_has_kept
    no_response_is_uncounted_when_instances_come_and_go
    a_new_version_takes_over_under_load_with_all_its_instances
    it_watches_its_deadline
    a_config_that_it_does_not_take_is_refused_in_its_own_words
    what_it_raises_is_in_the_log_and_not_in_the_answer
    an_endless_loop_is_stopped_and_the_next_request_is_served
    an_endless_shutdown_is_stopped_at_its_deadline
    it_has_no_more_memory_than_its_limit
    inspect_names_its_language_and_its_hooks
}

/// The component, on every path.
fn config(
    origin: &Origin,
    language: Language,
    component: PathBuf,
    edit: impl FnOnce(PluginTable) -> PluginTable,
) -> ConfigFile {
    let memory = format!("memory = {}", languages::limits(language).memory);
    let plugin = PluginTable::file("p", component).limit(&memory);
    ConfigFile::before(origin.address()).plugin(edit(plugin)).route("/", &["p"])
}

/// What its instances have said in their `shutdown`.
fn said(ended: &Ended) -> Vec<String> {
    let lines = ended.log.with(&[("plugin", "p"), ("hook", "shutdown"), ("context", "visits")]);
    lines.iter().filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
}

/// How many responses they have counted together.
fn counted(ended: &Ended) -> u64 {
    let of_one = |line: &String| line.split_once(" after ")?.1.split_once(' ')?.0.parse::<u64>().ok();
    said(ended).iter().filter_map(of_one).sum()
}

async fn it_serves_and_says_at_its_end_what_it_has_kept(language: Language) {
    let Some(component) = languages::example(language).await else { return };
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, language, component, |plugin| plugin)).await;
    let client = gateway.client();
    for number in 1..=3 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.header("x-visit")), (200, &*number.to_string()), "{}", gateway.log().text());
        assert_eq!(answer.json()["headers"]["x-visits-by"], language.of("visits"), "on the way in");
    }
    let ended = gateway.stop().await;
    let said = said(&ended);
    assert!(said[0].starts_with("stopped (terminate) after 3 responses; "), "{said:#?}");
    assert_eq!(said[1..], ["status 200: 3"]);
    assert_eq!((ended.report().outcomes("p"), ended.code), (vec!["completed"], Some(0)));
}

async fn no_response_is_uncounted_when_instances_come_and_go(language: Language) {
    let Some(component) = languages::example(language).await else { return };
    let origin = Origin::start().await;
    // Two hooks for each response.
    let recycled = |plugin: PluginTable| plugin.set("instances = 2").set("recycle = { calls = 10 }");
    let gateway = TestGateway::start(&config(&origin, language, component, recycled)).await;
    let client = gateway.client();
    for _ in 0..60 {
        assert_eq!(client.get("/").await.status, 200, "{}", gateway.log().text());
    }
    let ended = gateway.stop().await;
    assert!(said(&ended).iter().any(|line| line.starts_with("stopped (recycle)")), "{:#?}", said(&ended));
    assert_eq!(counted(&ended), 60, "{:#?}", said(&ended));
}

async fn a_new_version_takes_over_under_load_with_all_its_instances(language: Language) {
    let Some(component) = languages::example(language).await else { return };
    let origin = Origin::start().await;
    let many = |plugin: PluginTable| plugin.set("instances = 6");
    let old = config(&origin, language, component, many);
    let gateway = TestGateway::start(&old).await;
    let client = gateway.client();
    let done = AtomicBool::new(false);
    let reloading = async {
        // The same component under another limit is another version.
        gateway.rewrite_text(&old.text().replace("shutdown = '5s'", "shutdown = '6s'"));
        let answer = gateway.order("/v1/reload?wait=true").await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), gateway.log().text());
        done.store(true, Ordering::Relaxed);
    };
    let asking = async {
        let mut answered = 0;
        while !done.load(Ordering::Relaxed) {
            assert_eq!(client.get("/").await.status, 200, "{}", gateway.log().text());
            answered += 1;
        }
        answered
    };
    let ((), answered) = tokio::join!(reloading, asking);
    let ended = gateway.stop().await;
    let said = said(&ended);
    assert_eq!(counted(&ended), answered, "{said:#?}");
    for reason in ["reload", "terminate"] {
        let stopped = said.iter().filter(|line| line.starts_with(&format!("stopped ({reason})")));
        assert_eq!(stopped.count(), 6, "{said:#?}");
    }
}

async fn it_watches_its_deadline(language: Language) {
    let Some(component) = languages::example(language).await else { return };
    // Time stands still, and there are four milliseconds left for a line that takes five.
    let setup = Setup::new(component).pace(0).limits(|limits| {
        *limits = Limits { shutdown: Duration::from_millis(4), ..languages::limits(language) };
    });
    // The harness has an executor of its own.
    let stopped = tokio::task::spawn_blocking(move || {
        let mut plugin = setup.load().expect("loads");
        let answer = plugin.send(Request::get("/"));
        assert!(answer.failures.is_empty(), "{answer:?}");
        plugin.stop(Duration::from_secs(1))
    });
    let stop = stopped.await.expect("it is stopped");
    let [record] = &*stop.instances else { panic!("{stop:?}") };
    assert_eq!(record.outcome, StopOutcome::Failed, "{record:?}");
    assert!(record.error.as_ref().is_some_and(|error| error.contains("not written")), "{record:?}");
}

async fn a_config_that_it_does_not_take_is_refused_in_its_own_words(language: Language) {
    let Some(component) = languages::example(language).await else { return };
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().expect("a folder"));
    let odd = |plugin: PluginTable| plugin.config("colour = 'red'");
    let file = config(&origin, language, component, odd).written(folder.path());
    let checked = tidegate(&["check", "--config", &file.to_string_lossy()]).await;
    let words = match language {
        Language::JavaScript => "unknown key `colour`",
        Language::Python => "there is one key, `header`, the name of a field: colour",
        Language::C => "visits-c takes no config",
    };
    assert_eq!(checked.code, Some(2), "{}", checked.stderr);
    assert!(checked.stderr.contains(words), "{}", checked.stderr);
}

async fn what_it_raises_is_in_the_log_and_not_in_the_answer(language: Language) {
    let Some(component) = languages::hostile(language).await else { return };
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, language, component, |plugin| plugin)).await;
    let client = gateway.client();
    let raised = format!("raised in {}", language.name());
    let error = format!("an error of {}", language.name());
    // The bindings for JavaScript do not let an exception out with its text: the guest makes it an error.
    let uncaught = if language == Language::JavaScript { "error" } else { "trap" };
    for (how, outcome, text) in [("raise", uncaught, raised), ("error", "error", error)] {
        let answer = client.send(get("/", &[("x-misbehave", how)])).await;
        assert_eq!(answer.status, 503);
        assert!(!answer.text().contains(&text), "{}", answer.text());
        let is_told = |line: &Value| line["cause"].as_str().is_some_and(|cause| cause.contains(&text));
        let lines = || gateway.log().with(&[("message", "plugin failed"), ("outcome", outcome)]);
        gateway.until("it is logged with its text", async || lines().iter().any(is_told)).await;
        assert_eq!(client.get("/").await.status, 200, "{}", gateway.log().text());
    }
}

async fn an_endless_loop_is_stopped_and_the_next_request_is_served(language: Language) {
    let Some(component) = languages::hostile(language).await else { return };
    let origin = Origin::start().await;
    let short = |plugin: PluginTable| plugin.limit("cpu = '2s'");
    let gateway = TestGateway::start(&config(&origin, language, component, short)).await;
    let client = gateway.client();
    // The first call of an engine is its slowest.
    assert_eq!(client.get("/").await.status, 200, "{}", gateway.log().text());
    assert_eq!(client.send(get("/", &[("x-misbehave", "spin")])).await.status, 503);
    assert_eq!(gateway.calls("p", "on-request", "cpu").await, 1.0, "{}", gateway.log().text());
    assert_eq!(client.get("/").await.status, 200, "{}", gateway.log().text());
}

async fn an_endless_shutdown_is_stopped_at_its_deadline(language: Language) {
    let Some(component) = languages::hostile(language).await else { return };
    let origin = Origin::start().await;
    let short = |plugin: PluginTable| plugin.set("instances = 2").limit("shutdown = '300ms'");
    let gateway = TestGateway::start(&config(&origin, language, component, short)).await;
    assert_eq!(gateway.get("/").await.status, 200);
    let ended = gateway.stop().await;
    assert_eq!((ended.report().outcomes("p"), ended.code), (vec!["overran", "overran"], Some(11)));
    for entry in ended.report().plugin("p") {
        let [took, budget] = ["took_ms", "budget_ms"].map(|key| entry[key].as_u64());
        assert!(took >= budget && budget == Some(300), "{entry:#}");
    }
}

async fn it_has_no_more_memory_than_its_limit(language: Language) {
    let Some(component) = languages::hostile(language).await else { return };
    let origin = Origin::start().await;
    // StarlingMonkey throws an exception that can be caught, so the instance lives on, full as it is; `recycle` ends it.
    let outcome = if language == Language::JavaScript { "error" } else { "memory" };
    let recycled = |plugin: PluginTable| plugin.set("recycle = { memory = '24MiB' }");
    let gateway = TestGateway::start(&config(&origin, language, component, recycled)).await;
    let client = gateway.client();
    assert_eq!(client.send(get("/", &[("x-misbehave", "allocate")])).await.status, 503);
    assert_eq!(gateway.calls("p", "on-request", outcome).await, 1.0, "{}", gateway.log().text());
    assert_eq!(client.get("/").await.status, 200, "{}", gateway.log().text());
}

async fn inspect_names_its_language_and_its_hooks(language: Language) {
    let Some(component) = languages::example(language).await else { return };
    let inspection = plugins::runtime(1).inspect(&components::read(&component)).expect("a plugin");
    let first = inspection.toolchain.first().map_or("", String::as_str);
    let expected = match language {
        Language::JavaScript => "JavaScript",
        Language::Python => "Python 3.",
        Language::C => "C99",
    };
    assert!(first.starts_with(expected), "{:?}", inspection.toolchain);
    let hooks: Vec<Hook> = inspection.hooks.iter().collect();
    assert_eq!(hooks, [Hook::Configure, Hook::OnRequest, Hook::OnResponse, Hook::Shutdown]);
    let barred: Vec<&Import> = inspection.imports.iter().filter(|import| import.needs != Needs::Nothing).collect();
    assert!(barred.is_empty(), "it needs no grant: {barred:#?}");
}
