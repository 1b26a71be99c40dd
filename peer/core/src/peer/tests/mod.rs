//! Peers in a world of their own: talking, catching up, crashing, transferring.

mod talking;
mod transferring;
mod world;
