//! Key-value buckets: in memory, in a file, or shared by replicas.
