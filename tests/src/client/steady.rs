//! A crowd that never stops asking, for seeing whether a gateway that is told to stop loses any of its requests.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::raw::RawClient;

/// For how long a gateway that drains keeps an idle connection, and accepts new ones.
pub const LINGER: Duration = Duration::from_millis(100);

/// How long a client waits to be accepted. While a gateway closes its listener, the kernel neither accepts nor refuses.
const CONNECTING: Duration = Duration::from_millis(300);

/// Requests that a client of HTTP/2 has under way at a time.
const STREAMS: u64 = 3;

/// The moment of the signal, once it has come.
#[derive(Clone, Debug, Default)]
pub struct Moment(Arc<OnceLock<Instant>>);

impl Moment {
    /// It comes now.
    pub fn now(&self) {
        let _ = self.0.set(Instant::now());
    }

    /// Whether it has come.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.get().is_some()
    }

    /// Until when a gateway owes an answer to what is sent on a connection that has been idle since this moment.
    /// `None` is for ever: there was no signal.
    fn bound(&self, idle_since: Instant) -> Option<Instant> {
        self.0.get().map(|signal| (*signal).max(idle_since) + LINGER)
    }
}

/// What became of the crowd's requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answered with 200, whole.
    pub answered: usize,
    /// Not answered and not owed an answer: the client has to ask somewhere else, as HTTP lets it.
    pub elsewhere: usize,
    /// Owed an answer and not answered.
    pub lost: Vec<String>,
}

impl Tally {
    /// Those of another crowd, too.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.elsewhere += other.elsewhere;
        self.lost.extend(other.lost);
    }
}

/// Clients that ask without a pause: four of HTTP/1.1 that keep their connections, four that make a new one for each
/// request, and two of HTTP/2 with several streams at a time. They go on until the gateway accepts no more connections
/// after the signal, or until it is over.
///
/// **A request is lost** if it was owed an answer and got none, or not the whole of one, or one that is not 200.
///
/// **It is owed an answer** if it was sent on a connection that was accepted (connecting had succeeded) and that the
/// gateway had not said it would close (`connection: close`, GOAWAY), and if it was written no later than [`LINGER`] after
/// the last of these moments: the signal; the beginning of the request before it on that connection; for the first
/// request of a connection, the beginning of connecting. A draining gateway takes no connection for idle before
/// that, so such a request cannot have met the close on its way. Who writes later may meet it, and has to be ready for
/// that at any time (RFC 9112, section 9.5).
///
/// On HTTP/2 the last part does not apply: GOAWAY says which streams are served, and what is above its mark, or reset
/// with REFUSED_STREAM, has not been processed (RFC 9113, sections 6.8 and 8.7). Only the first streams of a
/// connection have the same bound as above, since GOAWAY cannot come before the client's preface.
///
/// Being refused, or not accepted, is no loss once the signal has come.
#[derive(Clone, Debug)]
pub struct Crowd {
    address: SocketAddr,
    paths: Arc<[String]>,
    pause: Duration,
    /// When the gateway is told to stop.
    pub signal: Moment,
    /// When the crowd asks nothing more, and goes.
    pub over: Moment,
}

