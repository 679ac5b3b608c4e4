//! A load generator and an origin for the benchmarks, light enough to share one core and not be what is measured.
//!
//! They speak as much HTTP/1.1 as the gateway in between needs: keep-alive, no bodies in requests, no pipelining,
//! responses with `content-length`. Run both in one `current_thread` runtime.

mod generator;
mod origin;
mod paced;

pub use generator::{Load, Measured};
pub use origin::Origin;
pub use paced::{Answers, Paced};

/// Where the head of a message ends, blank line included.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}
