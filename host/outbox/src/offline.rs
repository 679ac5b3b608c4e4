//! Looking at a file and mending it from outside, without a gateway.