impl Crowd {
    /// Ask this gateway, for whatever.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        let (signal, over) = (Moment::default(), Moment::default());
        Self { address, paths: ["/".to_owned()].into(), pause: Duration::from_millis(4), signal, over }
    }

    /// What each request asks for: something below one of these paths, which end with a slash.
    #[must_use]
    pub fn below(mut self, paths: impl IntoIterator<Item = String>) -> Self {
        self.paths = paths.into_iter().collect();
        self
    }

    /// The longest pause that a client makes before a request; half of the requests come without one.
    #[must_use]
    pub fn pause(mut self, longest: Duration) -> Self {
        self.pause = longest;
        self
    }

    /// With this moment for the signal.
    #[must_use]
    pub fn until(mut self, signal: &Moment) -> Self {
        self.signal = signal.clone();
        self
    }

    /// Ask. The seed decides who asks for what, and when.
    pub async fn ask(&self, seed: u64) -> Tally {
        let mut crowd = JoinSet::new();
        for number in 0..10 {
            let client = Asking { crowd: self.clone(), random: StdRng::seed_from_u64(seed ^ number << 32) };
            match number {
                0..4 => crowd.spawn(client.http1(Keep::Yes)),
                4..8 => crowd.spawn(client.http1(Keep::No)),
                _ => crowd.spawn(client.http2()),
            };
        }
        let mut tally = Tally::default();
        while let Some(joined) = crowd.join_next().await {
            tally.add(joined.unwrap_or_else(|error| panic!("{error}")));
        }
        tally
    }
}

/// A [`Crowd`] that asks for whatever until the gateway is gone.
pub async fn steady_load(address: SocketAddr, signal: &Moment, seed: u64) -> Tally {
    Crowd::of(address).until(signal).ask(seed).await
}

/// Whether a client asks again on the same connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

struct Asking {
    crowd: Crowd,
    random: StdRng,
}

impl Asking {
    /// How long the origin takes, for some requests a little.
    fn slow(&mut self) -> u64 {
        if self.random.random_bool(0.5) { 0 } else { self.random.random_range(0..20) }
    }

    /// Something below one of the paths.
    fn path(&mut self, nth: u64) -> String {
        let paths = &self.crowd.paths;
        let path = paths.get(self.random.random_range(0..paths.len().max(1))).map_or("/", String::as_str);
        format!("{path}{nth}")
    }

    /// Nobody asks at full speed for ever.
    async fn think(&mut self) {
        if self.random.random_bool(0.5) {
            let longest = u64::try_from(self.crowd.pause.as_micros()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_micros(self.random.random_range(0..longest.max(1)))).await;
        }
    }

