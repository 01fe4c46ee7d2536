// A reporter for node:test that tells the driver (../run) about each scenario in one line of JSON.
export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    if (data.details?.type === "suite") continue;
    const outcome = type === "test:fail" ? "failed" : data.skip !== undefined ? "skipped" : "passed";
    const error = data.details?.error;
    // The test runner wraps what the test threw.
    const cause = error?.cause ?? error;
    const detail = outcome === "failed" ? String(cause?.stack ?? cause) : typeof data.skip === "string" ? data.skip : "";
    yield `::scenario ${JSON.stringify({ name: data.name, outcome, seconds: data.details.duration_ms / 1000, detail })}\n`;
  }
}
