// One product's last 15 minutes: price with VWAP and bands, volatility, order flow, on one time scale.
//
// The bands are the VWAP plus and minus two standard deviations of the last price of each second of the window.

import { colours, onPalette } from './dom.js';
import { fixed, mood, volatility } from './format.js';
import {
  createChart, createSeriesMarkers, CrosshairMode, HistogramSeries, LineSeries, LineStyle,
} from './vendor/lightweight-charts.mjs';

const DEVIATIONS = 2;
const OVERHANG_SECONDS = 60;
const [TIME, PRICE, VWAP, VOLATILITY, IMBALANCE] = [0, 1, 2, 3, 4];

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const minute = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });

/** Fills the space between the bands; the library has no series for that. */
class Band {
  constructor() {
    this.points = [];
  }

  attached({ chart, series, requestUpdate }) {
    Object.assign(this, { chart, series, requestUpdate });
  }

  updateAllViews() {}

  paneViews() {
    return [{ zOrder: () => 'bottom', renderer: () => ({ draw: (target) => this.draw(target) }) }];
  }

  draw(target) {
    target.useMediaCoordinateSpace(({ context }) => {
      const scale = this.chart.timeScale();
      const path = new Path2D();
      const lower = [];
      for (const { time, low, high } of this.points) {
        const x = scale.timeToCoordinate(time);
        const y = this.series.priceToCoordinate(high);
        if (x === null || y === null) continue;
        path.lineTo(x, y);
        lower.push([x, this.series.priceToCoordinate(low)]);
      }
      for (const [x, y] of lower.reverse()) path.lineTo(x, y);
      context.fillStyle = colours().fill;
      context.fill(path);
    });
  }
}

export class Chart {
  constructor(container, legend) {
    this.container = container;
    this.legend = legend;
    this.chart = createChart(container, {
      autoSize: true,
      layout: { attributionLogo: false, fontSize: 11 }, // the logo brings an inline style; the footer attributes
      crosshair: { mode: CrosshairMode.Magnet },
      rightPriceScale: { borderVisible: false },
      timeScale: {
        borderVisible: false, secondsVisible: true, timeVisible: true, rightOffset: 4, minBarSpacing: 0.1,
        tickMarkFormatter: (time) => minute.format(new Date(time * 1000)),
      },
      localization: { timeFormatter: (time) => clock.format(new Date(time * 1000)) },
      handleScroll: { vertTouchDrag: false },
    });
    const line = { lineWidth: 1, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false };
    this.high = this.chart.addSeries(LineSeries, line, 0);
    this.low = this.chart.addSeries(LineSeries, line, 0);
    this.vwap = this.chart.addSeries(LineSeries, { ...line, lineStyle: LineStyle.Dashed, lineWidth: 1.5 }, 0);
    this.price = this.chart.addSeries(LineSeries, { lineWidth: 2, priceLineStyle: LineStyle.Dotted }, 0);
    this.volatility = this.chart.addSeries(
      LineSeries, { ...line, lineWidth: 1.5, lastValueVisible: true, priceFormat: { type: 'custom', minMove: 0.0001, formatter: volatility } }, 1,
    );
    this.flow = this.chart.addSeries(
      HistogramSeries, { priceLineVisible: false, lastValueVisible: false, priceFormat: { type: 'custom', minMove: 0.01, formatter: mood } }, 2,
    );
    this.flow.applyOptions({ autoscaleInfoProvider: () => ({ priceRange: { minValue: -1, maxValue: 1 } }) });
    this.band = new Band();
    this.price.attachPrimitive(this.band);
    this.markers = createSeriesMarkers(this.price, []);
    this.chart.panes().forEach((pane, index) => pane.setStretchFactor([6, 2, 2][index]));
    this.points = [];
    this.chart.subscribeCrosshairMove((moved) => this.point(moved));
    onPalette(() => this.dress());
    this.dress();
  }

  /** Take the palette's colours. */
  dress() {
    const { panel, line, dim, accent, warn, up } = colours();
    this.chart.applyOptions({
      layout: { background: { color: panel }, textColor: dim, panes: { separatorColor: line, enableResize: false }, fontFamily: getComputedStyle(document.body).fontFamily },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      crosshair: { vertLine: { labelBackgroundColor: dim }, horzLine: { labelBackgroundColor: dim } },
    });
    this.price.applyOptions({ color: accent });
    this.vwap.applyOptions({ color: warn });
    this.volatility.applyOptions({ color: up });
    for (const series of [this.high, this.low]) series.applyOptions({ color: `${accent}55` });
    if (this.points.length) this.draw(this.points, this.seconds);
  }

