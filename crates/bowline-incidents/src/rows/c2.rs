//! C2, dynamic fan-out: a crawl whose size nobody knows before it has ended.
//!
//! A page names further pages, and one that fails is tried again a little later. So work is added while work goes on, also by
//! the work itself. The program counted what was on its way: one more when a page begins, one less when it ends, and whoever
//! waits is told at zero. A retry begins after its pause and counts itself then. In between it is counted by nobody, the
//! count comes by zero, and the crawl is "over": the result is handed on without the pages that were still to be tried again,
//! which then write into a result that nobody reads. In Go the same mistake is a panic ("WaitGroup is reused before previous
//! Wait has returned", "send on closed channel"), which is how it was found.
//!
//! The tied form has nothing to count. A task is a member of the group from the moment it is spawned, a pause is something a
//! member does, and members spawn further ones with the group's handle. The group has ended when nobody is left who could
//! spawn: waiting cannot race with spawning, because the spawner is itself waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{Cancelled, CollectAll, GroupHandle, group};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "C2",
    title: "dynamic fan-out",
    broke: "A crawl adds work while it runs: the pages a page names, and retries. The hand-written count of what is on its way \
            came by zero between a failure and its retry, and the crawl ended without what was still to come.",
    must: "Work is spawned into a running group at any time, also by its members; waiting never races with spawning.",
    theirs: "\"WaitGroup is reused\" panics, lost pages; here none of them can be written",
    load: "a site of 9,841 pages, one in seven of which fails at first (reduced: 1,093; full: 88,573)",
    remedy: "A `group` with `handle().spawn`: members are counted when they are spawned, and the group ends after the last of them.",
    needs: &[],
    bounds: &[
        Bound::at_least("pages in the result", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("pages after the end", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("tasks left", 0.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("c2.rs"),
};

const PAUSE: Duration = Duration::from_millis(100);

// ANCHOR: leaky
#[derive(Default)]
struct WaitGroup {
    count: AtomicUsize,
    zero: Notify,
}

impl WaitGroup {
    fn add(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
    fn done(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.zero.notify_one();
        }
    }
}

async fn crawl_leaky(site: Site) {
    let on_its_way = Arc::new(WaitGroup::default());
    on_its_way.add();
    crawl_page_leaky(site.root(), site, Arc::clone(&on_its_way));
    on_its_way.zero.notified().await;
}

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
fn crawl_page_leaky(page: Page, site: Site, on_its_way: Arc<WaitGroup>) {
    tokio::spawn(async move {
        match site.fetch(&page).await {
            Ok(links) => {
                for link in links {
                    on_its_way.add();
                    crawl_page_leaky(link, site.clone(), Arc::clone(&on_its_way));
                }
            }
            Err(Unavailable) => retry_leaky(page, site, Arc::clone(&on_its_way)),
        }
        on_its_way.done();
    });
}

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
fn retry_leaky(page: Page, site: Site, on_its_way: Arc<WaitGroup>) {
    tokio::spawn(async move {
        sleep(PAUSE).await;
        on_its_way.add();
        crawl_page_leaky(page.again(), site, on_its_way);
    });
}
// ANCHOR_END: leaky

// ANCHOR: tied
type Crawl = GroupHandle<(), Cancelled, CollectAll>;

async fn crawl_tied(site: Site) -> Result<(), Cancelled> {
    let crawl =
        group("crawl", CollectAll, async |g| crawl_page_tied(site.root(), Duration::ZERO, site, g.handle()));
    crawl.await.all_ok().map(|_| ())
}

fn crawl_page_tied(page: Page, pause: Duration, site: Site, crawl: Crawl) -> Result<(), Cancelled> {
    let further = crawl.clone();
    crawl.spawn("page", async move {
        sleep(pause).await;
        match site.fetch(&page).await {
            Ok(links) => {
                for link in links {
                    crawl_page_tied(link, Duration::ZERO, site.clone(), further.clone())?;
                }
                Ok(())
            }
            Err(Unavailable) => crawl_page_tied(page.again(), PAUSE, site, further),
        }
    })?;
    Ok(())
}
// ANCHOR_END: tied

/// A site on which each page names three further ones, and one page in seven fails at first.
#[derive(Clone)]
struct Site {
    pages: u64,
    fetched: Counter,
}

struct Page {
    number: u64,
    is_again: bool,
}

impl Page {
    fn again(self) -> Self {
        Self { is_again: true, ..self }
    }
}

struct Unavailable;

impl Site {
    fn of(lab: &Lab) -> Self {
        Self { pages: lab.size(1_093, 9_841, 88_573), fetched: lab.counter("pages") }
    }

    fn root(&self) -> Page {
        Page { number: 0, is_again: false }
    }

    async fn fetch(&self, page: &Page) -> Result<Vec<Page>, Unavailable> {
        sleep(Duration::from_millis(1)).await;
        if page.number % 7 == 3 && !page.is_again {
            return Err(Unavailable);
        }
        self.fetched.add(1);
        let links = (3 * page.number + 1..).take(3).take_while(|number| *number < self.pages);
        Ok(links.map(|number| Page { number, is_again: false }).collect())
    }

    /// Called when the crawl says that it is over.
    async fn look(self, lab: &Lab) {
        let at_the_end = self.fetched.get();
        sleep(3 * PAUSE).await;
        lab.figure("pages in the result", 100.0 * at_the_end as f64 / self.pages as f64);
        lab.figure("pages after the end", (self.fetched.get() - at_the_end) as f64);
    }
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let site = Site::of(&lab);
    crawl_leaky(site.clone()).await;
    site.look(&lab).await;
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let site = Site::of(&lab);
    crawl_tied(site.clone()).await?;
    site.look(&lab).await;
    Ok(())
}
