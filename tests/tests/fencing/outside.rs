//! What a late guest asks the world for: nothing of it leaves the gateway.

use std::time::Duration;

use tidegate_testing::{Fault, Hook, Plugin, Request, Response, Setup};
use tidegate_tests::setups::guest;

use crate::{WALL, late, overran};

const ORIGIN: &str = "http://a.test";

/// A plugin that makes requests.
fn caller() -> Plugin {
    let setup: Setup = guest("caller").http([ORIGIN], |_| Response::new(200));
    setup.limits(|limits| limits.wall = WALL).load().expect("loads")
}

fn deed(deed: &str) -> Request {
    Request::get("/").header("x-call", deed)
}

#[test]
fn no_request_is_made_after_the_deadline() {
    let mut late_from_the_start = caller();
    late_from_the_start.plan(Hook::OnRequest, Fault::LateAt(1));
    let answer = late_from_the_start.send(deed(r#"{"make": {"url": "http://a.test/"}}"#));
    assert!(overran(&answer), "{answer:?}");
    assert_eq!((late(&late_from_the_start), late_from_the_start.asked().len()), ([0, 1], 0));

    let mut never_done = caller();
    never_done.plan(Hook::OnRequest, Fault::LateAt(41));
    let answer = never_done.send(deed(r#"{"forever": {"url": "http://a.test/"}}"#));
    assert!(overran(&answer), "{answer:?}");
    assert_eq!((late(&never_done), never_done.asked().len()), ([0, 1], 40));
}

#[test]
fn no_piece_of_a_body_is_sent_after_the_deadline() {
    // A guest that has so many nanoseconds cannot have filled more bytes than that.
    let wall = 500_000;
    let setup = guest("caller").http([ORIGIN], |_| Response::new(200));
    let setup = setup.limits(|limits| limits.wall = Duration::from_nanos(wall));
    let mut plugin = setup.load().expect("loads");
    let answer = plugin.send(deed(r#"{"make": {"url": "http://a.test/", "method": "POST", "body": 1000000}}"#));
    assert!(overran(&answer), "{answer:?}");
    assert_eq!(plugin.asked().len(), 0);
    let broken_off = plugin.broken_off();
    let [request] = &*broken_off else { panic!("{broken_off:?}") };
    let sent = request.request.body.len() as u64;
    assert!(sent > 0 && sent < wall && sent.is_multiple_of(4_096), "{sent} bytes");
}

#[test]
fn keys_are_stored_up_to_the_deadline_and_none_after_it() {
    let setup = guest("keeper").kv("b").values().limits(|limits| limits.wall = WALL);
    let mut plugin = setup.load().expect("loads");
    plugin.plan(Hook::OnRequest, Fault::LateAt(21));
    let fields = [("x-op", "flood"), ("x-bucket", "b"), ("x-key", "k"), ("x-value", "v"), ("x-count", "1000")];
    let request = fields.into_iter().fold(Request::get("/"), |request, (name, value)| request.header(name, value));
    assert!(overran(&plugin.send(request)));
    let stored = (0..1_000).filter(|number| plugin.bucket("b").value(&format!("k{number}")).is_some()).count();
    assert_eq!((stored, late(&plugin)), (20, [0, 1]), "the one after them was refused");
}
