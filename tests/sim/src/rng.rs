//! Chance, in labelled streams: one more draw here changes nothing there.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of chance.
#[derive(Clone, Debug)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream called `label` of a seed.
    pub(crate) fn new(seed: u64, label: &str) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key("rockpool 2026 simulator stream v1");
        hasher.update(&seed.to_le_bytes()).update(label.as_bytes());
        Stream(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// A number in `0..bound`; zero for a bound of zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.next_u64() % bound }
    }

    /// A number in `from..=to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// True `parts` times in a thousand.
    pub(crate) fn permille(&mut self, parts: u64) -> bool {
        self.below(1000) < parts
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len() as u64) as usize;
        from.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_are_independent() {
        let draw = |label: &str| (0..8).map(|_| Stream::new(7, label).below(1000)).collect::<Vec<_>>();
        assert_eq!(draw("network"), draw("network"));
        let mut one = Stream::new(7, "network");
        let mut other = Stream::new(7, "disk");
        assert_ne!(
            (0..8).map(|_| one.below(1 << 40)).collect::<Vec<_>>(),
            (0..8).map(|_| other.below(1 << 40)).collect::<Vec<_>>()
        );
        assert_eq!(one.between(5, 5), 5);
    }
}
