//! Peers in a world of their own: talking, catching up, crashing, transferring.

mod hostile;
mod talking;
mod transferring;
mod world;
