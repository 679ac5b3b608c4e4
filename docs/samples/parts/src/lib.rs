//! A plugin made of parts that each see to their own end: a session with a server, and jobs that are put off.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate_sdk::prelude::*;
use tidegate_sdk::{Worker, fetch};

/// What the server wants to be told before we go.
const SERVER: &str = "https://sessions.example.com";

// ANCHOR: session
/// A session that a server keeps for us until we give it back.
struct Session {
    id: Option<String>,
}

impl Session {
    /// One that is given back at the end of the instance.
    fn new(cx: &mut Context) -> Rc<RefCell<Self>> {
        let session = Rc::new(RefCell::new(Self { id: None }));
        let ending = Rc::clone(&session);
        cx.on_shutdown("session", move |deadline| ending.borrow_mut().close(deadline));
        session
    }

    /// The session, begun with the first request that needs it: `configure` is no place to wait for a server.
    fn id(&mut self) -> Result<String> {
        if self.id.is_none() {
            self.id = Some(fetch::Request::post(format!("{SERVER}/begin")).send()?.text());
        }
        Ok(self.id.clone().unwrap_or_default())
    }

    fn close(&mut self, deadline: Deadline) -> Result<()> {
        let Some(id) = self.id.take() else { return Ok(()) };
        // It is a courtesy, and gets a second at most.
        let timeout = deadline.remaining().min(Duration::from_secs(1));
        fetch::Request::delete(format!("{SERVER}/{id}")).timeout(timeout).send()?;
        Ok(())
    }
}
// ANCHOR_END: session

struct Parts {
    session: Rc<RefCell<Session>>,
    jobs: Worker<String>,
    lines: Vec<String>,
}

#[tidegate_sdk::plugin]
impl Plugin for Parts {
    fn configure(cx: &mut Context) -> Result<Self> {
        Ok(Self { session: Session::new(cx), jobs: Worker::new("lines"), lines: Vec::new() })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        request.set_header("x-session", self.session.borrow_mut().id()?)?;
        Ok(())
    }

    // ANCHOR: worker
    fn on_response(&mut self, request: &Request, _response: &mut Response) -> Result<()> {
        // Later, in whichever instance is free; and now, if the plugin is being stopped.
        self.jobs.defer_or_run(request.path(), |path| {
            self.lines.push(path);
            Ok(())
        })
    }

    fn on_deferred(&mut self, payload: Vec<u8>) -> Result<()> {
        self.jobs.run(&payload, |path| {
            self.lines.push(path);
            Ok(())
        })
    }
    // ANCHOR_END: worker

    // ANCHOR: loop
    fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        // The session is closed after this, and wants some of the time.
        let deadline = deadline.earlier_by(deadline.remaining() / 4);
        let mut lines = self.lines.drain(..);
        while let Some(line) = lines.next() {
            if deadline.expired() {
                return Err(format!("{} lines were not written", lines.len() + 1).into());
            }
            log::info!("{line}");
        }
        Ok(())
    }
    // ANCHOR_END: loop
}
