//! How fast one core encodes and verifies ranges, beside plain BLAKE3.
//!
//!     cargo run --release -p rockpool-peer-core --example verify_throughput

#![allow(clippy::disallowed_types)] // An example is a program of its own: it may look at the clock.

use std::sync::Arc;
use std::time::Instant;

use rockpool_peer_core::transfer::{BLOCK_GROUPS, BulkFrame, GROUP_BYTES, GroupRange, check_proof, group_count};
use rockpool_peer_core::{OutboardBuilder, ReadPiece, ReadRange, Root, StorePiece, encode_range, verify_piece};

const SIZE: usize = 256 << 20;
const ROUNDS: usize = 5;

fn main() {
    let content: Arc<[u8]> = (0..SIZE).map(|n| ((n * 31) >> 7) as u8).collect();
    measure("blake3, one thread", || _ = std::hint::black_box(blake3::hash(&content)));
    measure("outboard", || drop(std::hint::black_box(outboard(&content))));

    let outboard = outboard(&content);
    let root = outboard.root();
    measure("encode_range (copy, verify, frame)", || {
        blocks().for_each(|range| drop(std::hint::black_box(encode(&content, &outboard, root, range))));
    });
    let received: Vec<_> = blocks().map(|range| (range, encode(&content, &outboard, root, range))).collect();
    measure("decode, check_proof, verify_piece", || {
        for (range, frames) in &received {
            let mut piece = StorePiece { file: 0, range: *range, hashes: Vec::new(), data: Vec::new() };
            for frame in frames {
                match BulkFrame::decode(frame.clone()).expect("our own frame") {
                    BulkFrame::Proof { hashes, .. } => {
                        piece.hashes = check_proof(root, SIZE as u64, *range, &hashes).expect("our own proof");
                    }
                    BulkFrame::Data { data, .. } => piece.data.push(data),
                    other => panic!("not asked for: {other:?}"),
                }
            }
            verify_piece(&piece, SIZE as u64).expect("our own bytes");
        }
    });
}

fn outboard(content: &[u8]) -> rockpool_peer_core::Outboard {
    let mut builder = OutboardBuilder::new();
    content.chunks(1 << 20).for_each(|piece| builder.update(piece));
    builder.finish()
}

fn blocks() -> impl Iterator<Item = GroupRange> {
    let groups = group_count(SIZE as u64);
    (0..groups).step_by(BLOCK_GROUPS as usize).map(|first| GroupRange { first, count: BLOCK_GROUPS as u32 })
}

fn encode(content: &[u8], outboard: &rockpool_peer_core::Outboard, root: Root, range: GroupRange) -> Vec<bytes::Bytes> {
    let piece = ReadPiece { file: 0, range, size_bytes: SIZE as u64, root };
    let read = ReadRange { manifest_root: root, request: 1, pieces: vec![piece] };
    let read_at = |_: u32, offset: u64, buffer: &mut [u8]| {
        let at = usize::try_from(offset).expect("in memory");
        buffer.copy_from_slice(&content[at..at + buffer.len()]);
        Ok(())
    };
    encode_range(&read, |_| Some(outboard), read_at).expect("our own content")
}

fn measure(what: &str, run: impl Fn()) {
    run();
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    let best = best.min().expect("there are rounds").as_secs_f64();
    println!("{what:40} {:6.2} GB/s ({} KiB groups)", SIZE as f64 / best / 1e9, GROUP_BYTES / 1024);
}