  /** Begin with another product or window. */
  clear(decimals) {
    this.points = [];
    this.latest = 0;
    this.decimals = decimals;
    const priceFormat = { type: 'price', precision: decimals, minMove: 10 ** -decimals };
    for (const series of [this.price, this.vwap, this.high, this.low]) series.applyOptions({ priceFormat });
    this.markers.setMarkers([]);
    this.fitted = false;
  }

  /** Draw points (by ascending time) of windows of so many seconds; only those from `stale` on have changed. */
  draw(points, seconds, stale = 0) {
    this.seconds = seconds;
    const first = points.findIndex((point) => point[TIME] >= stale);
    // A few new points are added; many, or an overhang of old ones on the left, and all are drawn anew.
    const whole = !this.points.length || points.length - first > 3 || points[0][TIME] > this.oldest + OVERHANG_SECONDS;
    this.points = points;
    if (whole) this.oldest = points[0][TIME];
    const changed = (whole ? points : points.slice(first)).map((_, index) => this.bar(points, whole ? index : first + index));
    const { up, down } = colours();
    const put = (series, value) => {
      const bars = changed.map(({ time, point, high, low }) => value({ time, point, high, low }));
      if (whole) series.setData(bars);
      else for (const bar of bars) series.update(bar, bar.time < this.latest);
    };
    const at = (time, value) => (value == null ? { time } : { time, value });
    put(this.high, ({ time, high }) => at(time, high));
    put(this.low, ({ time, low }) => at(time, low));
    put(this.vwap, ({ time, point }) => at(time, point[VWAP]));
    put(this.price, ({ time, point }) => at(time, point[PRICE]));
    put(this.volatility, ({ time, point }) => at(time, point[VOLATILITY]));
    put(this.flow, ({ time, point }) => ({ ...at(time, point[IMBALANCE]), color: `${point[IMBALANCE] < 0 ? down : up}99` }));
    if (whole) this.band.points = changed;
    else {
      const kept = this.band.points.findIndex((bar) => bar.time >= changed[0]?.time);
      this.band.points.splice(kept < 0 ? this.band.points.length : kept, Infinity, ...changed);
    }
    this.latest = points[points.length - 1][TIME];
    if (!this.fitted && points.length > 1) {
      this.fitted = true;
      this.chart.timeScale().fitContent();
    }
    this.write(points[points.length - 1]);
  }

  bar(points, index) {
    const point = points[index];
    const from = point[TIME] - this.seconds;
    let [count, sum, squares] = [0, 0, 0];
    for (let at = index; at >= 0 && points[at][TIME] > from; at -= 1) {
      const away = points[at][PRICE] - point[PRICE]; // small numbers keep their digits when squared
      count += 1;
      sum += away;
      squares += away * away;
    }
    const deviation = DEVIATIONS * Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2));
    const vwap = point[VWAP];
    return { time: point[TIME], point, high: vwap == null ? null : vwap + deviation, low: vwap == null ? null : vwap - deviation };
  }

  /** Mark where alerts fired. */
  mark(alerts) {
    const { down, warn } = colours();
    const [first, last] = [this.points[0]?.[TIME], this.points[this.points.length - 1]?.[TIME]];
    const marks = alerts
      .map((alert) => ({
        time: Math.ceil(alert.starts_us / 1e6), position: 'aboveBar', shape: 'arrowDown', size: 1,
        color: alert.severity === 'critical' ? down : warn, text: alert.name,
      }))
      .filter(({ time }) => time >= first && time <= last)
      .sort((one, other) => one.time - other.time);
    this.markers.setMarkers(marks);
  }

  point(moved) {
    const found = moved.time && this.points.find((point) => point[TIME] === moved.time);
    this.hovered = Boolean(found);
    this.write(found || this.points[this.points.length - 1]);
  }

  write(point) {
    if (!point || (this.hovered && point === this.points[this.points.length - 1])) return;
    this.legend({
      time: clock.format(new Date(point[TIME] * 1000)), price: fixed(point[PRICE], this.decimals), vwap: fixed(point[VWAP], this.decimals),
      volatility: volatility(point[VOLATILITY]), flow: mood(point[IMBALANCE]),
    });
  }
}
