//! Jobs at times of the day: changes of the clocks, clocks that are set, and a year against an enumeration of its own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bowline::{
    AlertKind, Cancelled, CronError, Job, JobRun, Missed, Overlap, Schedule, on_alert, scope, sleep,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

/// A wall clock that goes along with the paused one, and can be set.
#[derive(Clone)]
struct Wall {
    start: DateTime<Utc>,
    began: Instant,
    set_by_secs: Arc<AtomicI64>,
}

impl Wall {
    fn at(start: &str) -> Self {
        Self { start: utc(start), began: Instant::now(), set_by_secs: Arc::default() }
    }

    fn now(&self) -> SystemTime {
        let set_by = TimeDelta::seconds(self.set_by_secs.load(Ordering::Relaxed));
        SystemTime::from(self.start + set_by) + self.began.elapsed()
    }

    fn set(&self, by: i64) {
        self.set_by_secs.fetch_add(by, Ordering::Relaxed);
    }

    fn schedule(&self) -> Schedule {
        let wall = self.clone();
        Schedule::new("nightly", 100).clock(move || wall.now())
    }
}

/// What ran: for when, and the wall clock when it did, to the minute in UTC.
#[derive(Clone, Default)]
struct Ran(Arc<Mutex<Vec<(SystemTime, SystemTime)>>>);

impl Ran {
    fn job(
        &self,
        wall: &Wall,
    ) -> impl FnOnce(JobRun) -> std::future::Ready<()> + Clone + Send + Sync + 'static {
        let (ran, wall) = (self.clone(), wall.clone());
        move |run| {
            ran.0.lock().unwrap().push((run.scheduled_for, wall.now()));
            std::future::ready(())
        }
    }

    fn times(&self) -> Vec<SystemTime> {
        self.0.lock().unwrap().iter().map(|(scheduled_for, _)| *scheduled_for).collect()
    }

    fn all(&self) -> Vec<(String, String)> {
        let text = |at: SystemTime| DateTime::<Utc>::from(at).format("%d %H:%M").to_string();
        self.0.lock().unwrap().iter().map(|(due, at)| (text(*due), text(*at))).collect()
    }
}

/// The times at which a job ran within `hours` from `start` on.
async fn ran_from(start: &str, hours: u32, pattern: &str, zone: &str) -> Vec<String> {
    let (wall, ran) = (Wall::at(start), Ran::default());
    scope("service", async |s| {
        let job = Job::cron("report", pattern, zone).unwrap();
        let _jobs = wall.schedule().job(job, ran.job(&wall)).start(s);
        sleep(hours * HOUR).await
    })
    .await
    .unwrap();
    for (scheduled_for, at) in ran.0.lock().unwrap().iter() {
        let late = at.duration_since(*scheduled_for).unwrap();
        assert!(late < Duration::from_secs(1), "late by {late:?}"); // the long sleeps are cut, and none is passed over
    }
    ran.all().into_iter().map(|(_, at)| at).collect()
}

// ---- changes of the clocks

/// croner-rust#16: a time that does not exist is a panic. kelektiv/node-cron#563, robfig/cron#541: a job at a time that the clocks
/// are put forward over does not run that day.
#[bowline::test(start_paused = true)]
async fn a_time_that_does_not_exist_runs_once_in_the_first_moment_after() {
    // 29 March 2026, from 2:00 (+1) to 3:00 (+2), which is 1:00 UTC.
    let ran = ran_from("2026-03-28T00:00", 60, "30 2 * * *", "Europe/Berlin").await;
    assert_eq!(ran, ["28 01:30", "29 01:00", "30 00:30"]);
    // 8 March 2026, from 2:00 (-5) to 3:00 (-4), which is 7:00 UTC. Three o'clock itself is no reason to run twice.
    let ran = ran_from("2026-03-07T00:00", 60, "0 2 * * *", "America/New_York").await;
    assert_eq!(ran, ["07 07:00", "08 07:00", "09 06:00"]);
    let ran = ran_from("2026-03-07T00:00", 60, "0 3 * * *", "America/New_York").await;
    assert_eq!(ran, ["07 08:00", "08 07:00", "09 07:00"]);
    // 4 October 2026, from 2:00 (+10:30) to 2:30 (+11), which is 15:30 UTC of the 3rd.
    let ran = ran_from("2026-10-02T00:00", 60, "15 2 * * *", "Australia/Lord_Howe").await;
    assert_eq!(ran, ["02 15:45", "03 15:30"]);
}

