//! What the benchmarks measure: the smallest honest header plugin, a hook that does nothing, and the longest steps
//! that nothing can interrupt. It has no `configure`, so that a fresh instance costs just itself and the call.

use std::hint::black_box;
use std::time::{Duration, Instant};
use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Probe;

#[tidegate_sdk::plugin]
impl Plugin for Probe {
    /// Reads one header and sets one.
    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        let given = request.header("x-probe-in").unwrap_or_default();
        request.set_header("x-probe-out", given)?;
        Ok(())
    }

    /// Does nothing: what is left is the price of a call.
    fn on_response(&mut self, _request: &Request, _response: &mut Response) -> Result<()> {
        Ok(())
    }

    /// Replaces the body by the time of single bulk memory operations, each as large as the memory allows:
    /// a line of name, bytes and nanoseconds for each.
    fn on_request_body(&mut self, _request: &mut Request, _body: Vec<u8>) -> Result<BodyVerdict> {
        let mut memory = Vec::new();
        let mut size = 64 << 20;
        while memory.try_reserve_exact(size).is_err() {
            size -= 64 << 10;
        }
        // The pages are the kernel's to give at the first touch.
        let fresh_fill = timed(|| memory.resize(size, 1_u8));
        let fill = timed(|| black_box(&mut memory).fill(2));
        // Overlapping by all but one byte: the largest copy there can be.
        let copy = timed(|| black_box(&mut memory).copy_within(1.., 0));
        let line = |name: &str, bytes: usize, took: Duration| format!("{name} {bytes} {}\n", took.as_nanos());
        let text = line("fill-untouched", size, fresh_fill) + &line("fill", size, fill) + &line("copy", size - 1, copy);
        // The reply needs memory of its own.
        drop(memory);
        Ok(BodyVerdict::Replace(text.into_bytes()))
    }
}

fn timed(deed: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    deed();
    begun.elapsed()
}
