//! Writes the gRPC code of the server and of the example from their `.proto` files. Run it after changing that, and commit what it
//! writes.
//!
//! `cargo run -p bowline-grpc-codegen`; its test fails when what is committed is not what it would write.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use prost::Message as _;

/// The stems of the `.proto` files: what the server answers, and what it asks.
const API: &str = "api";
const PROXY: &str = "proxy";

/// The stem of the example's.
const PRICES: &str = "prices";

fn main() {
    match generate(&server().join("src/grpc/pb")).and_then(|()| generate_example(&example())) {
        Ok(()) => println!("written; `cargo fmt` leaves generated files alone"),
        Err(error) => {
            eprintln!("error: {error}");
            process::exit(1);
        }
    }
}

/// The directory of the server's crate.
fn server() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/bowline-server")
}

/// The directory of the example that speaks gRPC.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/price_feed")
}

/// Writes both sides of the example's service into `directory`.
fn generate_example(directory: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile([format!("{PRICES}.proto")], [&example()])?;
    let made = env::temp_dir().join(format!("bowline-grpc-example-{}", process::id()));
    fs::create_dir_all(&made)?;
    tonic_prost_build::configure().build_transport(false).out_dir(&made).compile_fds(descriptors)?;
    fs::copy(made.join(format!("{PRICES}.rs")), directory.join("pb.rs"))?;
    fs::remove_dir_all(&made)?;
    Ok(())
}

/// Writes code, and the descriptors that clients ask the server for, into `directory`.
fn generate(directory: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile([format!("{API}.proto")], [&server().join("proto")])?;
    fs::write(directory.join(format!("{API}.bin")), descriptors.encode_to_vec())?;
    let made = env::temp_dir().join(format!("bowline-grpc-{}", process::id()));
    fs::create_dir_all(&made)?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(false)
        .build_transport(false)
        .btree_map(".")
        // Decoded by hand, a command at a time: see there.
        .extern_path(".centrifugal.centrifugo.api.BatchRequest", "crate::grpc::batch::BatchRequest")
        .out_dir(&made)
        .compile_fds(descriptors)?;
    // Of calls of our own the messages are all that is generated: how they are sent is the server's business.
    let descriptors = protox::compile([format!("{PROXY}.proto")], [&server().join("proto")])?;
    prost_build::Config::new().btree_map(["."]).out_dir(&made).compile_fds(descriptors)?;
    for stem in [API, PROXY] {
        fs::copy(
            made.join(format!("centrifugal.centrifugo.{stem}.rs")),
            directory.join(format!("{stem}.rs")),
        )?;
    }
    fs::remove_dir_all(&made)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_generate_from_is_right() {
        let streams = protox::compile(["unistream.proto"], [&server().join("proto")]).unwrap();
        assert_eq!(streams.file[0].service[0].method[0].name(), "Consume");
    }

    #[test]
    fn the_committed_code_is_what_the_proto_files_say() {
        let fresh = env::temp_dir().join(format!("bowline-grpc-test-{}", process::id()));
        fs::create_dir_all(&fresh).unwrap();
        generate(&fresh).unwrap();
        for file in ["api.rs", "api.bin", "proxy.rs"] {
            let committed = fs::read(server().join("src/grpc/pb").join(file)).unwrap();
            let made = fs::read(fresh.join(file)).unwrap();
            assert!(made == committed, "{file} is stale: cargo run -p bowline-grpc-codegen");
        }
        generate_example(&fresh).unwrap();
        let committed = fs::read(example().join("pb.rs")).unwrap();
        let made = fs::read(fresh.join("pb.rs")).unwrap();
        assert!(made == committed, "the example's pb.rs is stale: cargo run -p bowline-grpc-codegen");
        fs::remove_dir_all(&fresh).unwrap();
    }
}