/// kelektiv/node-cron#563: a job at a time that exists twice runs twice. elizaOS/eliza#11100: guarded against, it still does where
/// the clocks change by half an hour.
#[bowline::test(start_paused = true)]
async fn a_time_that_exists_twice_runs_once_at_the_first() {
    // 25 October 2026, from 3:00 (+2) back to 2:00 (+1).
    let ran = ran_from("2026-10-24T00:00", 60, "30 2 * * *", "Europe/Berlin").await;
    assert_eq!(ran, ["24 00:30", "25 00:30", "26 01:30"]);
    // 1 November 2026, from 2:00 (-4) back to 1:00 (-5).
    let ran = ran_from("2026-10-31T00:00", 60, "30 1 * * *", "America/New_York").await;
    assert_eq!(ran, ["31 05:30", "01 05:30", "02 06:30"]);
    // 5 April 2026, from 2:00 (+11) back to 1:30 (+10:30).
    let ran = ran_from("2026-04-03T00:00", 60, "45 1 * * *", "Australia/Lord_Howe").await;
    assert_eq!(ran, ["03 14:45", "04 14:45"]);
}

#[bowline::test(start_paused = true)]
async fn what_recurs_goes_by_the_time_that_passes() {
    let ran = ran_from("2026-03-29T00:15", 2, "*/30 * * * *", "Europe/Berlin").await;
    assert_eq!(ran, ["29 00:30", "29 01:00", "29 01:30", "29 02:00"]); // 1:30, 3:00, 3:30, 4:00
    let ran = ran_from("2026-10-25T00:15", 2, "*/30 * * * *", "Europe/Berlin").await;
    assert_eq!(ran, ["25 00:30", "25 01:00", "25 01:30", "25 02:00"]); // 2:30, 2:00, 2:30, 3:00
}

// ---- a year

/// As long as it takes for the clocks of all three zones to change.
const SEASON_MINUTES: u32 = 31 * 24 * 60;

/// A job, and what its pattern says of a local time.
struct Pattern {
    text: &'static str,
    zone: Tz,
    has_fixed_time: bool,
    names: fn(NaiveDateTime) -> bool,
}

fn is_at(local: NaiveDateTime, hour: u32, minute: u32) -> bool {
    (local.hour(), local.minute()) == (hour, minute)
}

const BERLIN: Tz = chrono_tz::Europe::Berlin;
const NEW_YORK: Tz = chrono_tz::America::New_York;
const LORD_HOWE: Tz = chrono_tz::Australia::Lord_Howe;

const PATTERNS: [Pattern; 11] = [
    Pattern { text: "0 2 * * *", zone: BERLIN, has_fixed_time: true, names: |t| is_at(t, 2, 0) },
    Pattern {
        text: "30 2 * * SUN",
        zone: BERLIN,
        has_fixed_time: true,
        names: |t| is_at(t, 2, 30) && t.weekday() == Weekday::Sun,
    },
    Pattern {
        text: "*/20 1-3 * * *",
        zone: BERLIN,
        has_fixed_time: false,
        names: |t| (1..=3).contains(&t.hour()) && t.minute() % 20 == 0,
    },
    Pattern { text: "59 1 * * *", zone: NEW_YORK, has_fixed_time: true, names: |t| is_at(t, 1, 59) },
    Pattern {
        text: "15 2 1-15 * *",
        zone: NEW_YORK,
        has_fixed_time: true,
        names: |t| is_at(t, 2, 15) && t.day() <= 15,
    },
    // Of the month *or* of the week, where both are said.
    Pattern {
        text: "0 12 13 * FRI",
        zone: NEW_YORK,
        has_fixed_time: true,
        names: |t| is_at(t, 12, 0) && (t.day() == 13 || t.weekday() == Weekday::Fri),
    },
    Pattern { text: "10 2 * * *", zone: LORD_HOWE, has_fixed_time: true, names: |t| is_at(t, 2, 10) },
    Pattern {
        text: "45 1 * 4,10 *",
        zone: LORD_HOWE,
        has_fixed_time: true,
        names: |t| is_at(t, 1, 45) && matches!(t.month(), 4 | 10),
    },
    Pattern {
        text: "0,30 2,14 * * *",
        zone: BERLIN,
        has_fixed_time: true,
        names: |t| matches!(t.hour(), 2 | 14) && matches!(t.minute(), 0 | 30),
    },
    Pattern {
        text: "5 0-3 * * *",
        zone: NEW_YORK,
        has_fixed_time: true,
        names: |t| t.hour() <= 3 && t.minute() == 5,
    },
    Pattern { text: "0 0-23 * * *", zone: LORD_HOWE, has_fixed_time: false, names: |t| t.minute() == 0 },
];

