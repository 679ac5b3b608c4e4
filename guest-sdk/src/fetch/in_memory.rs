//! Requests that a test answers.

use std::cell::RefCell;
use std::time::Duration;

use super::url::Url;
use super::{FetchError, Request, Response};

type Answer = Box<dyn FnMut(&Request) -> Result<Response, FetchError>>;

#[derive(Default)]
struct Server {
    answer: Option<Answer>,
    requests: Vec<Request>,
}

thread_local! {
    static SERVER: RefCell<Server> = RefCell::default();
}

/// From here on, this answers the requests of this thread. Without it they are [`FetchError::Denied`].
pub fn answer(answer: impl FnMut(&Request) -> Result<Response, FetchError> + 'static) {
    SERVER.with_borrow_mut(|server| server.answer = Some(Box::new(answer)));
}

/// Every request that was sent on this thread since the last call, oldest first.
#[must_use]
pub fn take() -> Vec<Request> {
    SERVER.with_borrow_mut(|server| std::mem::take(&mut server.requests))
}

pub(super) fn send(request: Request, _: &Url, _: Duration) -> Result<Response, FetchError> {
    let Some(mut answer) = SERVER.with_borrow_mut(|server| {
        server.requests.push(request.clone());
        server.answer.take()
    }) else {
        return Err(FetchError::Denied);
    };
    // Not borrowed meanwhile: what answers may look around.
    let response = answer(&request);
    SERVER.with_borrow_mut(|server| {
        server.answer.get_or_insert(answer);
    });
    let response = response?;
    if response.body.len() > request.max_body { Err(FetchError::BodyTooLarge(request.max_body)) } else { Ok(response) }
}

#[cfg(test)]
mod tests {
    use crate::fetch::{FetchError, Request, Response};
    use crate::testing::fetch::{answer, take};
    use std::time::Duration;

    #[test]
    fn a_test_answers_and_sees_what_was_sent() -> crate::Result<()> {
        let post = || Request::post("https://a.example/x").header("X-Key", "k").body("hello");
        assert_eq!(post().send().err(), Some(FetchError::Denied));
        let mut status = 200;
        answer(move |request| {
            status += 1;
            Ok(Response::new(status).header("x-length", request.body_bytes().len().to_string()))
        });
        assert_eq!(post().send()?.status(), 201);
        let second = post().send()?;
        assert_eq!((second.status(), second.header_value("X-Length")), (202, Some(&b"5"[..])));
        let sent = take();
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|it| it.method() == "POST" && it.header_value("x-key") == Some(b"k")));
        Ok(())
    }

    #[test]
    fn the_cap_on_the_body_and_the_timeout_hold_in_tests_as_well() {
        answer(|_| Ok(Response::new(200).body("12345")));
        let get = || Request::get("http://a.example");
        assert!(get().max_body(5).send().is_ok());
        assert_eq!(get().max_body(4).send().err(), Some(FetchError::BodyTooLarge(4)));
        assert_eq!(get().timeout(Duration::ZERO).send().err(), Some(FetchError::Timeout));
        assert!(matches!(Request::get("a.example").send(), Err(FetchError::InvalidUrl(_))));
    }
}
