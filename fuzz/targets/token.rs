#![no_main]
#[path = "../../crates/bowline-server/tests/promises/mod.rs"]
#[allow(dead_code, reason = "the promises of the other targets")]
mod promises;

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::token(data));
