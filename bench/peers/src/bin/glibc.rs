//! The measurements with the system's allocator.

fn main() -> std::process::ExitCode {
    peers::run("glibc's malloc")
}