/// The local times of every minute from `start` on.
fn local_minutes(zone: Tz, start: DateTime<Utc>) -> Vec<NaiveDateTime> {
    let local = |n| zone.from_utc_datetime(&(start + TimeDelta::minutes(1) * n).naive_utc()).naive_local();
    (0..=i32::try_from(SEASON_MINUTES).unwrap()).map(local).collect()
}

/// The minutes at which a pattern is due, found by looking at each.
fn enumerated(pattern: &Pattern, minutes: &[NaiveDateTime]) -> Vec<u64> {
    let minute = TimeDelta::minutes(1);
    let mut newest = minutes[0];
    let mut due = Vec::new();
    for (n, local) in (0..).zip(minutes).skip(1) {
        let mut is_due = (pattern.names)(*local);
        if pattern.has_fixed_time {
            is_due &= *local > newest; // not when it was there before
            while newest + minute < *local {
                newest += minute; // does not exist
                is_due |= (pattern.names)(newest);
            }
            newest = newest.max(*local);
        }
        if is_due {
            due.push(n);
        }
    }
    due
}

#[bowline::test(start_paused = true, timeout_secs = 300)] // forty thousand looks at the clock
async fn the_month_in_which_clocks_go_forward_is_what_a_walk_through_its_minutes_finds() {
    season_is_as_enumerated("2026-03-07T00:00").await;
}

#[bowline::test(start_paused = true, timeout_secs = 300)]
async fn the_month_in_which_clocks_go_back_is_what_a_walk_through_its_minutes_finds() {
    season_is_as_enumerated("2026-10-03T00:00").await;
}

