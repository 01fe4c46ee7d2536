//! A folder of pictures, one of which is none.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::{LONGEST_SIDE, parse, thumbnails};

const PICTURES: usize = 40;

/// A folder for one demonstration, removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("bowline-thumbnails-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A picture of 300 × 200 pixels whose left half is black and whose right half is white.
fn half_and_half() -> Vec<u8> {
    let row: Vec<u8> = [[0; 450], [255; 450]].concat();
    [b"P6\n300 200\n255\n".to_vec(), row.repeat(200)].concat()
}

/// A black pixel, and a white one.
#[cfg(test)]
const TINY: &[u8] = b"P6\n2 1\n255\n\0\0\0\xff\xff\xff";

/// Shrinks a folder of pictures, and looks at what came of them.
pub(crate) async fn run() -> Result<()> {
    let (from, to) = (Folder::new("from")?, Folder::new("to")?);
    for picture in 0..PICTURES {
        tokio::fs::write(from.0.join(format!("{picture:02}.ppm")), half_and_half()).await?;
    }
    tokio::fs::write(from.0.join("letter.ppm"), "Dear Sir or Madam").await?;
    tokio::fs::write(from.0.join("readme.txt"), "is not looked at").await?;

    let report = thumbnails(&from.0, &to.0).await?;
    println!("{} thumbnails, and this: {}", report.stats.done, report.errors[0]);
    ensure!((report.stats.done, report.stats.failed) == (PICTURES as u64, 1), "{:?}", report.stats);
    ensure!(report.errors[0].to_string().contains("letter.ppm"), "{}", report.errors[0]);

    let thumbnail = tokio::fs::read(to.0.join("07.ppm")).await?;
    let (width, height, pixels) = parse(&thumbnail)?;
    ensure!((width, height) == (100, 67) && width <= LONGEST_SIDE, "{width} × {height}");
    ensure!(
        pixels[..3] == [0; 3] && pixels[3 * (width - 1)..][..3] == [255; 3],
        "black, and white, were expected"
    );
    ensure!(pixels.len() == 3 * width * height, "{}", pixels.len());
    Ok(())
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> Result<()> {
    bowline::timeout(std::time::Duration::from_secs(50), Box::pin(run())).await?
}

#[cfg(test)]
#[bowline::test]
async fn a_shutdown_begins_no_more_pictures_and_finishes_those_that_were() -> Result<()> {
    // Many more than are under way at once, so that a shutdown at the first that is written comes in the middle.
    const MANY: u64 = 2_000;
    let (from, to) = (Folder::new("many")?, Folder::new("few")?);
    for picture in 0..MANY {
        std::fs::write(from.0.join(format!("{picture:04}.ppm")), TINY)?;
    }
    let in_the_middle = async {
        while std::fs::read_dir(&to.0)?.next().is_none() {
            tokio::task::yield_now().await;
        }
        bowline::shut_down("the first is written");
        Ok(())
    };
    let (report, ()) = tokio::try_join!(thumbnails(&from.0, &to.0), in_the_middle)?;
    let stats = report.stats;
    ensure!(0 < stats.done && stats.done < MANY && stats.failed == 0 && stats.cancelled == 0, "{stats:?}");
    let mut written = 0;
    for thumbnail in std::fs::read_dir(&to.0)? {
        ensure!(std::fs::read(thumbnail?.path())? == TINY, "a thumbnail was not finished");
        written += 1;
    }
    ensure!(written == stats.done, "{written} were written: {stats:?}");
    Ok(())
}