    /// A connection, or nothing if the gateway accepts no more.
    async fn connect<C>(
        &self,
        tally: &mut Tally,
        connecting: impl Future<Output = Result<C, impl std::fmt::Display>>,
    ) -> Option<C> {
        let refused = match tokio::time::timeout(CONNECTING, connecting).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => error.to_string(),
            // On a busy machine it may also be our own fault, so that this alone says nothing.
            Err(_) => return None,
        };
        if self.crowd.signal.bound(Instant::now()).is_none() {
            tally.lost.push(format!("not accepted before the signal: {refused}"));
        }
        None
    }

    /// Whether a request that was written then, on a connection that was idle before, is owed an answer.
    fn owed(&self, written: Instant, idle_since: Instant) -> bool {
        self.crowd.signal.bound(idle_since).is_none_or(|bound| written <= bound)
    }

    async fn http1(mut self, keep: Keep) -> Tally {
        let mut tally = Tally::default();
        while !self.crowd.over.has_come() {
            let mut idle_since = Instant::now();
            let Some(mut client) = self.connect(&mut tally, RawClient::connect(self.crowd.address)).await else {
                if self.crowd.signal.has_come() {
                    return tally;
                }
                continue;
            };
            for nth in 0.. {
                self.think().await;
                if self.crowd.over.has_come() {
                    break;
                }
                // The last look before the request is written. Without it, a client that the machine has let wait would
                // write to a connection that it could know to be closed.
                let looked = Instant::now();
                let closed = client.is_closed();
                let close = if keep == Keep::No { "connection: close\r\n" } else { "" };
                let (slow, path) = (self.slow(), self.path(nth));
                let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nx-origin: slow={slow}\r\n{close}\r\n");
                let sent =
                    if closed { Err(std::io::ErrorKind::NotConnected.into()) } else { client.send(request).await };
                let written = Instant::now();
                let reply = match sent {
                    Ok(()) => client.reply().await,
                    Err(error) => Err(error),
                };
                match reply {
                    Ok(reply) if reply.status == StatusCode::OK => {
                        tally.answered += 1;
                        idle_since = looked;
                        if keep == Keep::No || reply.closes() {
                            break;
                        }
                    }
                    Ok(reply) => {
                        tally.lost.push(format!("HTTP/1.1, {path}: answered {}", reply.status));
                        break;
                    }
                    Err(error) => {
                        let what = format!("HTTP/1.1, {path}, request {nth} of a connection: {error}");
                        self.failed(&mut tally, what, written, idle_since);
                        break;
                    }
                }
            }
        }
        tally
    }

    fn failed(&self, tally: &mut Tally, what: String, written: Instant, idle_since: Instant) {
        if self.owed(written, idle_since) {
            let since =
                |moment: Instant| self.crowd.signal.0.get().map(|signal| moment.saturating_duration_since(*signal));
            let (written, idle) = (since(written), since(idle_since));
            tally.lost.push(format!("{what} (written {written:?} after the signal, idle since {idle:?} after it)"));
        } else {
            tally.elsewhere += 1;
        }
    }

    async fn http2(mut self) -> Tally {
        let mut tally = Tally::default();
        let mut connections = JoinSet::new();
        while !self.crowd.over.has_come() {
            let began = Instant::now();
            let connecting = async {
                let stream = TcpStream::connect(self.crowd.address).await?;
                let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                shaken.map_err(Box::<dyn Error + Send + Sync>::from)
            };
            let Some((mut sender, connection)) = self.connect(&mut tally, connecting).await else {
                if self.crowd.signal.has_come() {
                    return tally;
                }
                continue;
            };
            // How it ends is seen by its requests.
            connections.spawn(async move { drop(connection.await) });
            let mut first = true;
            while sender.ready().await.is_ok() && !self.crowd.over.has_come() {
                let streams: Vec<_> = (0..STREAMS).map(|nth| (self.path(nth), self.slow())).collect();
                let all = join_all(streams.into_iter().map(|(path, slow)| ask(sender.clone(), path, slow))).await;
                let mut gone = false;
                for end in all {
                    match end {
                        Stream::Answered => tally.answered += 1,
                        Stream::Unprocessed => {
                            tally.elsewhere += 1;
                            gone = true;
                        }
                        Stream::Failed(what) if first => {
                            self.failed(&mut tally, what, Instant::now(), began);
                            gone = true;
                        }
                        Stream::Failed(what) => {
                            tally.lost.push(what);
                            gone = true;
                        }
                    }
                }
                if gone {
                    break;
                }
                first = false;
                self.think().await;
            }
        }
        tally
    }
}

/// What became of a stream.
enum Stream {
    Answered,
    Unprocessed,
    Failed(String),
}

async fn ask(mut sender: SendRequest<Empty<Bytes>>, path: String, slow: u64) -> Stream {
    let request = Request::get(format!("http://test{path}")).version(Version::HTTP_2);
    let request = request.header("x-origin", format!("slow={slow}"));
    let request = request.body(Empty::new()).unwrap_or_else(|error| panic!("{error}"));
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut failed) => {
            let unsent = failed.take_message().is_some();
            let error = failed.into_error();
            return if unsent || is_unprocessed(&error) { Stream::Unprocessed } else { Stream::Failed(told(&error)) };
        }
    };
    let status = response.status();
    match response.into_body().collect().await {
        Ok(_) if status == StatusCode::OK => Stream::Answered,
        Ok(_) => Stream::Failed(format!("HTTP/2: answered {status}")),
        Err(error) => Stream::Failed(told(&error)),
    }
}

fn told(error: &hyper::Error) -> String {
    format!("HTTP/2: {}", super::causes(error))
}

/// Whether the gateway has said that it did nothing with the stream.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_remote()
                && (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
                    || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        }
        cause = error.source();
    }
    false
}
