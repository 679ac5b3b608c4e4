//! HTTP requests of plugins: to where they may go, and how much of an answer is read.
