//! The first inputs of every target, taken from recorded traffic (`src/wire/testdata`) and written before the fuzzer
//! reads its corpus. Targets call it when they start; it changes nothing but `fuzz/corpus`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::path::Path;

/// Every message between a genuine edgecore and a genuine cloudcore.
pub const HUB: &str = include_str!("../src/wire/testdata/kubeedge-1.23.1-hub.jsonl");
/// Every frame of a genuine stream tunnel.
pub const TUNNEL: &str = include_str!("../src/wire/testdata/kubeedge-1.23.1-tunnel.jsonl");

/// Writes the inputs of a target.
pub fn plant(target: &str, seeds: impl IntoIterator<Item = Vec<u8>>) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&corpus).expect("the corpus can be made");
    for (number, seed) in seeds.into_iter().enumerate() {
        std::fs::write(corpus.join(format!("recorded-{number}")), seed).expect("a seed can be written");
    }
}

/// The lines of a recording, read.
pub fn lines(recording: &str) -> impl Iterator<Item = Value> {
    recording.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// The recorded envelopes.
pub fn envelopes() -> impl Iterator<Item = Value> {
    lines(HUB).filter_map(|mut line| line.get_mut("msg").map(Value::take))
}

/// The recorded frames.
pub fn frames() -> impl Iterator<Item = Vec<u8>> {
    let payload = |line: Value| STANDARD.decode(line.get("payload")?.as_str()?).ok();
    lines(TUNNEL).filter_map(payload)
}
