//! What OpenTelemetry gets: the numbers of the metrics page, under its names, from one look per collection.

use std::collections::BTreeMap;

use bowline::{Bound, Cancelled, Overflow, Semaphore, debug, scope};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};

/// One number of a metric, with what it is told apart by.
type Points = BTreeMap<Vec<(String, String)>, f64>;

fn points(metric: &Metric) -> (&'static str, Points) {
    fn key<'a>(attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>) -> Vec<(String, String)> {
        let mut key: Vec<_> = attributes.map(|of| (of.key.to_string(), of.value.to_string())).collect();
        key.sort();
        key
    }
    match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) if sum.is_monotonic() => (
            "counter",
            sum.data_points().map(|point| (key(point.attributes()), point.value() as f64)).collect(),
        ),
        AggregatedMetrics::I64(MetricData::Sum(sum)) if !sum.is_monotonic() => (
            "up-down counter",
            sum.data_points().map(|point| (key(point.attributes()), point.value() as f64)).collect(),
        ),
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            ("gauge", gauge.data_points().map(|point| (key(point.attributes()), point.value())).collect())
        }
        other => panic!("{}: {other:?}", metric.name()),
    }
}

/// Collects once, by name: unit, kind and numbers.
fn collected(
    provider: &SdkMeterProvider,
    exporter: &InMemoryMetricExporter,
) -> BTreeMap<String, (String, &'static str, Points)> {
    exporter.reset();
    provider.force_flush().unwrap();
    let mut collected = BTreeMap::new();
    for resource in &exporter.get_finished_metrics().unwrap() {
        for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
            let (kind, points) = points(metric);
            let known = collected.insert(metric.name().to_owned(), (metric.unit().to_owned(), kind, points));
            assert!(known.is_none(), "{} twice", metric.name());
        }
    }
    collected
}

fn named(key: &str, name: &str) -> Vec<(String, String)> {
    vec![(key.to_owned(), name.to_owned())]
}

#[bowline::test]
async fn a_collection_has_tasks_queues_and_permits_under_the_names_and_units_of_opentelemetry()
-> Result<(), Cancelled> {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    debug::observe(&provider.meter("bowline"));
    scope("orders", async |s| {
        let (tx, rx) = s.queue::<u8>("inbox", Bound::items(4), Overflow::Reject);
        let gate = std::sync::Arc::new(Semaphore::new("gate", 2));
        let held = gate.acquire(2).await.unwrap();
        let opens = std::sync::Arc::clone(&gate);
        let packer = s.spawn_with("packer", rx, async move |_cx, rx| {
            drop(opens.acquire(1).await);
            drop(rx);
            Ok::<_, Cancelled>(())
        });
        for n in 0..4 {
            tx.send(n).await.unwrap();
        }
        tx.send(4).await.unwrap_err();
        tokio::task::yield_now().await;
        let metrics = collected(&provider, &exporter);
        let check = |name: &str, unit: &str, kind: &str, key: Vec<(String, String)>, value: f64| {
            let (known_unit, known_kind, points) =
                metrics.get(name).unwrap_or_else(|| panic!("{name}: {metrics:?}"));
            assert_eq!((&**known_unit, *known_kind), (unit, kind), "{name}");
            assert_eq!(points.get(&key), Some(&value), "{name}: {points:?}");
        };
        check("bowline.task.count", "{task}", "up-down counter", named("bowline.task.name", "packer"), 1.0);
        check("bowline.task.polls", "{poll}", "up-down counter", named("bowline.task.name", "packer"), 1.0);
        check("bowline.runtime.foreign_tasks", "{task}", "up-down counter", vec![], 0.0);
        let inbox = || named("bowline.queue.name", "inbox");
        check("bowline.queue.items", "{item}", "up-down counter", inbox(), 4.0);
        check("bowline.queue.capacity", "{item}", "up-down counter", inbox(), 4.0);
        check("bowline.queue.refused", "{item}", "counter", inbox(), 1.0);
        let oldest = &metrics["bowline.queue.oldest"];
        assert_eq!((&*oldest.0, oldest.1), ("s", "gauge"));
        let of_gate = |what: &str| {
            let kind = (format!("bowline.{what}.kind"), "semaphore".to_owned());
            vec![kind, (format!("bowline.{what}.name"), "gate".to_owned())]
        };
        check("bowline.resource.waiters", "{task}", "up-down counter", of_gate("resource"), 1.0);
        check("bowline.permit.free", "{permit}", "up-down counter", of_gate("permit"), 0.0);
        check("bowline.permit.limit", "{permit}", "up-down counter", of_gate("permit"), 2.0);
        check("bowline.deadlock.count", "{deadlock}", "up-down counter", vec![], 0.0);
        // The next collection looks anew, though it comes at once.
        s.spawn("clerk", async { Ok(()) });
        let again = collected(&provider, &exporter);
        assert_eq!(again["bowline.task.count"].2.get(&named("bowline.task.name", "clerk")), Some(&1.0));
        drop(held);
        packer.await
    })
    .await?;
    provider.shutdown().unwrap();
    Ok(())
}
