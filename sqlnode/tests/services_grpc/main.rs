//! The metadata services and the rooms over real gRPC on loopback, with the memory backend under them.
//!
//! Each node runs in a runtime of its own, so that killing one kills everything that it was doing, and all nodes of a test
//! share one backend. Nothing here waits for a fixed time: tests wait for what should happen, with a deadline.

mod auth;
mod devices;
mod lines;
mod plans;
mod pools;
mod rooms;
mod support;
mod takeover;
mod wire;
