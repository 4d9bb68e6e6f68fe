// What the page knows, merged from the server's frames; says what changed since it was last painted.

export class Model {
  constructor() {
    this.hello = null;
    this.rows = new Map(); // product -> row, an array of hello.row
    this.changed = new Set(); // products whose row is newer than what was painted
    this.product = null; // the one that is looked at: see look()
    this.alerts = new Map(); // fingerprint and start -> alert, in order of last change
    this.alertsChanged = false;
    this.health = null;
    this.healthChanged = false;
    this.sentUs = 0; // when the server made the newest frame
  }

  /** Begin with another product, or with none. */
  look(name) {
    this.product = name && {
      name,
      windows: {}, // window -> its newest message
      fresh: false, // a window is newer than what was painted
      points: {}, // window -> points by ascending time
      stale: {}, // window -> least time among the points that changed
      trades: [], // newest first
      traded: false,
    };
  }

  take(message) {
    if (message.type === 'hello') this.begin(message);
    else if (message.type === 'update') this.update(message);
  }

  begin(hello) {
    if (this.hello && this.hello.version !== hello.version) location.reload();
    this.hello = hello;
    this.at = Object.fromEntries(hello.row.map((name, index) => [name, index]));
    if (this.product) this.look(this.product.name);
  }

  update(message) {
    this.sentUs = message.now_us;
    for (const row of message.rows ?? []) {
      const name = row[0];
      row[this.at.spark] ??= this.rows.get(name)?.[this.at.spark] ?? [];
      this.rows.set(name, row);
      this.changed.add(name);
    }
    if (message.product && message.product.name === this.product?.name) this.detail(message.product);
    for (const alert of message.alerts ?? []) {
      const key = `${alert.fingerprint} ${alert.starts_us}`;
      this.alerts.delete(key);
      this.alerts.set(key, alert);
      this.alertsChanged = true;
    }
    for (const key of this.alerts.keys()) {
      if (this.alerts.size <= 200) break;
      this.alerts.delete(key);
    }
    if (message.health) {
      this.health = message.health;
      this.healthChanged = true;
    }
  }

  detail(found) {
    const product = this.product;
    for (const [window, newest] of Object.entries(found.windows)) {
      product.windows[window] = newest;
      product.fresh = true;
    }
    for (const [window, points] of Object.entries(found.points)) {
      product.points[window] = merge(product.points[window] ?? [], points, this.hello.history_us / 1e6);
      const least = points.reduce((time, point) => Math.min(time, point[0]), Infinity);
      product.stale[window] = Math.min(product.stale[window] ?? Infinity, least);
    }
    if (found.trades.length) {
      product.trades = found.trades.concat(product.trades).slice(0, 50);
      product.traded = true;
    }
  }
}

/** Put points into others by time; keep so many seconds. */
function merge(points, changed, seconds) {
  changed.sort((one, other) => one[0] - other[0]);
  for (const point of changed) {
    let at = points.length;
    while (at > 0 && points[at - 1][0] > point[0]) at -= 1;
    if (at > 0 && points[at - 1][0] === point[0]) points[at - 1] = point;
    else points.splice(at, 0, point);
  }
  const horizon = points[points.length - 1][0] - seconds;
  const first = points.findIndex((point) => point[0] > horizon);
  if (first > 0) points.splice(0, first);
  return points;
}
