//! The PostgreSQL listener on the memory backend, judged by drivers that nobody here wrote, and by raw bytes.

mod bytes;
mod copy;
mod extended;
mod limits;
mod login;
mod support;
mod transactions;
