//! The measurements with mimalloc, which is by far the quietest.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    peers::run("mimalloc")
}
