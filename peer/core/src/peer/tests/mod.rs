//! Peers in a world of their own: talking, catching up, crashing, transferring.

mod campaign;
mod hostile;
mod talking;
mod transferring;
mod world;
