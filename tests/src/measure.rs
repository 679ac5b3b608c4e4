//! What benchmarks and campaigns share: arguments, numbers, tables, and the machine they come from.

pub mod arguments;
pub mod machine;
pub mod series;
pub mod table;
