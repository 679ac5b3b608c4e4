//! What surrounds the plugin does what the test says.

use std::time::Duration;

use tidegate_testing::{OutboundError, PublishError, Reply, Request, Response, Setup};
use tidegate_tests::components;

use crate::{numbered, planted};

#[test]
fn the_upstream_and_the_plugin_make_the_answer_together() {
    let setup = Setup::new(components::plugin("stamp"))
        .upstream(|request| Response::new(201).header("x-path", &request.target).body(request.body.clone()));
    let mut plugin = setup.load().expect("it loads");
    let answer = plugin.send(Request::post("/things?all", "a thing").header("x-client", "me"));
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-path"), &*answer.text()),
        (201, Some("/things?all"), "a thing")
    );
    assert_eq!(answer.forwarded_header("x-client"), Some("me"));
    assert!(!answer.is_from_plugin() && answer.failures.is_empty());
}

#[test]
fn an_upstream_takes_virtual_time_or_fails_as_one_does() {
    let answer_of = |reply: Reply| {
        let setup = Setup::new(components::plugin("stamp")).upstream(move |_| reply.clone());
        setup.load().expect("it loads").send(Request::get("/"))
    };
    let late = answer_of(Reply::After(Duration::from_secs(7), Response::new(200)));
    assert_eq!((late.status.as_u16(), late.took.as_secs()), (200, 7));
    assert_eq!(answer_of(Reply::Never).status, 504);
    assert_eq!(answer_of(Reply::Fails(OutboundError::ConnectionRefused)).status, 502);
}

#[test]
fn an_outbox_that_is_full_for_a_while_takes_what_comes_later() {
    let mut plugin = planted("none").load().expect("it loads");
    plugin.fail_publish(0, 1, PublishError::Full);
    let statuses: Vec<u16> = (0..4).map(|number| plugin.send(numbered(number)).status.as_u16()).collect();
    assert_eq!(statuses, [200, 200, 503, 200], "the third fills the batch, which is not taken; the fourth tries again");
    assert_eq!(plugin.events().len(), 4);
    assert_eq!(plugin.events()[3].id, "00000000-0000-7000-8000-000000000004");
}

#[test]
fn what_is_not_granted_is_refused_as_a_gateway_does() {
    let error = Setup::new(components::guest("planted")).load().expect_err("it has no grant");
    assert!(error.to_string().contains("outbox = ["), "{error}");
    let error = Setup::new("no/such.wasm").load().expect_err("there is no file");
    assert!(error.to_string().contains("no/such.wasm"), "{error}");
}

#[test]
fn requests_that_come_at_once_wait_for_the_instance_and_all_have_answers() {
    let mut plugin = planted("none").load().expect("it loads");
    let answers = plugin.send_all((0..30).map(numbered));
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(plugin.events().len(), 30);
}

#[tokio::test]
#[should_panic(expected = "Cannot start a runtime from within a runtime")]
async fn a_test_that_is_a_task_is_told_that_it_has_an_executor_already() {
    drop(planted("none").load());
}

#[tokio::test]
async fn beside_the_tasks_of_a_test_the_harness_works_as_it_does_alone() {
    let answer = tokio::task::spawn_blocking(|| planted("none").load().expect("it loads").send(numbered(1)));
    assert_eq!(answer.await.expect("it is answered").status, 200);
}
