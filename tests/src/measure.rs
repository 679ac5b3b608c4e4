//! What benchmarks and campaigns share: numbers, tables, and the machine they come from.

pub mod machine;
pub mod series;
pub mod table;
