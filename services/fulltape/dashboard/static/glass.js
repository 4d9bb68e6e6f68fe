// How long trades take to the glass: noted when a paint's writes to the document are done, in its frame callback.

const RECENT_MS = 10_000;
const MINUTE_MS = 60_000;
const PAINTS_KEPT = 20_000;

/** A benchmark opens the page with ?measure and takes [product, last id, trade_us, painted_us] from here. */
const measuring = new URLSearchParams(location.search).has('measure');
window.fulltape = { paints: [] };

/** Now, in microseconds since the epoch, with the monotonic clock's resolution. */
export const nowUs = () => (performance.timeOrigin + performance.now()) * 1000;

/** Latencies of the last minute, in microseconds, with when each was seen. */
class Recent {
  constructor() {
    this.times = new Float64Array(16_384);
    this.values = new Float64Array(16_384);
    this.count = 0;
  }

  add(valueUs) {
    const slot = this.count++ % this.times.length;
    this.times[slot] = performance.now();
    this.values[slot] = valueUs;
  }

  since(ms) {
    const from = performance.now() - ms;
    const size = Math.min(this.count, this.times.length);
    return this.values.subarray(0, size).filter((_, slot) => this.times[slot] >= from).sort();
  }
}

const whole = new Recent();
const last = new Recent();
const seen = new Map();

/** Note that the newest trade of a product is on the glass. */
export function painted(product, lastId, tradeUs, atUs) {
  if (seen.get(product) === lastId) return;
  const first = !seen.has(product);
  seen.set(product, lastId);
  if (first) return; // what was there before the page came
  whole.add(atUs - tradeUs);
  if (measuring) {
    const paints = window.fulltape.paints;
    if (paints.length >= PAINTS_KEPT) paints.splice(0, PAINTS_KEPT / 4);
    paints.push([product, lastId, tradeUs, atUs]);
  }
}

/** Note that a frame of the server is on the glass. */
export const framePainted = (sentUs, atUs) => last.add(atUs - sentUs);

/** Forget what was seen: the connection is new, and what it begins with is not news. */
export const forget = () => seen.clear();

const quantile = (sorted, share) => (sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : null);

/** Median and 99th percentile of the last seconds. */
export function glassNow() {
  const sorted = whole.since(RECENT_MS);
  return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) };
}

/** Histograms of the last minute, as the server's are: from the dashboard to the glass, and the whole way. */
export function glassHistograms(histogram) {
  return [last, whole].map((recent) => {
    const counts = new Array(histogram.buckets).fill(0);
    for (const us of recent.since(MINUTE_MS)) {
      const bucket = us < histogram.first_us ? 0 : 1 + Math.floor(histogram.per_octave * Math.log2(us / histogram.first_us));
      counts[Math.min(histogram.buckets - 1, bucket)] += 1;
    }
    return counts;
  });
}
