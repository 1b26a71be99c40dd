//! Which seeds the campaigns run: a few in every test run, as many as wished by `ROCKPOOL_SEEDS=FROM..TO`.

/// Runs `test` for each seed; a failure names its seed.
#[allow(clippy::disallowed_methods)] // A setting of the test run, not of the machine.
pub(crate) fn for_each_seed(name: &str, short: std::ops::Range<u64>, test: impl Fn(u64)) {
    let asked = std::env::var("ROCKPOOL_SEEDS").ok().map(|text| {
        let (from, to) = text.split_once("..").expect("ROCKPOOL_SEEDS=FROM..TO");
        from.parse().expect("a number")..to.parse().expect("a number")
    });
    let many = asked.is_some();
    for seed in asked.unwrap_or(short) {
        if many && seed.is_multiple_of(100) {
            eprintln!("seed {seed}");
        }
        let told = Told(name, seed);
        test(seed);
        std::mem::forget(told);
    }
}

/// Says how to run a seed again when its test panics.
struct Told<'a>(&'a str, u64);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let Told(name, seed) = self;
        eprintln!("seed {seed} fails: ROCKPOOL_SEEDS={seed}..{} cargo test -p rockpool-peer-core {name}", *seed + 1);
    }
}
