//! Thumbnails of all pictures of a folder: read, shrunk on all cores, written.
//!
//! Shown: each stage has a parallelism of its own, and a bounded buffer before it, here also in bytes: memory does not grow with
//! the pictures, and a large one does not come beside many others. Computing is off the async threads. A file that is no picture
//! is reported with its name, and the others go on. Ctrl-C: no picture is begun any more, and what was begun is written.
//!
//! Pictures are binary PPM files with eight bits per colour: enough to keep every core busy, without a library for formats.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bowline::{Bound, Parallel, Pipeline, PipelineReport};
use bowline_examples::demo_wanted;

mod demo;

/// Pictures between two stages.
const BUFFERED: usize = 16;
/// Bytes of pictures that wait to be shrunk: with this many, reading waits.
const BUFFERED_BYTES: usize = 256 << 20;
/// Files that are read, and written, at once: disks like some, not hundreds.
const FILES_AT_ONCE: usize = 4;
/// The longer side of a thumbnail.
const LONGEST_SIDE: usize = 128;

#[bowline::main(name = "thumbnails", shutdown_within = "10s")]
async fn main() -> Result<()> {
    if demo_wanted() {
        return demo::run().await;
    }
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, to] = &folders[..] else {
        bail!("usage: thumbnails FROM TO    (folders; FROM has .ppm files)");
    };
    let report = thumbnails(from, to).await?;
    for failed in &report.errors {
        eprintln!("{failed}");
    }
    println!("{} thumbnails, {} files were none", report.stats.done, report.stats.failed);
    Ok(())
}

/// A picture as it lies in its file.
struct Picture {
    name: String,
    bytes: Vec<u8>,
}

impl Picture {
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Shrinks every `.ppm` file of `from` into `to`.
async fn thumbnails(from: &Path, to: &Path) -> Result<PipelineReport> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut entries = tokio::fs::read_dir(from).await.with_context(|| from.display().to_string())?;
    while let Some(entry) = entries.next_entry().await? {
        files.extend(Some(entry.path()).filter(|path| path.extension().is_some_and(|found| found == "ppm")));
    }
    files.sort();
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let to: Arc<Path> = to.into();
    let write =
        async move |thumbnail: &Picture| tokio::fs::write(to.join(&thumbnail.name), &thumbnail.bytes).await;
    let waiting = Bound::items(BUFFERED).and_bytes(BUFFERED_BYTES, Picture::size);
    // At a shutdown it takes no more, and finishes what it has.
    let report = Pipeline::new("thumbnails", files)
        .stage("read", Parallel::unordered(FILES_AT_ONCE), Bound::items(BUFFERED), read)
        .cpu_stage("shrink", Parallel::unordered(cores), waiting, shrink)
        .sink("write", Parallel::unordered(FILES_AT_ONCE), Bound::items(BUFFERED), write)
        .run()
        .await?;
    Ok(report)
}

async fn read(file: &PathBuf) -> std::io::Result<Picture> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Picture { name, bytes: tokio::fs::read(file).await? })
}

/// Averages squares of pixels, so that the longer side is at most [`LONGEST_SIDE`].
fn shrink(picture: &Picture) -> Result<Picture> {
    let parsed = parse(&picture.bytes).map_err(|why| anyhow!("{}: {why:#}", picture.name));
    let (width, height, pixels) = parsed?;
    let by = width.max(height).div_ceil(LONGEST_SIDE).max(1);
    let (columns, rows) = (width.div_ceil(by), height.div_ceil(by));
    let mut bytes = format!("P6\n{columns} {rows}\n255\n").into_bytes();
    for row in 0..rows {
        for column in 0..columns {
            let (mut sum, mut count) = ([0_usize; 3], 0);
            for y in (row * by..(row + 1) * by).take_while(|y| *y < height) {
                for x in (column * by..(column + 1) * by).take_while(|x| *x < width) {
                    let pixel = &pixels[3 * (y * width + x)..][..3];
                    sum.iter_mut().zip(pixel).for_each(|(sum, colour)| *sum += usize::from(*colour));
                    count += 1;
                }
            }
            bytes.extend(sum.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX)));
        }
    }
    Ok(Picture { name: picture.name.clone(), bytes })
}

/// Width, height and pixels of a binary PPM file without comments.
fn parse(bytes: &[u8]) -> Result<(usize, usize, &[u8])> {
    let mut rest = bytes.strip_prefix(b"P6").context("no PPM file")?;
    let mut numbers = [0_usize; 3];
    for number in &mut numbers {
        let digits = rest.trim_ascii_start();
        let end = digits.iter().position(|byte| !byte.is_ascii_digit()).context("its header has no end")?;
        *number = std::str::from_utf8(&digits[..end])?.parse().context("its header is broken")?;
        rest = &digits[end..];
    }
    let [width, height, most] = numbers;
    ensure!(width > 0 && height > 0 && most == 255, "{width} × {height} pixels of 0 to {most}: not for us");
    let needed = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3)).context("too large")?;
    let pixels = rest.get(1..).and_then(|pixels| pixels.get(..needed)).context("pixels are missing")?;
    Ok((width, height, pixels))
}