async fn season_is_as_enumerated(season: &str) {
    let wall = Wall::at(season);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    let ran: Vec<Ran> = PATTERNS.iter().map(|_| Ran::default()).collect();
    scope("service", async |s| {
        let mut schedule = wall.schedule();
        for ((pattern, name), ran) in PATTERNS.iter().zip(names).zip(&ran) {
            let job = Job::cron(name, pattern.text, pattern.zone.name()).unwrap();
            schedule = schedule.job(job, ran.job(&wall));
        }
        let jobs = schedule.start(s);
        sleep(SEASON_MINUTES * MINUTE + MINUTE / 2).await?;
        for job in jobs.stats().jobs {
            assert_eq!((job.due, job.missed + job.skipped), (job.ok, 0), "{job:?}");
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let start = SystemTime::from(wall.start);
    for zone in [BERLIN, NEW_YORK, LORD_HOWE] {
        let minutes = local_minutes(zone, wall.start);
        let offsets = minutes.iter().zip(0..).map(|(local, n)| *local - TimeDelta::minutes(n));
        assert_eq!(
            offsets.collect::<BTreeSet<_>>().len(),
            2,
            "the clocks of {zone} change once from {season} on"
        );
        for (pattern, ran) in PATTERNS.iter().zip(&ran).filter(|(pattern, _)| pattern.zone == zone) {
            let expected = enumerated(pattern, &minutes);
            let ran: Vec<_> =
                ran.times().iter().map(|at| at.duration_since(start).unwrap().as_secs() / 60).collect();
            let differs = ran.iter().zip(&expected).find(|(ran, expected)| ran != expected);
            assert_eq!(
                differs, None,
                "`{}` in {zone}: a minute from {season} on and the one expected",
                pattern.text
            );
            assert_eq!(ran.len(), expected.len(), "`{}` in {zone}", pattern.text);
            assert!(ran.len() >= 4, "`{}` in {zone}: it runs seldom", pattern.text);
        }
    }
}

/// The rest of the year has no other clocks than these months, but other days.
#[bowline::test(start_paused = true)]
async fn a_year_of_days_is_what_a_walk_through_its_calendar_finds() {
    type Names = fn(NaiveDate) -> bool;
    let patterns: [(&str, Names); 5] = [
        ("0 12 13 * FRI", |day| day.day() == 13 || day.weekday() == Weekday::Fri),
        ("0 12 29-31 * *", |day| day.day() >= 29),
        ("0 12 L * *", |day| day.succ_opt().unwrap().day() == 1),
        ("0 12 */10 2-12/5 *", |day| day.day() % 10 == 1 && matches!(day.month(), 2 | 7 | 12)),
        ("0 12 * * MON#2", |day| day.weekday() == Weekday::Mon && (8..=14).contains(&day.day())),
    ];
    let first = NaiveDate::from_ymd_opt(2028, 1, 1).unwrap(); // a leap year
    let year = || first.iter_days().take_while(|day| day.year() == first.year());
    scope("service", async |s| {
        for (text, names) in patterns {
            let noon = |day: NaiveDate| {
                let local = day.and_hms_opt(12, 0, 0).unwrap();
                SystemTime::from(NEW_YORK.from_local_datetime(&local).unwrap())
            };
            let expected: Vec<_> = year().filter(|day| names(*day)).map(noon).collect();
            assert!(expected.len() >= 10, "{text}: it comes seldom");
            let at = Arc::new(Mutex::new(noon(first) - HOUR));
            let clock = Arc::clone(&at);
            let jobs = Schedule::new("year", 1).clock(move || *clock.lock().unwrap()).start(s);
            for expected in expected {
                jobs.add(Job::cron("day", text, NEW_YORK.name()).unwrap(), async |_| {}).unwrap();
                let next = jobs.next("day").unwrap();
                assert_eq!(DateTime::<Utc>::from(next), DateTime::<Utc>::from(expected), "{text}");
                *at.lock().unwrap() = next;
                jobs.remove("day").unwrap();
            }
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- clocks that are set

#[bowline::test(start_paused = true)]
async fn a_clock_that_is_set_back_by_an_hour_repeats_nothing_and_holds_up_nothing() {
    let (wall, daily, often) = (Wall::at("2026-06-01T01:50"), Ran::default(), Ran::default());
    scope("service", async |s| {
        let _jobs = wall
            .schedule()
            .job(Job::cron("daily", "0 2 * * *", "UTC").unwrap(), daily.job(&wall))
            .job(Job::cron("often", "*/10 * * * *", "UTC").unwrap(), often.job(&wall))
            .start(s);
        sleep(15 * MINUTE).await?;
        wall.set(-3600); // it is 1:05
        sleep(70 * MINUTE).await
    })
    .await
    .unwrap();
    assert_eq!(daily.all(), [("01 02:00".to_owned(), "01 02:00".to_owned())]);
    let often: Vec<_> = often.all().into_iter().map(|(_, at)| at).collect();
    assert_eq!(often[..4], ["01 02:00", "01 01:10", "01 01:20", "01 01:30"]);
    assert_eq!(often.len(), 8);
}

#[bowline::test(start_paused = true)]
async fn a_clock_that_was_days_ahead_and_is_set_right_starts_over() {
    let (wall, daily) = (Wall::at("2026-06-05T01:50"), Ran::default());
    scope("service", async |s| {
        let _jobs =
            wall.schedule().job(Job::cron("daily", "0 2 * * *", "UTC").unwrap(), daily.job(&wall)).start(s);
        sleep(15 * MINUTE).await?;
        wall.set(-4 * 24 * 3600); // it is the 1st, 2:05
        sleep(24 * HOUR).await
    })
    .await
    .unwrap();
    assert_eq!(daily.all().into_iter().map(|(_, at)| at).collect::<Vec<_>>(), ["05 02:00", "02 02:00"]);
}

#[bowline::test(start_paused = true)]
async fn a_clock_that_is_set_back_by_seconds_does_not_run_anything_twice() {
    let (wall, often) = (Wall::at("2026-06-01T01:58"), Ran::default());
    scope("service", async |s| {
        let _jobs = wall
            .schedule()
            .job(Job::cron("often", "* * * * *", "UTC").unwrap(), often.job(&wall))
            .every("busy", Duration::from_millis(100), async |_| {}) // so that it is looked at in between
            .start(s);
        sleep(MINUTE + Duration::from_secs(1)).await?;
        wall.set(-2); // it is 1:58:59
        sleep(2 * MINUTE).await
    })
    .await
    .unwrap();
    let often: Vec<_> = often.all().into_iter().map(|(due, _)| due).collect();
    assert_eq!(often, ["01 01:59", "01 02:00"]);
}

/// node-cron/node-cron#485: a timer of hours that comes late finds that its time has passed, and the job does not run.
#[bowline::test(start_paused = true)]
async fn a_night_in_suspend_is_noticed_within_a_minute_and_made_up_for_as_the_job_says() {
    let wall = Wall::at("2026-06-01T22:00");
    let (once, skip, each) = (Ran::default(), Ran::default(), Ran::default());
    let alerts: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&alerts);
    let _hook = on_alert(move |alert| {
        assert_eq!(alert.kind, AlertKind::JobMissed);
        told.lock().unwrap().push(alert.to_string());
    });
    scope("service", async |s| {
        let hourly = |name| Job::cron(name, "0 * * * *", "UTC").unwrap();
        let jobs = wall
            .schedule()
            .job(hourly("once"), once.job(&wall))
            .job(hourly("skip").missed(Missed::Skip), skip.job(&wall))
            .job(hourly("each").missed(Missed::EachUpTo(2)), each.job(&wall))
            .start(s);
        sleep(30 * MINUTE).await?;
        wall.set(8 * 3600); // timers stood still; it is 6:30
        sleep(2 * MINUTE).await?;
        let times =
            |ran: &Ran| ran.all().into_iter().map(|(due, at)| format!("{due} at {at}")).collect::<Vec<_>>();
        assert_eq!(times(&once), ["02 06:00 at 02 06:30"]);
        assert_eq!(times(&skip), [""; 0]);
        assert_eq!(times(&each), ["02 05:00 at 02 06:30", "02 06:00 at 02 06:30"]);
        let missed = |name| jobs.stats().job(name).unwrap().missed;
        assert_eq!((missed("once"), missed("skip"), missed("each")), (7, 8, 6));
        assert_eq!(alerts.lock().unwrap().len(), 3);
        sleep(30 * MINUTE).await?;
        assert_eq!((once.times().len(), skip.times().len(), each.times().len()), (2, 1, 3)); // 7:00
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_year_of_missed_seconds_is_one_run_and_no_long_calculation() {
    let (wall, ran) = (Wall::at("2026-06-01T12:00"), Ran::default());
    scope("service", async |s| {
        let job = Job::cron("sample", "* * * * * *", "UTC").unwrap().last_run(wall.now() - 365 * DAY);
        let jobs = wall.schedule().job(job, ran.job(&wall)).start(s);
        sleep(Duration::from_millis(1)).await?;
        let stats = jobs.stats().job("sample").unwrap().clone();
        assert_eq!((stats.due, stats.ok), (stats.missed + 1, 1));
        assert!(stats.missed > 1_000, "it counts what it can: {stats:?}");
        assert_eq!(ran.times(), [SystemTime::from(wall.start)], "for the newest");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// librefang#3828: what was due while the process was down is lost without a word.
#[bowline::test(start_paused = true)]
async fn a_run_that_was_due_while_the_process_was_down_is_made_up_for() {
    let (wall, ran) = (Wall::at("2026-06-04T08:00"), Ran::default());
    scope("service", async |s| {
        let job = Job::cron("report", "0 2 * * *", "Europe/Berlin").unwrap();
        let last = SystemTime::from(utc("2026-06-01T00:00"));
        let jobs = wall.schedule().job(job.last_run(last), ran.job(&wall)).start(s);
        sleep(MINUTE).await?;
        assert_eq!(ran.all(), [("04 00:00".to_owned(), "04 08:00".to_owned())]);
        let stats = jobs.stats().job("report").unwrap().clone();
        assert_eq!((stats.due, stats.missed, stats.when.as_str()), (3, 2, "0 2 * * * (Europe/Berlin)"));
        assert_eq!(stats.next, Some(utc("2026-06-05T00:00").into()));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn jitter_delays_the_run_and_not_the_time_it_is_for() {
    let (wall, ran) = (Wall::at("2026-06-01T00:00"), Ran::default());
    scope("service", async |s| {
        let job = Job::cron("report", "0 2 * * *", "UTC").unwrap().jitter(10 * MINUTE);
        let jobs = wall.schedule().job(job.overlap(Overlap::QueueOne), ran.job(&wall)).start(s);
        let next = jobs.next("report").unwrap();
        sleep(3 * DAY).await?;
        let ran = ran.0.lock().unwrap().clone();
        assert_eq!(ran.len(), 3);
        let delay = next.duration_since(utc("2026-06-01T02:00").into()).unwrap();
        assert!(delay <= 10 * MINUTE);
        for (day, (scheduled_for, at)) in (0..).zip(ran) {
            assert_eq!(scheduled_for, SystemTime::from(utc("2026-06-01T02:00")) + day * DAY);
            assert!(at.duration_since(scheduled_for + delay).unwrap() < Duration::from_secs(1));
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- mistakes

#[test]
fn a_pattern_that_cannot_be_says_which_field_and_what_would_be_right() {
    let wrong = |pattern: &str, zone: &str| Job::cron("report", pattern, zone).unwrap_err();
    let says = |pattern: &str, parts: &[&str]| {
        let text = wrong(pattern, "UTC").to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    says("60 2 * * *", &["`60`", "minute", "0 to 59"]);
    says("0 2 * * MOO", &["`MOO`", "day of the week", "SUN to SAT"]);
    says("0 2 0 * *", &["`0`", "day of the month", "1 to 31"]);
    says("0 2 * 13 *", &["`13`", "the month", "JAN to DEC"]);
    says("0 5-2-1 * * *", &["`5-2-1`", "the hour", "0 to 23"]);
    says("75 0 2 * * *", &["`75`", "the second", "0 to 59"]);
    says("0 2 * *", &["has 4 field(s)", "minute, hour, day of the month, month and day of the week"]);
    says("", &["has 0 field(s)"]);
    says("0 0 2 * * * 2030", &["has 7 field(s)"]);
    says("@noon", &["`@noon` is no pattern", "@daily"]);
    says("0 0 30 2 *", &["never comes"]);
    assert_eq!(
        wrong("0 2 * * *", "Berlin"),
        CronError::Zone { zone: "Berlin".to_owned(), like: Some("Europe/Berlin") }
    );
    let zone = wrong("0 2 * * *", "Middle/Earth").to_string();
    assert!(zone.contains("`Middle/Earth`") && zone.contains("IANA"), "{zone}");
    assert!(wrong("0 2 * * *", "new york").to_string().contains("`America/New_York` perhaps"));
    for right in
        ["@daily", "0 2 * * *", "0 0 2 * * MON-FRI", "0 2 L * *", "0 2 * * FRI#2", "*/5 8-18 * JAN,FEB *"]
    {
        let _ = Job::cron("report", right, "Europe/Berlin").unwrap();
    }
    let _ = Job::cron("report", "0 0 29 2 SUN", "UTC").unwrap();
}
