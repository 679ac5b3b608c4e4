//! The book in `docs/`: its pages hang together, what it shows is what is compiled, and what it says of its samples is so.
#![expect(clippy::indexing_slicing, reason = "a missing element fails the test")]

mod imports;
mod kits;
mod markdown;
mod pages;
mod samples;
mod stopping;
